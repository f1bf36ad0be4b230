package docstore

import (
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func TestPartOfAMapShowsInATransactionAsOutside(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	field := func(name string) crdt.PathKey { return mustPack(t, crdt.Path{"m", name}) }
	fill := func(at hlc.Time, name string) {
		a.write(at, func(tx *Transaction) error {
			return tx.SetLeaves("d", field(name), []crdt.Leaf{{Path: field(name), Value: crdt.StringValue(strings.Repeat(name, maxChunkBytes))}})
		})
	}
	fill(10, "x")
	b.set(20, "d", "m", "plain") // later than x and before z
	fill(30, "y")
	fill(40, "z")
	a.pull(b)
	doc, _, err := Read(a.snapshot(), 1, "d")
	if err != nil {
		t.Fatal(err)
	}
	want, ok := doc.Document.Get(crdt.Path{"m", "x"})
	if !ok {
		t.Fatal("the map must show: its last field is newer than the plain value")
	}
	tx := a.space.Begin(a.snapshot(), crdt.EventAt(crdt.Dot{Replica: 1, Time: 50}))
	part, err := tx.View("d", field("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := part.Get(crdt.Path{"m", "x"}); !ok || got != want {
		t.Fatal("the field does not show in a transaction", ok)
	}
}
