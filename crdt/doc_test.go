package crdt_test

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// TestDocumentedExample holds the cells that the package's documentation shows.
func TestDocumentedExample(t *testing.T) {
	const a, b = crdt.ReplicaID(1), crdt.ReplicaID(2)
	a1, b2, a3 := at(a, 1), at(b, 2), at(a, 3)
	live := func(ev crdt.Event, text string) []crdt.Entry {
		return []crdt.Entry{{Dot: ev.Dot, Stamp: ev.Stamp, Author: ev.Author, Value: crdt.StringValue(text)}}
	}
	expect := func(who string, got, want crdt.Cell) {
		t.Helper()
		if !got.Equal(want) {
			t.Errorf("%s: %v, want %v", who, got, want)
		}
	}
	never := crdt.VersionVector{}
	var cellA, cellB crdt.Cell

	cellA.Write(a1, crdt.StringValue("de"))
	expect("A after A1", cellA, crdt.Cell{Live: live(a1, "de")})
	cellB = crdt.Merge(cellB, never, cellA, never)
	expect("B after receiving", cellB, cellA)
	cellB.Remove(b2)
	expect("B after B2", cellB, crdt.Cell{Observed: crdt.NewVersionVector(a1.Dot, b2.Dot)})
	cellA.Write(a3, crdt.StringValue("en"))
	expect("A after A3", cellA, crdt.Cell{Live: live(a3, "en")})

	met := crdt.Cell{Live: live(a3, "en"), Observed: crdt.NewVersionVector(b2.Dot)}
	expect("A after they met", crdt.Merge(cellA, never, cellB, never), met)
	expect("B after they met", crdt.Merge(cellB, never, cellA, never), met)
	met.Prune(crdt.NewVersionVector(a3.Dot, b2.Dot))
	expect("when everybody has all of it", met, crdt.Cell{Live: live(a3, "en")})
}
