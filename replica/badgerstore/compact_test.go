package badgerstore

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

// load puts n keys with values that do not compress.
func load(t *testing.T, s *Store, name string, n, size int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < n; {
		mustCommit(t, s, func(b *store.Batch) {
			for range 500 {
				value := make([]byte, size)
				for j := range value {
					value[j] = byte(rng.Uint32())
				}
				b.Put(fmt.Appendf(nil, "%s%06d", name, i), value)
				i++
			}
		})
	}
}

// A store from which much was deleted takes hardly more room than one that never had it, also if the deletes are in memory still.
func TestCompactGivesTheRoomOfDeletedKeysBack(t *testing.T) {
	dir := t.TempDir()
	var sizes []int64
	for i, much := range []int{0, 40_000} {
		s, err := openSmall(t, filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		load(t, s, "kept", 10_000, 400)
		load(t, s, "gone", much, 400)
		for k := 0; k < much; {
			mustCommit(t, s, func(b *store.Batch) {
				for range 1000 {
					b.Delete(fmt.Appendf(nil, "gone%06d", k))
					k++
				}
			})
		}
		if err := s.Compact(); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, diskBytes(s.opts.Dir))
		snap, err := s.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for k, err := range snap.Keys(nil, nil) {
			if err != nil || !bytes.HasPrefix(k, []byte("kept")) {
				t.Fatalf("key %q, %v", k, err)
			}
			n++
		}
		snap.Close()
		if n != 10_000 {
			t.Errorf("%d keys are left of 10000", n)
		}
	}
	if ratio := float64(sizes[1]) / float64(sizes[0]); ratio > 1.2 {
		t.Errorf("it takes %.2f times the room: %v bytes", ratio, sizes)
	}
}

func TestCompactedStoreOpensAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := openSmall(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, func(b *store.Batch) { b.Put([]byte("k"), []byte("v")) })
	if err := s.Compact(); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, func(b *store.Batch) { b.Delete([]byte("k")) })
	last := s.lastTs.Load()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Compact(); err == nil {
		t.Error("a closed store was compacted")
	}
	if s, err = openSmall(t, dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, _ := countKeys(t, s); n != 0 || s.lastTs.Load() != last {
		t.Errorf("%d keys at commit %d, want none at %d", n, s.lastTs.Load(), last)
	}
}
