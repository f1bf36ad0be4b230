package docstore

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// own is write for a store that remembers what is its own.
func (n *node) own(at hlc.Time, key, value string) {
	n.t.Helper()
	n.set(at, key, "x", value)
	b := new(store.Batch)
	n.space.Claim(b, n.id, 1)
	n.commit(b)
}

// rebase re-issues what lies beyond a limit, in parts of one transaction, and stops after some of them.
func (n *node) rebase(limit hlc.Time, parts int) (done bool) {
	n.t.Helper()
	x := NewExposure()
	holds, err := n.space.Holds(n.snapshot(), x, limit)
	if err != nil {
		n.t.Fatal(err)
	}
	var clock hlc.Clock
	clock.Observe(limit / 2)
	for i := range holds {
		h := &holds[i]
		if b := n.space.Blockers(x, *h, nil, 1); len(b) > 0 {
			n.t.Fatalf("%+v waits for %+v", h, b)
		}
		if h.Next == 0 {
			h.Next = NextID(h.Root, crdt.ReplicaID(100*limit)+crdt.ReplicaID(i))
		}
		if h.Replica == n.id {
			n.id = h.Next
		}
	}
	for ; parts > 0 && !done; parts-- {
		b := new(store.Batch)
		res, err := n.space.Reissue(n.snapshot(), b, holds, &clock, limit/2, 1, 1)
		if err != nil {
			n.t.Fatal(err)
		}
		n.commit(b)
		n.verify()
		done = res.Done
	}
	n.reload()
	return done
}

// A crash breaks a rebase off, the store goes on under the new ID, with times that are in the future still, and is then rebased to the end.
func TestRebaseThatWasBrokenOffGoesOn(t *testing.T) {
	for parts := range 4 {
		a, b := newNode(t, 1), newNode(t, 2)
		for i := range 5 {
			a.own(hlc.Time(1000+i), fmt.Sprint("d", i), fmt.Sprint(i))
		}
		if a.rebase(100, parts) {
			t.Fatalf("%d parts were enough", parts)
		}
		a.own(1010, "d0", "later")
		a.rebase(200, 1)
		a.own(1020, "d1", "last")
		if !a.rebase(300, 100) {
			t.Fatal("it does not come to an end")
		}
		if m := a.space.Horizon().Max(); m >= 300 || !a.space.IsClosed() {
			t.Errorf("it names %s at %s", a.space.Horizon(), m)
		}
		b.pull(a)
		equal(t, a, b)
		for r, own := range a.space.Owned() {
			if own.Next != 0 {
				t.Errorf("%s is still being re-issued", r)
			}
		}
	}
}

// By the time that it goes on, what is left has become sound. Half of a history under one name and half under another would tell of writes
// without what replaced them.
func TestRebaseThatWasBrokenOffTakesAllThatIsLeft(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.own(50, "old", "sound")
	for i := range 4 {
		a.own(hlc.Time(1000+i), fmt.Sprint("d", i%3), fmt.Sprint(i))
	}
	if a.rebase(100, 1) {
		t.Fatal("one part was enough")
	}
	if !a.rebase(5000, 100) {
		t.Fatal("it does not come to an end")
	}
	if last := a.space.VV().Get(1); last != 50 {
		t.Errorf("the last that has its old name is of %s, want 50", last)
	}
	b.pull(a)
	equal(t, a, b)
}

// Damage may leave entries of the log that no document has a cell for. A rebase passes them.
func TestRebaseEndsThoughTheLogNamesWhatIsNotThere(t *testing.T) {
	a := newNode(t, 1)
	a.own(1000, "d0", "0")
	a.own(1001, "d1", "1")
	b := new(store.Batch)
	b.Put(logPosition{crdt.Dot{Replica: 1, Time: 1000}, "gone", ""}.pack(1), nil)
	b.Put(logPosition{crdt.Dot{Replica: 1, Time: 1000}, "d1", ""}.pack(1), nil)
	a.commit(b)
	if !a.rebase(100, 10) {
		t.Error("it does not come to an end")
	}
}

