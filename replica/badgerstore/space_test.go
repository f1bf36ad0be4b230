package badgerstore_test

import (
	"errors"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

func TestCommitsStopBelowTheFloorAndResume(t *testing.T) {
	o := small(newDir(t))
	o.MinFreeBytes = 100 << 20
	s := open(t, o)
	c := contents{}
	c.commit(t, s, map[string]string{"a": "1"})
	s.SetFree(50 << 20)
	var b store.Batch
	b.Put([]byte("a"), []byte("2"))
	for range 3 {
		if err := s.Commit(&b); !errors.Is(err, store.ErrNoSpace) {
			t.Errorf("commit: %v", err)
		}
	}
	if err := c.check(s); err != nil {
		t.Errorf("reading: %v", err)
	}
	s.SetFree(200 << 20)
	c.commit(t, s, map[string]string{"a": "3"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, o.Dir, c); err != nil {
		t.Error(err)
	}
}

func TestOpenBelowTheFloorIsRefused(t *testing.T) {
	o := small(newDir(t))
	open(t, o).Close()
	o.MinFreeBytes = 1 << 60
	wantOpenError(t, o, store.ErrNoSpace, "MiB are free")
	o.MinFreeBytes = 0
	open(t, o).Close()
}

// With hardly any space left Close must not write: it would die of it.
func TestCloseOnAFullDiskLeavesTheLog(t *testing.T) {
	o := small(newDir(t))
	s := open(t, o)
	c := contents{}
	c.commit(t, s, map[string]string{"a": "1"})
	s.SetFree(1 << 20)
	if err := s.Close(); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("close: %v", err)
	}
	if err := reopen(t, copyDir(t, o.Dir), c); err != nil {
		t.Error(err)
	}
}
