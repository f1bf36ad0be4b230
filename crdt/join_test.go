package crdt

import "testing"

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
	entry := Entry{Dot: Dot{Replica: 1, Time: 10}, Stamp: 10, Author: 1, Value: IntValue(5)}
	has := Cell{Live: []Entry{entry}}
	seen := NewVersionVector(Dot{Replica: 1, Time: 10}, Dot{Replica: 2, Time: 20})
	for name, c := range map[string]struct{ lacks, want Cell }{
		"forgotten":  {Cell{}, Cell{}},
		"remembered": {Cell{Observed: seen}, Cell{Observed: seen}},
	} {
		if got := MergeComplete(has, VersionVector{}, c.lacks, seen); !got.Equal(c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got := MergeComplete(c.lacks, seen, has, VersionVector{}); !got.Equal(c.want) {
			t.Errorf("%s, the other way round: %+v, want %+v", name, got, c.want)
		}
	}
}