// A rebase was broken off that had begun in two spaces, and in one of them the store has written since, with a clock that was still ahead,
// under the ID that it went on as.
func TestHoldsOfSeveralSpacesAreNamedTogether(t *testing.T) {
	drawn := crdt.ReplicaID(0)
	random := func() crdt.ReplicaID { drawn++; return drawn }
	fresh := func(n crdt.ReplicaID) crdt.ReplicaID { return NextID(1, n) }
	for name, c := range map[string]struct {
		spaces [][]Hold // of roots 1
		want   []crdt.ReplicaID
	}{
		"none has begun":                       {[][]Hold{{{Replica: 1}}, {{Replica: 1}}}, []crdt.ReplicaID{fresh(1), fresh(1)}},
		"one has begun":                        {[][]Hold{{{Replica: 1}}, {{Replica: 1, Next: 7}}}, []crdt.ReplicaID{7, 7}},
		"what it went on as is held elsewhere": {[][]Hold{{{Replica: 1}, {Replica: 7}}, {{Replica: 1, Next: 7}}}, []crdt.ReplicaID{fresh(1), fresh(2), 7}},
	} {
		drawn = 0
		for _, holds := range c.spaces {
			for i := range holds {
				holds[i].Root = 1
			}
		}
		NameHolds(c.spaces, random)
		var got []crdt.ReplicaID
		for _, holds := range c.spaces {
			for _, h := range holds {
				got = append(got, h.Next)
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A client that reads nothing new while a rebase is broken off still names what it had seen by its old dots: those that have a new one by
// then are found, and the others are what they were.
func TestPresentDotOfARebaseThatWasBrokenOff(t *testing.T) {
	a := newNode(t, 1)
	for i := range 3 {
		a.own(hlc.Time(1000+i), fmt.Sprint("d", i), fmt.Sprint(i))
	}
	a.rebase(100, 1)
	for i := range 3 {
		former := crdt.Dot{Replica: 1, Time: hlc.Time(1000 + i)}
		now, err := a.space.PresentDot(a.snapshot(), former)
		if err != nil {
			t.Fatal(err)
		}
		if isReissued := i == 0; (now != former) != isReissued {
			t.Errorf("%s is now %s", former, now)
		}
		stored, _, err := Read(a.snapshot(), a.space.number, fmt.Sprint("d", i))
		if err != nil {
			t.Fatal(err)
		}
		for f := range stored.Document.Fields() {
			if got := f.Cell.Live[0].Dot; got != now {
				t.Errorf("document d%d names %s, and %s leads to %s", i, got, former, now)
			}
		}
	}
}

// What is noted is there after the store is opened again, and a receipt finds what it names through any number of rebases.
func TestNotesOfOwnWritesAreKept(t *testing.T) {
	a := newNode(t, 1)
	a.own(1000, "d", "1")
	b := new(store.Batch)
	peer := [32]byte{7}
	a.space.Hand(b, peer, func(crdt.ReplicaID) hlc.Time { return 50 })
	a.commit(b)
	a.reload()
	if own := a.space.Owned()[1]; own.Life != 1 || own.Root != 1 || own.Handed[peer] != 50 {
		t.Errorf("%+v", own)
	}
	if a.space.Owned().MayTellAll(peer, a.space.VV()) || !a.space.Owned().MayTellAll(peer, crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 50})) {
		t.Error("the note does not say up to where the peer may be told")
	}
	x := NewExposure()
	holds, err := a.space.Holds(a.snapshot(), x, 40)
	if err != nil || len(holds) != 1 || len(a.space.Blockers(x, holds[0], nil, 1)) != 1 {
		t.Fatalf("%+v %v", holds, err)
	}
	x.Heard(peer, protocol.Vectors{})
	if blocked := a.space.Blockers(x, holds[0], nil, 1); len(blocked) != 0 {
		t.Errorf("the peer has said that it has nothing: %+v", blocked)
	}
	x.Handed(peer, crdt.Dot{Replica: 1, Time: 1000})
	if blocked := a.space.Blockers(x, holds[0], nil, 1); len(blocked) != 1 || !blocked[0].Restart {
		t.Errorf("and was handed it since: %+v", blocked)
	}
	first := crdt.Dot{Replica: 1, Time: 1000}
	c := newNode(t, 1)
	c.own(1000, "d", "1")
	c.rebase(100, 9)
	second := c.space.Renamings().Present(first)
	c.own(2000, "d", "2")
	c.rebase(200, 9)
	last := c.space.Renamings().Present(first)
	if second == first || second.Time >= 100 || last == second || last.Time >= 200 || !c.space.VV().Covers(last) {
		t.Errorf("%s became %s, and %s", first, second, last)
	}
}
