package badgerstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

// What is synced after a commit must be the log that Badger wrote it to, however Badger came to that log. (That a sync of
// it is enough is what the power cuts show, in cmd/anabranch.)
func TestActiveLogIsTheNewest(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	used := make(map[string]bool)
	for opening := range 2 {
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		step := func(what string, do func()) {
			t.Helper()
			do()
			if active := s.active.file.Name(); active != s.newestLog() {
				t.Fatalf("opening %d, %s: %s is synced, and the newest log is %s", opening, what, active, s.newestLog())
			}
			used[s.active.file.Name()] = true
		}
		for i := range 40 {
			step("a commit", func() {
				mustCommit(t, s, func(b *store.Batch) { b.Put(fmt.Appendf(nil, "k%d", i), make([]byte, 900<<10)) })
			})
		}
		step("a large commit and a small one", func() {
			mustCommit(t, s, func(b *store.Batch) {
				for i := range 12 {
					b.Put(fmt.Appendf(nil, "large%d", i), make([]byte, 900<<10))
				}
			})
			mustCommit(t, s, func(b *store.Batch) { b.Put([]byte("small"), nil) })
		})
		step("a compaction", func() {
			if err := s.Compact(); err != nil {
				t.Fatal(err)
			}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(used) < 6 {
		t.Errorf("%d logs came one after the other: the test has tested little", len(used))
	}
}

func TestSyncsAreCounted(t *testing.T) {
	for _, mode := range []SyncMode{SyncAlways, SyncNever} {
		s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "s"), Sync: mode})
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, func(b *store.Batch) { b.Put([]byte("small"), nil) })
		small := s.Usage().Syncs
		mustCommit(t, s, func(b *store.Batch) {
			for i := range 3 {
				b.Put(fmt.Appendf(nil, "large%d", i), make([]byte, 900<<10))
			}
		})
		large := s.Usage().Syncs - small
		if want := map[SyncMode]uint64{SyncAlways: 1, SyncNever: 0}[mode]; small != want {
			t.Errorf("sync %v: %d syncs of a small commit, not %d", mode, small, want)
		}
		if large == 0 { // it is durable at once in each mode
			t.Errorf("sync %v: no sync of a large commit is counted", mode)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFailedSyncMakesTheStoreReadOnly(t *testing.T) {
	s, err := Open(Options{Dir: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, func(b *store.Batch) { b.Put([]byte("first"), []byte("x")) })
	if err := s.active.file.Close(); err != nil { // so that syncing it fails
		t.Fatal(err)
	}
	for range 2 {
		var b store.Batch
		b.Put([]byte("second"), []byte("x"))
		if err := s.Commit(&b); !errors.Is(err, store.ErrReadOnly) {
			t.Errorf("a commit that was not synced ends with %v", err)
		}
	}
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok, err := sn.Get([]byte("second")); ok || err != nil {
		t.Errorf("what was not synced shows: %v, %v", ok, err)
	}
	sn.Close()
	if err := s.Close(); err == nil {
		t.Error("closing says nothing of the failure")
	}
}
