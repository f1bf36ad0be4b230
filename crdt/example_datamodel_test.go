package crdt_test

import (
	"fmt"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// The examples here are those of docs/data-model.md: two or three replicas, one document, and times that are small numbers.

// side is one replica's copy of the document.
type side struct {
	*crdt.Document
	id crdt.ReplicaID
}

const (
	idA crdt.ReplicaID = iota + 1
	idB
	idC
)

func newSide(id crdt.ReplicaID) side { return side{crdt.NewDocument(nil), id} }

// at is a transaction of this replica at time t.
func (s side) at(t hlc.Time) crdt.Event { return crdt.EventAt(crdt.Dot{Replica: s.id, Time: t}) }

func (s side) set(t hlc.Time, pointer string, v any) {
	p := packed(pointer)
	leaves, err := crdt.Leaves(p, v)
	if err != nil {
		panic(err)
	}
	s.SetLeaves(s.at(t), p, leaves)
}

func (s side) increment(t hlc.Time, pointer string, n int64) {
	if err := s.Increment(s.at(t), packed(pointer), n); err != nil {
		panic(err)
	}
}

func (s side) receive(from side) {
	for f := range from.Fields() {
		s.MergeField(crdt.VersionVector{}, f.Path, f.Cell)
	}
}

func meet(a, b side) { a.receive(b); b.receive(a) }

func packed(pointer string) crdt.PathKey {
	p, err := crdt.ParsePath(pointer)
	if err != nil {
		panic(err)
	}
	k, err := p.Pack()
	if err != nil {
		panic(err)
	}
	return k
}

func dotText(d crdt.Dot) string { return fmt.Sprintf("%c%d", 'A'+byte(d.Replica)-1, d.Time) }

// show prints what a reader sees, the cells beneath it and the conflicts.
func (s side) show(who string) {
	json, _ := s.MarshalJSON()
	fmt.Printf("%s %s\n", who, json)
	for f := range s.Fields() {
		var live, observed []string
		for _, e := range f.Cell.Live {
			v, _ := e.Value.MarshalJSON()
			live = append(live, dotText(e.Dot)+"="+string(v))
		}
		for d := range f.Cell.Observed.All() {
			observed = append(observed, dotText(d))
		}
		fmt.Printf("  %-8s live [%s] observed [%s]\n", f.Path, strings.Join(live, " "), strings.Join(observed, " "))
	}
	for _, c := range s.Conflicts() {
		v, _ := c.Value.MarshalJSON()
		shown, _ := c.Shown.MarshalJSON()
		fmt.Printf("  conflict at %s: %s by %c, hidden by %s at %s\n", c.Path, v, 'A'+byte(c.Author)-1, shown, c.ShownAt)
	}
}

// A removes a field while B, who has not seen that, writes it again.
func Example_observedRemove() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/name", "Ash")
	b.receive(a)
	a.Remove(a.at(2), packed("/name"))
	a.show("A")
	b.set(3, "/name", "Common ash")
	b.show("B")
	meet(a, b)
	a.show("both")
	fmt.Println("equal:", a.Cell(packed("/name")).Equal(b.Cell(packed("/name"))))
	// Output:
	// A {}
	//   /name    live [] observed [A2]
	// B {"name":"Common ash"}
	//   /name    live [B3="Common ash"] observed [A1]
	// both {"name":"Common ash"}
	//   /name    live [B3="Common ash"] observed [A2]
	// equal: true
}

// Deleting a document removes what its author had seen. A field written meanwhile brings the document back.
func Example_deleteDocument() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "", map[string]any{"name": "Ash", "height": 30})
	b.receive(a)
	a.Remove(a.at(2), packed("")) // Delete
	b.set(3, "/height", 35)
	meet(a, b)
	a.show("both")
	// Output:
	// both {"height":35}
	//   /height  live [B3=35] observed [A2]
	//   /name    live [] observed [A2]
}

// Two replicas write one field concurrently. One value shows, the other stays readable until somebody who has seen it writes.
func Example_siblings() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/price", 3)
	b.receive(a)
	a.set(2, "/price", 4)
	b.set(3, "/price", 5)
	meet(a, b)
	a.show("both")
	a.set(4, "/price", 4) // A looks at 4 and 5, and decides
	b.receive(a)
	b.show("settled")
	// Output:
	// both {"price":5}
	//   /price   live [A2=4 B3=5] observed []
	//   conflict at /price: 4 by A, hidden by 5 at /price
	// settled {"price":4}
	//   /price   live [A4=4] observed [B3]
}

