package storetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

func testClosed(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1"))
	sn := snapshot(t, s)
	if err := s.Sync(); err != nil {
		t.Errorf("sync: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	wantError(t, "commit", s.Commit(pairs("a=2")), store.ErrClosed)
	wantError(t, "sync", s.Sync(), store.ErrClosed)
	_, err := s.Snapshot()
	wantError(t, "snapshot", err, store.ErrClosed)
	_, _, err = sn.Get([]byte("a"))
	wantError(t, "get", err, store.ErrClosed)
	steps := 0
	for _, err := range sn.Scan(nil, nil) {
		wantError(t, "scan", err, store.ErrClosed)
		steps++
	}
	for _, err := range sn.Keys(nil, nil) {
		wantError(t, "keys", err, store.ErrClosed)
		steps++
	}
	wantEqual(t, "steps of two scans, each with an error", steps, 2)
	s.Usage()
	sn.Close()
	sn.Close()
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func testCloseDuringScan(t *testing.T, s store.Store) {
	for i := range 20 {
		commit(t, s, pairs(fmt.Sprintf("k%02d=v", i)))
	}
	sn := snapshot(t, s)
	var seen int
	var last error
	for e, err := range sn.Scan(nil, nil) {
		if err != nil {
			last = err
			continue
		}
		if seen++; seen == 5 {
			key := string(e.Key)
			if err := s.Close(); err != nil {
				t.Fatalf("close: %v", err)
			}
			wantEqual(t, "the key of this step, after close", string(e.Key), key)
		}
	}
	wantEqual(t, "steps before the error", seen, 5)
	wantError(t, "the step after close", last, store.ErrClosed)
}

func testUsage(t *testing.T, s store.Store) {
	rng := rand.New(rand.NewPCG(3, 4))
	value := make([]byte, 100<<10)
	for i := range value {
		value[i] = byte(rng.Uint32()) // so that no compression hides it
	}
	var b store.Batch
	for i := range 10 {
		b.Put(fmt.Appendf(nil, "k%d", i), value)
	}
	commit(t, s, &b)
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	if n := s.Usage().DiskBytes; n < 1000<<10 || n > 100<<20 {
		t.Errorf("usage with 1 MB in it: %d", n)
	}
}

func testReopen(t *testing.T, reopen func() store.Store) {
	s := reopen()
	want := []string{}
	for i := range 5 {
		commit(t, s, pairs(fmt.Sprintf("k%d=%d", i, i), "again="+fmt.Sprint(i), "empty="))
		want = append(want, fmt.Sprintf("k%d=%d", i, i))
		s = reopen()
		got := scan(t, snapshot(t, s), "k", "")
		wantEqual(t, "scan", got, want)
		wantEqual(t, "get", get(t, snapshot(t, s), "again"), fmt.Sprint(i))
		wantEqual(t, "get", get(t, snapshot(t, s), "empty"), "")
	}
}

func testReopenDeleted(t *testing.T, reopen func() store.Store) {
	s := reopen()
	commit(t, s, pairs("a=1", "b=1"))
	s = reopen()
	commit(t, s, pairs("-a"))
	commit(t, s, pairs("-b"))
	for range 3 {
		s = reopen()
		wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string(nil))
	}
	commit(t, s, pairs("b=2"))
	s = reopen()
	wantEqual(t, "scan", scan(t, snapshot(t, s), "", ""), []string{"b=2"})
}

func testReopenLarge(t *testing.T, reopen func() store.Store) {
	s := reopen()
	value := bytes.Repeat([]byte("v"), 256<<10)
	var b store.Batch
	for i := range 40 {
		b.Put(fmt.Appendf(nil, "k%02d", i), value)
	}
	commit(t, s, &b)
	s = reopen()
	checkBatch(t, s, &b)
	commit(t, s, pairs("k00=small"))
	s = reopen()
	wantEqual(t, "get", get(t, snapshot(t, s), "k00"), "small")
	wantEqual(t, "number of keys", count(t, snapshot(t, s)), b.Len())
}

func testReopenModel(t *testing.T, reopen func() store.Store) {
	rng := rand.New(rand.NewPCG(5, 6))
	m := model{}
	s := reopen()
	for range 12 {
		for range rng.IntN(8) {
			m.step(t, s, rng)
		}
		s = reopen()
		wantEqual(t, "everything", scan(t, snapshot(t, s), "", ""), m.scan("", ""))
	}
}
