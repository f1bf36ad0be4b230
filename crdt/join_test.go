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
