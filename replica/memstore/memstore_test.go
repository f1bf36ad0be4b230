package memstore_test

import (
	"errors"
	"testing"

	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
	"github.com/anabranch-db/anabranch/replica/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return memstore.New() })
}

func put(t *testing.T, s *memstore.Store, key, value string) {
	t.Helper()
	if err := set(s, key, value); err != nil {
		t.Fatal(err)
	}
}

func set(s *memstore.Store, key, value string) error {
	var b store.Batch
	b.Put([]byte(key), []byte(value))
	return s.Commit(&b)
}

func get(t *testing.T, s *memstore.Store, key string) string {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	value, _, err := sn.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(value)
}

func TestCloneIsIndependent(t *testing.T) {
	s := memstore.New()
	put(t, s, "a", "1")
	backup := s.Clone()
	put(t, s, "a", "2")
	put(t, backup, "b", "3")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reopened := s.Clone()
	for _, c := range []struct {
		s         *memstore.Store
		key, want string
	}{{backup, "a", "1"}, {backup, "b", "3"}, {reopened, "a", "2"}, {reopened, "b", ""}} {
		if got := get(t, c.s, c.key); got != c.want {
			t.Errorf("%s is %q, want %q", c.key, got, c.want)
		}
	}
}

func TestFailedCommitChangesNothing(t *testing.T) {
	s := memstore.New()
	put(t, s, "a", "1")
	full := errors.New("disk full")
	s.FailCommits(full)
	for range 2 {
		if err := set(s, "a", "2"); !errors.Is(err, full) {
			t.Errorf("got error %v", err)
		}
	}
	if got := get(t, s, "a"); got != "1" {
		t.Errorf("a is %q after a failed commit", got)
	}
	s.FailCommits(nil)
	put(t, s, "a", "3")
	if got := get(t, s, "a"); got != "3" {
		t.Errorf("a is %q", got)
	}
}