// A writes a text where B, at the same time, builds a map.
func Example_valueAgainstMap() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/name", "Ash")
	b.set(2, "/name", map[string]any{"common": "Ash", "latin": "Fraxinus"})
	meet(a, b)
	a.show("the map is newer")
	a.set(3, "/name", "Ash tree") // seen both: a plain value replaces all that is below
	b.receive(a)
	b.show("settled")
	// Output:
	// the map is newer {"name":{"common":"Ash","latin":"Fraxinus"}}
	//   /name    live [A1="Ash"] observed []
	//   /name/common live [B2="Ash"] observed []
	//   /name/latin live [B2="Fraxinus"] observed []
	//   conflict at /name: "Ash" by A, hidden by {} at /name
	// settled {"name":"Ash tree"}
	//   /name    live [A3="Ash tree"] observed []
	//   /name/common live [] observed [A3 B2]
	//   /name/latin live [] observed [A3 B2]
}

// The same, with the plain value written last: it hides the whole map, and each field of it is a conflict.
func Example_valueHidesMap() {
	a, b := newSide(idA), newSide(idB)
	b.set(1, "/name", map[string]any{"common": "Ash", "latin": "Fraxinus"})
	a.set(2, "/name", "Ash")
	meet(a, b)
	a.show("the value is newer")
	// Output:
	// the value is newer {"name":"Ash"}
	//   /name    live [A2="Ash"] observed []
	//   /name/common live [B1="Ash"] observed []
	//   /name/latin live [B1="Fraxinus"] observed []
	//   conflict at /name/common: "Ash" by B, hidden by "Ash" at /name
	//   conflict at /name/latin: "Fraxinus" by B, hidden by "Ash" at /name
}

// Increments of several writers add up.
func Example_counter() {
	a, b := newSide(idA), newSide(idB)
	a.increment(1, "/visits", 5)
	b.receive(a)
	a.increment(2, "/visits", 2)
	b.increment(3, "/visits", 1)
	meet(a, b)
	a.show("both")
	// Output:
	// both {"visits":8}
	//   /visits  live [A2=7 B3=1] observed []
}

// A counter stands at 5, all of it A's. B removes it while A increments it once more: the removal does not take away what A's sum
// was, for A's new entry, which B had not seen, carries all of it.
func Example_counterRemovedMeanwhile() {
	a, b := newSide(idA), newSide(idB)
	a.increment(1, "/visits", 5)
	b.receive(a)
	b.Remove(b.at(2), packed("/visits"))
	a.increment(3, "/visits", 1)
	meet(a, b)
	a.show("both")
	// Output:
	// both {"visits":6}
	//   /visits  live [A3=6] observed [B2]
}

// One replica counts, another sets the field to a plain number: the newest entry decides which of the two shows.
func Example_counterAgainstValue() {
	a, b, c := newSide(idA), newSide(idB), newSide(idC)
	a.increment(1, "/stock", 5)
	b.set(2, "/stock", 100)
	meet(a, b)
	a.show("the value is newer")
	c.increment(3, "/stock", 1) // C has seen neither
	meet(a, c)
	a.show("the counter is newer")
	// Output:
	// the value is newer {"stock":100}
	//   /stock   live [A1=5 B2=100] observed []
	//   conflict at /stock: 5 by A, hidden by 100 at /stock
	// the counter is newer {"stock":6}
	//   /stock   live [A1=5 B2=100 C3=1] observed []
	//   conflict at /stock: 100 by B, hidden by 6 at /stock
}

// A counter does not go on from a plain number: it is counted from zero, and hides the number.
func Example_counterAfterValue() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/stock", 100)
	b.receive(a)
	b.increment(2, "/stock", 1)
	b.show("B")
	// Output:
	// B {"stock":1}
	//   /stock   live [A1=100 B2=1] observed []
	//   conflict at /stock: 100 by A, hidden by 1 at /stock
}

