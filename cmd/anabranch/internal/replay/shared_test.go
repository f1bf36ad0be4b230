package replay

import (
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

// TestRealHistories replays histories of real data sets. Those that take minutes are left out, unless
// ANABRANCH_REPLAY=all is set.
func TestRealHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes a minute")
	}
	data := sharedData(t)
	for _, c := range []struct {
		name      string
		store     Store
		transport Transport
		lines     int // 0: all, which takes minutes for countries
	}{
		{"icons", MemoryStore, MemoryTransport, 0},
		{"icons", MemoryStore, QUICTransport, 0},
		{"icons", BadgerStore, MemoryTransport, 0},
		{"countries", MemoryStore, MemoryTransport, 100},
		{"countries", BadgerStore, QUICTransport, 50},
		{"countries", MemoryStore, MemoryTransport, 0},
		{"countries", MemoryStore, QUICTransport, 0},
		{"countries", BadgerStore, MemoryTransport, 0},
		{"countries", BadgerStore, QUICTransport, 0},
	} {
		t.Run(c.name+" "+string(c.store)+" "+string(c.transport), func(t *testing.T) {
			if all := os.Getenv("ANABRANCH_REPLAY") == "all"; c.name == "countries" && all == (c.lines > 0) {
				t.Skip("the whole history is replayed with ANABRANCH_REPLAY=all, and a part of it without")
			}
			dir := filepath.Join(data, c.name)
			o := Options{Trace: filepath.Join(dir, "trace.jsonl.gz"), Store: c.store, Transport: c.transport, most: c.lines}
			if c.lines == 0 {
				o.Final = filepath.Join(dir, "final.json.gz")
			}
			r, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			reportFindings(t, r)
			t.Logf("%d lines, %d replicas and %d helpers, %d syncs, %d bytes, %d conflicts, %s: %d documents, %d fields",
				r.Lines, r.Replicas, r.Keepers+r.Couriers, r.Syncs, r.Bytes, r.Conflicts, r.Took, r.Documents, r.Fields)
			if !r.OK() {
				t.Error("it is not what the history says")
			}
		})
	}
}

func reportFindings(t *testing.T, r *Result) {
	t.Helper()
	for _, f := range r.Findings {
		t.Errorf("%s: %s (%d documents)", f.Where, f.What, f.Documents)
		for _, d := range f.Differences {
			t.Errorf("    %s", d)
		}
	}
}
