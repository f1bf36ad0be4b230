package crdt

import (
	"slices"
	"testing"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// TestJoinOfTwoContentsUnderOneDotIsTheSameOnBothSides: no honest history has that, but damage and a bad peer may.
func TestJoinOfTwoContentsUnderOneDotIsTheSameOnBothSides(t *testing.T) {
	dot := Dot{Replica: 7, Time: 9}
	cell := func(v Value) Cell {
		return Cell{Live: []Entry{{Dot: dot, Stamp: dot.Time, Author: dot.Replica, Value: v}}}
	}
	for _, pair := range [][2]Value{{IntValue(1), IntValue(2)}, {StringValue("b"), StringValue("a")}, {IntValue(1), StringValue("1")}} {
		a, b := NewDocument([]Field{{Path: "p\x00", Cell: cell(pair[0])}}), NewDocument([]Field{{Path: "p\x00", Cell: cell(pair[1])}})
		a.JoinField(VersionVector{}, "p\x00", cell(pair[1]))
		b.JoinField(VersionVector{}, "p\x00", cell(pair[0]))
		if x, y := a.Cell("p\x00"), b.Cell("p\x00"); !x.Equal(y) || len(x.Live) != 1 {
			t.Errorf("%v: one side has %v, the other %v", pair, x, y)
		}
	}
}

// A state that has seen an entry and does not hold it says that it was removed, and not by whom. That is for those alone who have seen as much:
// told to others it would take away what the removal, which they do not know of, took.
func TestRemovedByASnapshotIsNotTold(t *testing.T) {
	entry := func(r ReplicaID, at hlc.Time) Entry {
		return Entry{Dot: Dot{Replica: r, Time: at}, Stamp: at, Author: r, Value: IntValue(5)}
	}
	taken, newer := entry(1, 10), entry(3, 30)
	seen := NewVersionVector(taken.Dot, Dot{Replica: 2, Time: 20})
	both := Cell{Live: []Entry{taken, newer}}
	for name, c := range map[string]struct{ has, lacks, want Cell }{
		"beside another":             {both, Cell{}, Cell{Live: []Entry{newer}}},
		"its removal is named":       {both, Cell{Observed: seen}, Cell{Live: []Entry{newer}, Observed: seen}},
		"nothing else is left":       {Cell{Live: []Entry{taken}}, Cell{}, Cell{Observed: NewVersionVector(taken.Dot)}},
		"nothing but what was named": {Cell{Live: []Entry{taken}}, Cell{Observed: seen}, Cell{Observed: seen}},
	} {
		if got := MergeComplete(c.has, VersionVector{}, c.lacks, seen); !got.Equal(c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got := MergeComplete(c.lacks, seen, c.has, VersionVector{}); !got.Equal(c.want) {
			t.Errorf("%s, the other way round: %+v, want %+v", name, got, c.want)
		}
	}
}

// What is left of it until it is pruned does not get into a write or a merge either.
func TestWhatCouldBePrunedIsNotToldWithWhatIsNew(t *testing.T) {
	const p = PathKey("p\x00")
	stable := NewVersionVector(Dot{Replica: 1, Time: 10}, Dot{Replica: 2, Time: 20})
	left := Cell{Observed: NewVersionVector(Dot{Replica: 1, Time: 10})}
	ev := EventAt(Dot{Replica: 3, Time: 30})
	want := Cell{Live: []Entry{{Dot: ev.Dot, Stamp: ev.Stamp, Author: ev.Author, Value: IntValue(5)}}}
	for name, change := range map[string]func(*Document){
		"a write":         func(d *Document) { d.Set(ev, p, IntValue(5)); d.Forget(stable) },
		"a merge":         func(d *Document) { d.MergeField(stable, p, want) },
		"a piece":         func(d *Document) { d.MergeComplete(p, stable, want, NewVersionVector(ev.Dot), stable) },
		"a repair":        func(d *Document) { d.JoinField(stable, p, want) },
		"a write undone":  func(d *Document) { d.Set(ev, p, IntValue(5)); d.Remove(ev, p); d.Forget(stable) },
		"what it has got": func(d *Document) { d.MergeField(stable, p, left) },
	} {
		d := NewDocument([]Field{{Path: p, Cell: left}})
		change(d)
		if n := len(slices.Collect(d.Changes())); n == 0 {
			if !d.Cell(p).Equal(left) || name != "a write undone" && name != "what it has got" {
				t.Errorf("%s: nothing changes, and %+v is left", name, d.Cell(p))
			}
			continue
		}
		if got := d.Cell(p); !got.Equal(want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}
