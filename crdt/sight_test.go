package crdt_test

import (
	"slices"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

const sightClient crdt.ReplicaID = 0xc11e47

// sightCase is a cell at /a before a client's transaction, and what that does there.
type sightCase struct {
	live []crdt.Entry
	seen []crdt.Dot
	do   func(d *crdt.Document, ev crdt.Event, s *crdt.Sight, p crdt.PathKey) error
	// of the cell afterwards
	wantLive     []crdt.Entry
	wantObserved crdt.VersionVector
	keeps        bool // an entry of replica 1
}

func sightEntry(r crdt.ReplicaID, t hlc.Time, author crdt.ReplicaID, v crdt.Value) crdt.Entry {
	return crdt.Entry{Dot: crdt.Dot{Replica: r, Time: t}, Stamp: t, Author: author, Value: v}
}

// TestOnlyWhatWasSeenGoes makes transactions of a client as (1, 100), at stamp 90.
func TestOnlyWhatWasSeenGoes(t *testing.T) {
	one, two, three := crdt.IntValue(1), crdt.IntValue(2), crdt.CounterValue(3)
	ours := crdt.Entry{Dot: crdt.Dot{Replica: 1, Time: 100}, Stamp: 90, Author: sightClient, Value: two}
	dot := func(r crdt.ReplicaID, t hlc.Time) crdt.Dot { return crdt.Dot{Replica: r, Time: t} }
	set := func(d *crdt.Document, ev crdt.Event, s *crdt.Sight, p crdt.PathKey) error {
		d.SetLeavesSeen(ev, s, p, []crdt.Leaf{{Path: p, Value: two}})
		return nil
	}
	remove := func(d *crdt.Document, ev crdt.Event, s *crdt.Sight, p crdt.PathKey) error {
		d.RemoveSeen(ev, s, p)
		return nil
	}
	increment := func(d *crdt.Document, ev crdt.Event, s *crdt.Sight, p crdt.PathKey) error {
		return d.IncrementSeen(ev, s, p, 4)
	}
	both := func(first, second func(*crdt.Document, crdt.Event, *crdt.Sight, crdt.PathKey) error) func(*crdt.Document, crdt.Event, *crdt.Sight, crdt.PathKey) error {
		return func(d *crdt.Document, ev crdt.Event, s *crdt.Sight, p crdt.PathKey) error {
			if err := first(d, ev, s, p); err != nil {
				return err
			}
			return second(d, ev, s, p)
		}
	}
	counted := func(n int64, stamp hlc.Time, author crdt.ReplicaID) crdt.Entry {
		return crdt.Entry{Dot: ours.Dot, Stamp: stamp, Author: author, Value: crdt.CounterValue(n)}
	}
	for name, c := range map[string]sightCase{
		"a set replaces what was seen": {
			live: []crdt.Entry{sightEntry(2, 50, 2, one)}, seen: []crdt.Dot{dot(2, 50)}, do: set,
			wantLive: []crdt.Entry{ours}, wantObserved: crdt.NewVersionVector(dot(2, 50)),
		},
		"a set leaves a sibling that was not seen": {
			live: []crdt.Entry{sightEntry(2, 50, 2, one)}, seen: []crdt.Dot{dot(2, 40)}, do: set,
			wantLive: []crdt.Entry{ours, sightEntry(2, 50, 2, one)},
		},
		"the client has seen what it wrote itself": {
			live: []crdt.Entry{sightEntry(2, 90, sightClient, one)}, do: set,
			wantLive: []crdt.Entry{ours}, wantObserved: crdt.NewVersionVector(dot(2, 90)),
		},
		"but not what it wrote later elsewhere": {
			live: []crdt.Entry{sightEntry(2, 91, sightClient, one)}, do: set,
			wantLive: []crdt.Entry{ours, sightEntry(2, 91, sightClient, one)},
		},
		"what the writer itself has there cannot stay": {
			live: []crdt.Entry{sightEntry(1, 50, 7, one)}, do: set,
			wantLive: []crdt.Entry{ours}, keeps: true,
		},
		"a removal takes what was seen, and remembers itself": {
			live: []crdt.Entry{sightEntry(2, 50, 2, one), sightEntry(3, 60, 3, one)}, seen: []crdt.Dot{dot(3, 60)}, do: remove,
			wantLive: []crdt.Entry{sightEntry(2, 50, 2, one)}, wantObserved: crdt.NewVersionVector(dot(1, 100), dot(3, 60)),
		},
		"a removal of what was not seen is no change": {
			live: []crdt.Entry{sightEntry(1, 50, 7, one)}, do: remove,
			wantLive: []crdt.Entry{sightEntry(1, 50, 7, one)},
		},
		"set and removed in one transaction leaves no trace": {
			live: []crdt.Entry{sightEntry(2, 50, 2, one)}, do: both(set, remove),
			wantLive: []crdt.Entry{sightEntry(2, 50, 2, one)},
		},
		"unless it replaced something": {
			live: []crdt.Entry{sightEntry(2, 50, 2, one)}, seen: []crdt.Dot{dot(2, 50)}, do: both(set, remove),
			wantObserved: crdt.NewVersionVector(dot(1, 100), dot(2, 50)),
		},
		"a new counter is the client's": {
			do: increment, wantLive: []crdt.Entry{counted(4, 90, sightClient)},
		},
		"it adds to its own": {
			live: []crdt.Entry{sightEntry(1, 95, sightClient, three)}, do: increment,
			wantLive: []crdt.Entry{counted(7, 95, sightClient)},
		},
		"it adds to what the home counted for others, and then it is nobody's": {
			live: []crdt.Entry{sightEntry(1, 50, 7, three)}, do: increment,
			wantLive: []crdt.Entry{counted(7, 90, 1)},
		},
		"the parts of other writers stay": {
			live: []crdt.Entry{sightEntry(2, 50, sightClient, three)}, do: increment,
			wantLive: []crdt.Entry{counted(4, 90, sightClient), sightEntry(2, 50, sightClient, three)},
		},
		"it cannot count where the writer has a value that was not seen": {
			live: []crdt.Entry{sightEntry(1, 50, 7, one)}, do: increment,
			wantLive: []crdt.Entry{counted(4, 90, sightClient)}, keeps: true,
		},
		"what others counted does not go with what the client counts and removes": {
			live: []crdt.Entry{sightEntry(1, 50, 7, three)}, do: both(increment, remove),
			wantObserved: crdt.NewVersionVector(dot(1, 100)), keeps: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pack("a")
			d := crdt.NewDocument([]crdt.Field{{Path: p, Cell: crdt.Cell{Live: c.live}}})
			s := crdt.NewSight(sightClient, 90)
			var seen []crdt.SeenDot
			for _, dot := range c.seen {
				seen = append(seen, crdt.SeenDot{Path: p, Dot: dot})
			}
			s.See(seen)
			if err := c.do(d, crdt.Event{Dot: ours.Dot, Stamp: 90, Author: sightClient}, s, p); err != nil {
				t.Fatal(err)
			}
			got := d.Cell(p)
			if !slices.Equal(got.Live, c.wantLive) || !got.Observed.Equal(c.wantObserved) {
				t.Errorf("the cell is %v, want %v %v", got, c.wantLive, c.wantObserved)
			}
			if s.Keeps(1) != c.keeps {
				t.Errorf("an entry of the writer is kept: %v", s.Keeps(1))
			}
		})
	}
}

