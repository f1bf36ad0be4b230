package replay

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// sharedData finds a folder shared/data beside the checkout, with histories that are not part of it.
func sharedData(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		data := filepath.Join(dir, "shared", "data")
		if _, err := os.Stat(filepath.Join(data, "FORMAT.md")); err == nil {
			return data
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Skip("there is no folder shared/data beside the checkout")
		}
		dir = up
	}
}

func TestRealHistories(t *testing.T) {
	data := sharedData(t)
	for _, c := range []struct {
		name      string
		store     Store
		transport Transport
	}{
		{"icons", MemoryStore, MemoryTransport},
		{"icons", MemoryStore, QUICTransport},
		{"icons", BadgerStore, MemoryTransport},
		{"countries", MemoryStore, MemoryTransport},
		{"countries", MemoryStore, QUICTransport},
		{"countries", BadgerStore, MemoryTransport},
	} {
		t.Run(c.name+" "+string(c.store)+" "+string(c.transport), func(t *testing.T) {
			dir := filepath.Join(data, c.name)
			r, err := Run(context.Background(), Options{
				Trace: filepath.Join(dir, "trace.jsonl.gz"), Final: filepath.Join(dir, "final.json.gz"),
				Store: c.store, Transport: c.transport,
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range r.Findings {
				t.Errorf("%s: %s (%d documents)", f.Where, f.What, f.Documents)
				for _, d := range f.Differences {
					t.Errorf("    %s", d)
				}
			}
			t.Logf("%+v", *r)
			if !r.OK() {
				t.Error("it differs")
			}
		})
	}
}
