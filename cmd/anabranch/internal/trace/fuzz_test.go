package trace

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// FuzzReader reads any bytes as a trace: whatever is taken must be within the limits of documents.
func FuzzReader(f *testing.F) {
	files, err := filepath.Glob("../replay/testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		f.Fatalf("no traces: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(good))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := NewReader("fuzz", bytes.NewReader(text))
		if err != nil {
			return
		}
		for {
			l, err := r.Next()
			if err == io.EOF {
				return
			}
			if err != nil {
				return
			}
			if l.Commit == "" || l.Replica == "" || l.Time <= 0 || !isHash(l.State) {
				t.Fatalf("%+v", l)
			}
			for _, o := range l.Ops {
				checkOp(t, o)
			}
		}
	})
}

func checkOp(t *testing.T, o Op) {
	t.Helper()
	packed, err := o.Path.Pack()
	if err != nil || packed != o.At || crdt.CheckKey(o.Key) != nil || o.Kind < Put || o.Kind > Delete {
		t.Fatalf("%+v: %v", o, err)
	}
	if o.Kind != Put {
		return
	}
	again, err := parseLeaf(o.Value.AppendJSON(nil))
	if err != nil || again != o.Value {
		t.Fatalf("%+v is read back as %+v, %v", o.Value, again, err)
	}
}

// FuzzState reads any bytes as a final state.
func FuzzState(f *testing.F) {
	files, err := filepath.Glob("../replay/testdata/*.final.json")
	if err != nil || len(files) == 0 {
		f.Fatalf("no states: %v", err)
	}
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseState(bytes.NewReader(text), 1<<20)
		if err != nil {
			return
		}
		for key, fields := range s {
			if crdt.CheckKey(key) != nil {
				t.Fatalf("key %q", key)
			}
			for p := range fields {
				if err := p.Check(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