func TestSeenOneCellOnly(t *testing.T) {
	above, at, below := pack(), pack("a"), pack("a", "b")
	e := sightEntry(2, 50, 2, crdt.IntValue(1))
	fields := func() *crdt.Document {
		var list []crdt.Field
		for _, p := range []crdt.PathKey{above, at, below} {
			list = append(list, crdt.Field{Path: p, Cell: crdt.Cell{Live: []crdt.Entry{e}}})
		}
		return crdt.NewDocument(list)
	}
	for _, seen := range []crdt.PathKey{above, at, below} {
		d, s := fields(), crdt.NewSight(sightClient, 90)
		s.See([]crdt.SeenDot{{Path: seen, Dot: e.Dot}})
		d.SetLeavesSeen(crdt.Event{Dot: crdt.Dot{Replica: 1, Time: 100}, Stamp: 90, Author: sightClient}, s, at, []crdt.Leaf{{Path: at, Value: crdt.IntValue(2)}})
		for _, p := range []crdt.PathKey{above, at, below} {
			if lives := slices.Contains(d.Cell(p).Live, e); lives == (p == seen) {
				t.Errorf("seen at %q: the entry at %q lives: %v", seen, p, lives)
			}
		}
	}
}

func TestLanes(t *testing.T) {
	all := make(map[crdt.ReplicaID]bool)
	for _, self := range []crdt.ReplicaID{1, 2, 0xfeedfacecafebeef} {
		if self.Lane(0) != self {
			t.Errorf("lane 0 of %s is %s", self, self.Lane(0))
		}
		for i := range crdt.MaxLanes {
			l := self.Lane(i)
			if all[l] || l == 0 || !l.IsLaneOf(self) || l.IsLaneOf(self+100) || l.IsLaneOf(0) {
				t.Errorf("lane %d of %s is %s", i, self, l)
			}
			all[l] = true
		}
	}
	// Every program computes them alike, also a peer of another version.
	if got := crdt.ReplicaID(1).Lane(1); got != 0x910a2dec89025cc1 {
		t.Errorf("lane 1 of 1 is %s", got)
	}
}