// Saving a document whole with another number where a counter stands is an increment by the difference.
func Example_replaceCounter() {
	a, b := newSide(idA), newSide(idB)
	a.increment(1, "/visits", 5)
	b.receive(a)
	leaves, _ := crdt.Leaves("", map[string]any{"visits": 7})
	a.Replace(a.at(2), leaves)
	b.increment(3, "/visits", 1)
	meet(a, b)
	a.show("both")
	// Output:
	// both {"visits":8}
	//   /visits  live [A2=7 B3=1] observed []
}

// A map that loses its last field is gone; {} keeps one without fields. Beside fields below it the marker says nothing.
func Example_emptyMap() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/tags", map[string]any{"tree": true})
	a.Remove(a.at(2), packed("/tags/tree"))
	a.show("removed")
	a.set(3, "/tags", map[string]any{})
	a.show("emptied")
	b.set(4, "/tags/wood", true)
	meet(a, b)
	a.show("both")
	// Output:
	// removed {}
	//   /tags/tree live [] observed [A2]
	// emptied {"tags":{}}
	//   /tags    live [A3={}] observed []
	//   /tags/tree live [] observed [A2]
	// both {"tags":{"wood":true}}
	//   /tags    live [A3={}] observed []
	//   /tags/tree live [] observed [A2]
	//   /tags/wood live [B4=true] observed []
}

// Saving a document whole writes only what differs, so the other side's edit of another field survives.
func Example_replace() {
	a, b := newSide(idA), newSide(idB)
	a.set(1, "", map[string]any{"name": "Ash", "height": 30, "native": true})
	b.receive(a)
	leaves, err := crdt.ParseJSON([]byte(`{"name": "Common ash", "height": 30}`))
	if err != nil {
		panic(err)
	}
	a.Replace(a.at(2), leaves)
	b.set(3, "/height", 35)
	meet(a, b)
	a.show("both")
	// Output:
	// both {"height":35,"name":"Common ash"}
	//   /height  live [B3=35] observed [A1]
	//   /name    live [A2="Common ash"] observed []
	//   /native  live [] observed [A2]
}

// A list that several people edit is a map under order keys.
func Example_orderedList() {
	keys, _ := crdt.OrderKeys("", "", 2)
	a, b := newSide(idA), newSide(idB)
	a.set(1, "/list", map[string]any{keys[0]: "flour", keys[1]: "salt"})
	b.receive(a)
	k, _ := crdt.OrderKeyUnique(keys[0], keys[1], 7) // a program draws the last argument at random
	a.set(2, "/list/"+k, "eggs")
	k, _ = crdt.OrderKeyUnique(keys[0], keys[1], 8)
	b.set(3, "/list/"+k, "milk")
	meet(a, b)
	json, _ := b.MarshalJSON()
	fmt.Println(string(json))
	// Output:
	// {"list":{"V0":"flour","V0V000008":"eggs","V0V000009":"milk","V1":"salt"}}
}

// JSON goes in and out without loss, or is refused.
func Example_json() {
	for _, text := range []string{
		`{"n": 9007199254740993, "x": 1.0, "y": 0.1}`,
		`{"icon": {"$bytes": "iVBORw=="}, "$$bytes": "a name"}`,
		`{"list": [1, {"b": 2, "a": {}}], "none": {}}`,
		`{"n": 9223372036854775808}`,
		`{"a": 1, "a": 2}`,
		`[1, 2]`,
	} {
		leaves, err := crdt.ParseJSON([]byte(text))
		if err != nil {
			fmt.Println(err)
			continue
		}
		s := newSide(idA)
		s.SetLeaves(s.at(1), "", leaves)
		json, _ := s.MarshalJSON()
		fmt.Println(string(json))
	}
	// Output:
	// {"n":9007199254740993,"x":1.0,"y":0.1}
	// {"$$bytes":"a name","icon":{"$bytes":"iVBORw=="}}
	// {"list":[1,{"a":{},"b":2}],"none":{}}
	// line 1, byte 6, at "/n": invalid value: integer 9223372036854775808 is beyond 64 bits (-9223372036854775808 to 9223372036854775807): write it as a string, or with a fraction to store the nearest float
	// line 1, byte 9, at "/a": invalid JSON: the name "a" occurs twice in one object
	// line 1, byte 0, at "": invalid JSON: a document must be an object, that is, begin with {
}
