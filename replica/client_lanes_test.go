package replica_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
)

func waitSynced(t *testing.T, s *replica.Space, res replica.ClientResult, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.WaitSyncedVector(ctx, res.Receipt.Vector, n); err != nil {
		t.Fatal(err)
	}
}

// both checks that two replicas hold the same in a cell.
func both(t *testing.T, a, b *replica.Space, key, p, want string) {
	t.Helper()
	waitLevel(t, a, b)
	for i, s := range []*replica.Space{a, b} {
		mustVerify(t, s)
		doc, err := s.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, []string{"here", "at the peer"}[i], values(doc.Cell(at(p))), want)
	}
}

// values lists what is live in a cell, sorted.
func values(c crdt.Cell) string {
	var all []string
	for _, e := range c.Live {
		all = append(all, fmt.Sprint(e.Value.Any()))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// TestLanesReachPeers makes transactions of clients that have not seen each other's, some of them in one commit.
func TestLanesReachPeers(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	var all []replica.ClientTransaction
	clients := []*leaf{newLeaf(t, p.sa, 1), newLeaf(t, p.sa, 2), newLeaf(t, p.sa, 3)}
	for range 5 {
		for i, c := range clients {
			all = append(all, c.next(setOp("d", "/f", int64(10*c.seq)+int64(i)), countOp("n", "/n", 1)))
		}
	}
	results, err := p.sa.ApplyClientAll(t.Context(), all)
	if err != nil || len(results) != len(all) {
		t.Fatalf("%d results, error %v", len(results), err)
	}
	waitSynced(t, p.sa, results[len(results)-1], 1)
	both(t, p.sa, p.sb, "d", "/f", "40 41 42")
	both(t, p.sa, p.sb, "n", "/n", "5 5 5") // a part in each lane
	set(t, p.sb, "d", "f", 7)
	both(t, p.sa, p.sb, "d", "/f", "7")
	res := clients[0].do(setOp("d", "/f", 8))
	waitSynced(t, p.sa, res, 1)
	both(t, p.sa, p.sb, "d", "/f", "7 8")
}

// TestRebaseTakesLanesAlong: two clients write one field through a node that is a year ahead, and a third one reads that, and writes once the
// clock is right and all has other names.
func TestRebaseTakesLanesAlong(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	a.clock.set(year)
	sa, sb := a.open(t), b.open(t)
	x, y, z := newLeaf(t, sa, 1), newLeaf(t, sa, 2), newLeaf(t, sa, 3)
	x.do(setOp("d", "/f", 1))
	second := y.do(setOp("d", "/f", 2))
	y.do(countOp("n", "/n", 5))
	counted := x.do(countOp("n", "/n", 6))
	offline := z.next(setOp("d", "/f", 3, readAll(t, sa, "d")...))
	self := a.r.ReplicaID()
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding && len(a.r.Clock().Held) == 1 })
	if sa.SyncedVector(second.Receipt.Vector) != 0 {
		t.Error("held writes count as synced")
	}
	a.clock.set(0)
	waitSynced(t, sa, second, 1)
	waitSynced(t, sa, counted, 1)
	both(t, sa, sb, "d", "/f", "1 2")
	both(t, sa, sb, "n", "/n", "11")
	hasSoundTimes(t, sb)
	if a.r.ReplicaID() == self {
		t.Error("it goes on under the same ID")
	}
	if res := z.give(offline); res.Rejected != nil {
		t.Errorf("%+v", res.Rejected)
	}
	both(t, sa, sb, "d", "/f", "3")
	x.do(setOp("d", "/f", 4))
	both(t, sa, sb, "d", "/f", "3 4")
}

// TestRebaseOfALaneAlone: what the node wrote under its own ID is sound and known to others, only a lane is ahead.
func TestRebaseOfALaneAlone(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	sa := a.open(t)
	b.open(t)
	x, y, z := newLeaf(t, sa, 1), newLeaf(t, sa, 2), newLeaf(t, sa, 3)
	first := x.do(setOp("d", "/f", 1))
	waitSynced(t, sa, y.do(setOp("d", "/f", 2)), 1) // a lane that peers know already
	self := a.r.ReplicaID()
	a.clock.set(year)
	if err := b.r.Close(); err != nil {
		t.Fatal(err)
	}
	b.r = nil
	ahead := y.do(setOp("d", "/f", 3))
	if ahead.Receipt.Dot.Replica == self || first.Receipt.Dot.Replica != self {
		t.Fatalf("it was made under %s, and the ID is %s", ahead.Receipt.Dot.Replica, self)
	}
	sb := b.open(t)
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding && len(a.r.Clock().Held) == 1 })
	a.clock.set(0)
	waitSynced(t, sa, ahead, 1)
	both(t, sa, sb, "d", "/f", "1 3")
	hasSoundTimes(t, sb)
	if a.r.ReplicaID() == self {
		t.Error("it goes on under the same ID, with times that would not grow in the lane")
	}
	z.do(setOp("d", "/f", 4))
	y.do(setOp("d", "/f", 5))
	both(t, sa, sb, "d", "/f", "1 4 5")
}

// TestLostLaneIsNoticed puts a backup back under the same ID. Of that itself nothing was lost, only of a lane; the peer's word on that
// makes the node take another ID, so that no dot of a lane is used twice.
func TestLostLaneIsNoticed(t *testing.T) {
	network := memnet.New(1)
	b := newStation(t, network, "b")
	sb := b.open(t)
	st := memstore.New()
	open := func(st *memstore.Store) *replica.Replica {
		r, err := replica.OpenOn(replica.Config{
			Transport: network.Node("a"), Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}},
		}, st)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	r := open(st)
	sa := space(t, r)
	waitSynced(t, sa, newLeaf(t, sa, 1).do(setOp("d", "/f", 1)), 1)
	backup, self := st.Clone(), r.ReplicaID()
	lost := newLeaf(t, sa, 2).do(setOp("d", "/f", 2))
	if lost.Receipt.Dot.Replica != self.Lane(1) {
		t.Fatalf("%s was made under no lane of %s", lost.Receipt.Dot, self)
	}
	waitSynced(t, sa, lost, 1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(backup)
	defer r.Close()
	sa = space(t, r)
	if r.ReplicaID() != self {
		t.Fatal("the backup has another ID")
	}
	waitLevel(t, sa, sb)
	if r.ReplicaID() == self {
		t.Error("it goes on under the same ID")
	}
	newLeaf(t, sa, 3).do(setOp("d", "/f", 3))
	both(t, sa, sb, "d", "/f", "1 2 3")
	if r.ReplicaID() == self || r.ReplicaID().IsLaneOf(self) {
		t.Errorf("it writes as %s", r.ReplicaID())
	}
}

// TestClientMovesToAnotherHome: what it wrote at the first it has seen at the second, too, and what it sees there is not behind.
func TestClientMovesToAnotherHome(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	c := newLeaf(t, p.sa, 1)
	first := c.do(setOp("d", "/f", 1))
	waitSynced(t, p.sa, first, 1)
	set(t, p.sb, "d", "g", 5)
	c.s = p.sb
	c.do(setOp("d", "/f", 2))
	both(t, p.sa, p.sb, "d", "/f", "2")
	seen := readAll(t, p.sb, "d")
	waitLevel(t, p.sa, p.sb)
	c.s = p.sa
	c.do(removeOp("d", "", seen...))
	waitLevel(t, p.sa, p.sb)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		expect(t, "deleted", entries(t, s, "d", "/f")+entries(t, s, "d", "/g"), "")
	}
}
