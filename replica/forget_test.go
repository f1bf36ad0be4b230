package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// chain opens n replicas of a space, each of which dials the one before.
func chain(t *testing.T, network *memnet.Network, n int, cfg replica.Config) (all []*replica.Replica, spaces []*replica.Space) {
	t.Helper()
	for i := range n {
		c := cfg
		c.Transport = network.Node(fmt.Sprint(i))
		if i > 0 {
			c.Peers = []replica.Peer{{ID: memnet.ID(fmt.Sprint(i - 1)), Addr: fmt.Sprint("mem:", i-1)}}
		}
		r := open(t, c)
		all, spaces = append(all, r), append(spaces, space(t, r))
	}
	return all, spaces
}

// report is what Verify finds, which must be no fault.
func report(t *testing.T, s *replica.Space) replica.VerifyReport {
	t.Helper()
	found, err := s.Verify(t.Context(), replica.VerifyOptions{})
	if err != nil || len(found.Problems) > 0 {
		t.Fatalf("verify: %v, %v", found.Problems, err)
	}
	return found
}

// expectNoTrace: no key is left of any document.
func expectNoTrace(t *testing.T, spaces ...*replica.Space) {
	t.Helper()
	for i, s := range spaces {
		if found := report(t, s); found.Documents != 0 || found.LogEntries != 0 || found.FeedEntries != 0 {
			t.Errorf("replica %d still has %d documents, %d log entries and %d feed entries", i, found.Documents, found.LogEntries, found.FeedEntries)
		}
	}
}

func remove(t *testing.T, s *replica.Space, key string) replica.Receipt {
	t.Helper()
	return update(t, s, func(tx *replica.Tx) { tx.Doc(key).Delete() })
}

// pass lets a long time go by, in virtual time.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestWhatAllMembersKnowToBeDeletedLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, spaces := chain(t, memnet.New(1), 4, replica.Config{})
		for i := range 300 {
			set(t, spaces[i%4], fmt.Sprint(i), "x", i)
		}
		waitLevel(t, spaces...)
		for i := range 300 {
			remove(t, spaces[3], fmt.Sprint(i))
		}
		waitLevel(t, spaces...)
		if found := report(t, spaces[0]); found.Documents != 300 {
			t.Errorf("%d deleted documents are left before PruneDelay is over", found.Documents)
		}
		pass(5 * time.Minute)
		expectNoTrace(t, spaces...)
		if st := spaces[0].Summary(); !st.Stable.Equal(st.Vector) {
			t.Errorf("stable is %s and the vector %s", st.Stable, st.Vector)
		}
		set(t, spaces[1], "again", "x", 1)
		waitLevel(t, spaces...)
	})
}

func TestMemberThatIsAwayHoldsPruningBackUntilMaxOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, spaces := chain(t, memnet.New(1), 3, replica.Config{MaxOffline: 24 * time.Hour})
		set(t, spaces[0], "d", "x", 1)
		waitLevel(t, spaces...)
		pass(time.Minute) // all hear of all
		if err := all[2].Close(); err != nil {
			t.Fatal(err)
		}
		left := time.Now()
		pass(time.Minute)
		remove(t, spaces[0], "d")
		pass(23 * time.Hour)
		if found := report(t, spaces[0]); found.Documents != 1 {
			t.Errorf("%d documents are left, though a member has not seen the deletion", found.Documents)
		}
		for _, m := range spaces[0].Members() {
			away := m.Peer == memnet.ID("2")
			if !m.Counts || m.Lacks != away {
				t.Errorf("of a member that is away (%v) it says %+v", away, m)
			}
			if away && (m.Heard.Sub(left).Abs() > 5*time.Minute || m.Connected) {
				t.Errorf("it was heard of at %s, and left at %s", m.Heard, left)
			}
		}
		pass(4 * time.Hour)
		expectNoTrace(t, spaces[:2]...)
		for _, m := range spaces[0].Members() {
			if away := m.Peer == memnet.ID("2"); m.Counts == away {
				t.Errorf("of a member that is away (%v) it says %+v", away, m)
			}
		}
	})
}

func TestEvictedMemberHoldsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, spaces := chain(t, memnet.New(1), 3, replica.Config{PruneDelay: -1})
		set(t, spaces[0], "d", "x", 1)
		waitLevel(t, spaces...)
		pass(time.Minute)
		if err := spaces[1].Evict(memnet.ID("2")); err == nil {
			t.Error("a connected member was evicted")
		}
		if err := spaces[1].Evict(memnet.ID("3")); err == nil {
			t.Error("a member that nobody knows was evicted")
		}
		if err := all[2].Close(); err != nil {
			t.Fatal(err)
		}
		remove(t, spaces[0], "d")
		pass(time.Hour)
		if found := report(t, spaces[1]); found.Documents != 1 {
			t.Errorf("%d documents are left, though a member has not seen the deletion", found.Documents)
		}
		if err := spaces[0].Evict(memnet.ID("2")); err != nil { // the other hears of it
			t.Fatal(err)
		}
		pass(time.Minute)
		expectNoTrace(t, spaces[:2]...)
	})
}

func TestReplicaAlonePrunesWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := space(t, open(t, replica.Config{}))
		set(t, s, "d", "x", 1)
		remove(t, s, "d")
		pass(5 * time.Minute)
		expectNoTrace(t, s)
	})
}

func TestCursorFromBeforeForgottenDeletionsIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := space(t, open(t, replica.Config{}))
		set(t, s, "a", "x", 1)
		set(t, s, "b", "x", 1)
		before := s.Cursor()
		remove(t, s, "b")
		after := s.Cursor()
		set(t, s, "c", "x", 1)
		pass(5 * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, c := range []struct {
			name  string
			since replica.Cursor
			want  error
		}{
			{"before the deletion", before, replica.ErrCursor},
			{"after it", after, context.Canceled},
			{"from the beginning", replica.Cursor{}, context.Canceled},
		} {
			for _, err := range s.Watch(ctx, c.since) {
				if !errors.Is(err, c.want) {
					t.Errorf("%s: %v", c.name, err)
				}
			}
		}
	})
}

// A watcher that goes on is told of each deletion, however slow it is.
func TestPruningWaitsForWatchersOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := space(t, open(t, replica.Config{PruneDelay: -1}))
		const documents = 500
		for i := range documents {
			set(t, s, fmt.Sprintf("%03d", i), "x", 1)
		}
		seen := make(map[string]bool)
		n := 0
		for c, err := range s.Watch(t.Context(), replica.Cursor{}) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == 100 {
				remove(t, s, "000")
				remove(t, s, "499")
			}
			<-time.After(500 * time.Millisecond)
			if seen[c.Key] = c.Document != nil; c.Key == "499" {
				break
			}
		}
		if len(seen) != documents || seen["000"] || seen["499"] {
			t.Errorf("%d documents were seen; of those deleted it says %v and %v", len(seen), seen["000"], seen["499"])
		}
		pass(time.Minute)
		if found := report(t, s); found.Documents != documents-2 {
			t.Errorf("%d documents are left", found.Documents)
		}
	})
}

func TestWatcherThatTakesNothingIsToldThatItMissedSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := space(t, open(t, replica.Config{PruneDelay: -1}))
		for i := range 200 {
			set(t, s, fmt.Sprintf("%03d", i), "x", 1)
		}
		var last error
		for _, err := range s.Watch(t.Context(), replica.Cursor{}) {
			if last = err; err != nil {
				break
			}
			if s.Summary().Documents == 200 {
				remove(t, s, "000")
				pass(10 * time.Minute)
			}
		}
		if !errors.Is(last, replica.ErrCursor) {
			t.Errorf("it ended with %v", last)
		}
	})
}

func TestKnowledgeOfMembersOutlivesARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network, dir := memnet.New(1), t.TempDir()
		cfg := replica.Config{Dir: dir, Transport: network.Node("a"), PruneDelay: -1}
		a := open(t, cfg)
		b := open(t, replica.Config{Transport: network.Node("b"), Peers: []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}})
		sa, sb := space(t, a), space(t, b)
		rc := set(t, sa, "d", "x", 1)
		waitLevel(t, sa, sb)
		pass(time.Minute)
		if err := errors.Join(b.Close(), a.Close()); err != nil {
			t.Fatal(err)
		}
		cfg.Transport = network.Node("a")
		s := space(t, open(t, cfg))
		if m := s.Members(); len(m) != 1 || m[0].Peer != memnet.ID("b") || !m[0].Counts || !m[0].Vector.Covers(rc.Dot) {
			t.Errorf("the members are %+v", m)
		}
		remove(t, s, "d")
		pass(time.Hour)
		if found := report(t, s); found.Documents != 1 {
			t.Errorf("%d documents are left, though a member has not seen the deletion", found.Documents)
		}
	})
}
