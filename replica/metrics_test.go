package replica_test

import (
	"context"
	"errors"
	"testing"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

func metrics(t *testing.T, r *replica.Replica) replica.Metrics {
	t.Helper()
	m, err := r.Metrics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMetricsCountWhatHappens(t *testing.T) {
	p := apart(t, 3) // written on both sides while cut, then met
	if err := p.sa.WaitSynced(t.Context(), set(t, p.sa, "calm", "n", 1), 1); err != nil {
		t.Fatal(err)
	}
	p.network.Cut(p.ida, p.idb)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching := make(chan struct{})
	go func() {
		for _, err := range p.sa.WatchConflicts(ctx) {
			if err != nil {
				return // ctx has ended
			}
			select {
			case watching <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}()
	for range 3 {
		<-watching
	}
	set(t, p.sa, "alone", "n", 1)
	m := metrics(t, p.a)
	if m.Transactions < 5 || m.Deltas == 0 || m.CommitsFailed != 0 {
		t.Errorf("%d transactions, %d deltas, %d failed commits", m.Transactions, m.Deltas, m.CommitsFailed)
	}
	commits := uint64(0)
	for _, n := range m.Commits.Counts {
		commits += n
	}
	if commits == 0 || m.Commits.Sum <= 0 || len(m.Commits.Counts) != len(m.Commits.Bounds)+1 {
		t.Errorf("commits %+v", m.Commits)
	}
	if m.Watchers != 1 {
		t.Errorf("%d watchers, want 1", m.Watchers)
	}
	if len(m.Spaces) != 1 || m.Spaces[0].Conflicts != 3 || len(m.Spaces[0].Lag) != len(m.Spaces[0].Peers) {
		t.Fatalf("spaces %+v", m.Spaces)
	}
	s := m.Spaces[0]
	if len(s.Peers) != 1 || s.Peers[0].Pending != 1 || s.Lag[0] <= 0 || s.Stability.Age <= 0 {
		t.Errorf("the peer lacks %+v, for %v; stable age %v", s.Peers, s.Lag, s.Stability.Age)
	}
	p.network.Heal()
	p.level(t)
}

func check(t *testing.T, r *replica.Replica, name string) replica.Check {
	t.Helper()
	for _, c := range r.Ready(t.Context()) {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no check %q", name)
	return replica.Check{}
}

func TestReadySaysWhyNot(t *testing.T) {
	network := memnet.New(1)
	disk := memstore.New()
	r, err := replica.OpenOn(replica.Config{Transport: network.Node("a"), Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}}}, disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"store", "writable", "commits", "clock", "spaces"} {
		if c := check(t, r, name); !c.OK {
			t.Errorf("%+v", c)
		}
	}
	if c := check(t, r, "peers"); c.OK || !c.Advisory || c.Detail != "0 connected, 1 configured" {
		t.Errorf("%+v", c)
	}
	disk.FailCommits(store.ErrNoSpace)
	if _, err := r.Space("notes"); !errors.Is(err, store.ErrNoSpace) {
		t.Errorf("a space on a disk that is full: %v", err)
	}
	if m := metrics(t, r); m.CommitsFailed == 0 {
		t.Error("a failed commit was not counted")
	}
	disk.FailCommits(nil)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if c := check(t, r, "store"); c.OK || c.Advisory {
		t.Errorf("of a closed replica: %+v", c)
	}
}
