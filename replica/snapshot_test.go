package replica_test

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// fill writes documents and deletes every third of them.
func fill(t *testing.T, s *replica.Space, from, to int) {
	t.Helper()
	for ; from < to; from += 100 {
		update(t, s, func(tx *replica.Tx) {
			for i := from; i < min(from+100, to); i++ {
				tx.Doc(fmt.Sprintf("doc/%06d", i)).Set(crdt.Path{"n"}, i)
			}
		})
	}
	update(t, s, func(tx *replica.Tx) {
		for i := 0; i < to; i += 3 {
			tx.Doc(fmt.Sprintf("doc/%06d", i)).Delete()
		}
	})
}

func forget(t *testing.T, s *replica.Space) {
	t.Helper()
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
}

func TestFreshReplicaJoinsByASnapshotWhatIsForgotten(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	p.network.Cut(p.ida, p.idb)
	fill(t, p.sa, 0, 3000)
	forget(t, p.sa)
	set(t, p.sb, "own", "n", 1)
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		mustVerify(t, s)
		if st := s.Summary(); st.Documents != 2001 || !st.Closed {
			t.Errorf("%d documents, closed: %v", st.Documents, st.Closed)
		}
	}
	if got := show(t, p.sa, "own"); got != "map[n:1]" {
		t.Errorf("what was written meanwhile is %s", got)
	}
}

func TestReplicaThatWasLongGoneKeepsItsWritesAndBringsNothingBack(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	fill(t, p.sa, 0, 500)
	p.level(t)
	p.network.Cut(p.ida, p.idb)
	update(t, p.sa, func(tx *replica.Tx) {
		tx.Doc("doc/000001").Delete()
		tx.Doc("doc/000002").Set(crdt.Path{"n"}, "new")
	})
	set(t, p.sb, "doc/000004", "n", "unsent")
	set(t, p.sb, "doc/000001", "more", "unsent")
	forget(t, p.sa)
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		mustVerify(t, s)
		for key, want := range map[string]string{
			"doc/000001": "map[more:unsent]", "doc/000002": "map[n:new]", "doc/000004": "map[n:unsent]",
		} {
			if got := show(t, s, key); got != want {
				t.Errorf("%s shows %s, want %s", key, got, want)
			}
		}
	}
}
