package wire

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite testdata/wire/v1")

const goldenDir = "../../testdata/wire/v1"

// TestGolden holds the bytes of version 1 still: nodes that are out there speak them.
func TestGolden(t *testing.T) {
	names := map[string]bool{}
	for _, s := range samples() {
		path := filepath.Join(goldenDir, s.name+".hex")
		names[path] = true
		t.Run(s.name, func(t *testing.T) {
			got := must(t, s)
			if *update {
				if err := os.WriteFile(path, []byte(lines(got)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) && s.name != "packed" { // there a compressor has the choice
				t.Errorf("written:\n%swant:\n%s", lines(got), lines(want))
			}
			v, err := parse(want)
			if err != nil || !same(v, s.value) {
				t.Errorf("read %+v, %v, want %+v", v, err, s.value)
			}
		})
	}
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.hex"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !names[f] {
			t.Errorf("%s belongs to no sample", f)
		}
	}
}

func lines(b []byte) string {
	var out strings.Builder
	for ; len(b) > 0; b = b[min(32, len(b)):] {
		out.WriteString(hex.EncodeToString(b[:min(32, len(b))]) + "\n")
	}
	return out.String()
}

func TestRoundTrip(t *testing.T) {
	for _, s := range samples() {
		b := must(t, s)
		v, err := parse(b)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if s.name != "delta" && s.name != "packed" && !reflect.DeepEqual(v, s.value) || !same(v, s.value) {
			t.Errorf("%s: read %+v, want %+v", s.name, v, s.value)
		}
		// A frame is appended, and leaves alone what is there.
		prefix := []byte("prefix")
		if again, err := Marshal(prefix, nil); err == nil || string(again) != "prefix" {
			t.Errorf("Marshal of nothing: %q, %v", again, err)
		}
	}
}
