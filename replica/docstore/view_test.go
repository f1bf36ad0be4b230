package docstore

import (
	"errors"
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

// countingReader counts what is read.
type countingReader struct {
	Reader
	reads int
}

func (r *countingReader) Get(key []byte) ([]byte, bool, error) {
	r.reads++
	return r.Reader.Get(key)
}

// Of a large document only what is asked for is read, and what is streamed is read as it is taken.
func TestPartsOfALargeDocumentAreReadAsTheyAreNeeded(t *testing.T) {
	a := newNode(t, 1)
	a.populate(0)
	whole, _, err := Read(a.snapshot(), 1, "large")
	if err != nil {
		t.Fatal(err)
	}
	parts, _, err := readDirectory(a.snapshot(), 1, "large")
	if err != nil || len(parts) < 10 {
		t.Fatalf("%d chunks, %v", len(parts), err)
	}
	r := &countingReader{Reader: a.snapshot()}
	n, half := 0, 0
	for l, err := range Leaves(r, 1, "large") {
		if err != nil {
			t.Fatal(err)
		}
		if want, ok := whole.Document.Get(l.Path.Path()); !ok || want != l.Value.Any() {
			t.Errorf("at %s it shows %v, want %v", l.Path, l.Value, want)
		}
		if n++; n == 150 {
			half = r.reads
		}
	}
	if n != 300 || half > r.reads*2/3 {
		t.Errorf("%d leaves, %d reads for the first half of %d", n, half, r.reads)
	}
	r.reads = 0
	path := crdt.Path{"field0150"}
	part, ok, err := ReadPart(r, 1, "large", mustPack(t, path))
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, _ := part.Document.Get(path)
	if want, _ := whole.Document.Get(path); got != want || r.reads > 4 { // the record, the directory, the chunk, and the one of a value above
		t.Errorf("%v in %d reads, want %v", got, r.reads, want)
	}
	for l, err := range Leaves(r, 1, "none") {
		t.Errorf("a document that is not there shows %v, %v", l, err)
	}
	a.alter(a.chunkOf("large", 5), flipAByte)
	var failed error
	for _, failed = range Leaves(a.snapshot(), 1, "large") {
		if failed != nil {
			break
		}
	}
	if !errors.Is(failed, ErrCorrupt) {
		t.Errorf("a damaged chunk: %v", failed)
	}
}
