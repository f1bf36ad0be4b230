package badgerstore

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

func mustCommit(t *testing.T, s *Store, fill func(b *store.Batch)) {
	t.Helper()
	var b store.Batch
	fill(&b)
	if err := s.Commit(&b); err != nil {
		t.Fatal(err)
	}
}

// openLayered opens a store with as many tables on the first level as it takes for Badger to compact it.
func openLayered(t *testing.T) (s *Store, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "s")
	for i := 0; ; i++ {
		s, err := openSmall(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if i == 6 {
			return s, dir
		}
		mustCommit(t, s, func(b *store.Batch) { b.Put([]byte("layer"), []byte{byte(i)}) })
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// compact pushes everything through tables, and the tables down to the last level.
func compact(t *testing.T, s *Store) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 1))
	value := make([]byte, 100<<10)
	for i := range 100 { // 10 MB, more than a memtable
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		mustCommit(t, s, func(b *store.Batch) { b.Put(fmt.Appendf(nil, "z%d", i%10), value) })
	}
	if err := s.db.Flatten(1); err != nil {
		t.Fatal(err)
	}
}

func versions(t *testing.T, s *Store, key string) (n int) {
	t.Helper()
	txn := s.db.NewTransactionAt(s.lastTs.Load(), false)
	defer txn.Discard()
	it := txn.NewKeyIterator(engineKey([]byte(key)), badger.IteratorOptions{})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		n++
	}
	return n
}

func TestCompactionKeepsWhatSnapshotsSeeAndNoMore(t *testing.T) {
	s, _ := openLayered(t)
	defer s.Close()
	var snaps []store.Snapshot
	for i := range 4 {
		mustCommit(t, s, func(b *store.Batch) {
			b.Put([]byte("k"), []byte{byte(i)})
			b.Put([]byte("empty"), nil)
			b.Put([]byte("gone"), []byte{byte(i)})
		})
		sn, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		snaps = append(snaps, sn)
	}
	snaps[0].Close()
	mustCommit(t, s, func(b *store.Batch) { b.Delete([]byte("gone")) })
	compact(t, s)
	for i, sn := range snaps[1:] {
		for _, key := range []string{"k", "gone"} {
			if v, ok, err := sn.Get([]byte(key)); err != nil || !ok || v[0] != byte(i+1) {
				t.Errorf("snapshot %d: %s is %v, %v, %v", i+1, key, v, ok, err)
			}
		}
		sn.Close()
	}
	if n := versions(t, s, "k"); n < 3 {
		t.Errorf("%d versions with three snapshots open", n)
	}
	// A compaction that Badger began before the snapshots closed keeps what they saw; those after it need not.
	for range 5 {
		if compact(t, s); versions(t, s, "k") == 1 && versions(t, s, "gone") == 0 {
			break
		}
	}
	if n := versions(t, s, "k"); n != 1 {
		t.Errorf("%d versions are left with no snapshot open", n)
	}
	if n := versions(t, s, "gone"); n != 0 {
		t.Errorf("%d versions of a deleted key are left", n)
	}
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	if v, ok, err := sn.Get([]byte("empty")); err != nil || !ok || len(v) != 0 {
		t.Errorf("the empty value is %v, %v, %v", v, ok, err)
	}
}

// The last commits only delete, and compaction drops the deletes: the count of commits must not go back.
func TestCommitsAreCountedOnAfterDeletesAreGone(t *testing.T) {
	s, dir := openLayered(t)
	var err error
	compact(t, s)
	for i := range 10 {
		mustCommit(t, s, func(b *store.Batch) { b.Delete(fmt.Appendf(nil, "z%d", i)) })
	}
	mustCommit(t, s, func(b *store.Batch) { b.Delete([]byte("layer")) })
	want := s.lastTs.Load()
	for range 3 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = openSmall(t, dir); err != nil {
			t.Fatal(err)
		}
		if err := s.db.Flatten(1); err != nil {
			t.Fatal(err)
		}
		if got := s.lastTs.Load(); got != want {
			t.Errorf("opened at commit %d, closed at %d", got, want)
		}
	}
	if n, _ := countKeys(t, s); n != 0 {
		t.Errorf("%d keys are left", n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}
