package docstore

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

func (n *node) conflicted(g Range) string {
	n.t.Helper()
	var list []string
	for c, err := range ConflictedDocuments(n.snapshot(), 1, g) {
		if err != nil {
			n.t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%s:%d", c.Key, c.Conflicts))
	}
	return strings.Join(list, " ")
}

func keepShown(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }

func TestConflictIndex(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	for i, key := range []string{"one", "two", "three", "same"} {
		at := hlc.Time(10 + 10*i)
		a.set(at, key, "field", "a")
		b.set(at+1, key, "field", map[bool]string{true: "a", false: "b"}[key == "same"])
	}
	a.pull(b)
	b.pull(a)
	for _, n := range []*node{a, b} {
		if got := n.conflicted(Range{}); got != "one:1 three:1 two:1" {
			t.Errorf("conflicts in %q", got)
		}
		if c, d := n.space.Conflicts(); c != 3 || d != 3 {
			t.Errorf("%d conflicts in %d documents are counted", c, d)
		}
		n.verify()
	}
	if got := a.conflicted(Range{Prefix: "t"}); got != "three:1 two:1" {
		t.Errorf("below t: %q", got)
	}
	if got := a.conflicted(Range{Prefix: "t", After: "three"}); got != "two:1" {
		t.Errorf("after three: %q", got)
	}

	a.set(100, "one", "field", "settled")
	a.write(101, func(tx *Transaction) error { return tx.Remove("two", "") })
	a.write(102, func(tx *Transaction) error {
		n, more, err := tx.Settle("three", "", keepShown, 0)
		if n != 1 || more {
			t.Errorf("settled %d conflicts, more %v", n, more)
		}
		return err
	})
	b.pull(a)
	for _, n := range []*node{a, b} {
		if got := n.conflicted(Range{}); got != "" {
			t.Errorf("conflicts remain in %q", got)
		}
		if c, d := n.space.Conflicts(); c != 0 || d != 0 {
			t.Errorf("%d conflicts in %d documents are counted", c, d)
		}
		n.reload()
		n.verify()
	}
}

// TestConflictIndexOfLargeDocuments has fields above and below each other in several chunks, and a value in one contradict fields in
// others.
func TestConflictIndexOfLargeDocuments(t *testing.T) {
	crossed := 0
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		nodes := []*node{newNode(t, 1), newNode(t, 2), newNode(t, 3)}
		path := func() crdt.PathKey {
			p := make(crdt.Path, 1+rng.IntN(3))
			for i := range p {
				p[i] = string(rune('a' + rng.IntN(3)))
			}
			return mustPack(t, p)
		}
		value := func() crdt.Value {
			if rng.IntN(6) == 0 {
				return crdt.EmptyMapValue()
			}
			return crdt.StringValue(strings.Repeat("x", 300+rng.IntN(900)))
		}
		for step := range 80 {
			n := nodes[rng.IntN(len(nodes))]
			switch rng.IntN(7) {
			case 0, 1:
				n.pull(nodes[rng.IntN(len(nodes))])
			case 2:
				n.write(hlc.Time(10+step), func(tx *Transaction) error { return tx.Increment("large", path(), 1) })
			case 3:
				n.write(hlc.Time(10+step), func(tx *Transaction) error { return tx.Remove("large", path()) })
			case 4:
				n.write(hlc.Time(10+step), func(tx *Transaction) error {
					_, _, err := tx.Settle("large", path(), keepShown, 0)
					return err
				})
			default:
				n.write(hlc.Time(10+step), func(tx *Transaction) error {
					p := path()
					return tx.SetLeaves("large", p, []crdt.Leaf{{Path: p, Value: value()}})
				})
			}
			if n.verify(); t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
			d, ok, err := Read(n.snapshot(), 1, "large")
			if err != nil {
				t.Fatal(err)
			}
			if ok && slices.ContainsFunc(d.Document.Conflicts(), func(c crdt.Conflict) bool { return c.ShownAt != c.Path }) {
				crossed++
			}
		}
	}
	if crossed < 100 {
		t.Errorf("in %d states only a value contradicted a map", crossed)
	}
}

func TestRepairedConflictIndex(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.set(10, "one", "field", "a")
	b.set(11, "one", "field", "b")
	a.set(12, "two", "field", "a")
	a.pull(b)
	broken := new(store.Batch)
	broken.Delete(conflictKey(1, "one"))
	two := conflictKey(1, "two")
	broken.Put(two, packConflicts(two, 7))
	if err := a.store.Commit(broken); err != nil {
		t.Fatal(err)
	}
	report, err := Verify(t.Context(), a.snapshot(), 1, VerifyOptions{Repair: a.store.Commit})
	if err != nil || len(report.Problems) != 2 {
		t.Fatalf("%v, found %v, want two problems", err, report.Problems)
	}
	a.reload()
	a.verify()
	if got := a.conflicted(Range{}); got != "one:1" {
		t.Errorf("after the repair: %q", got)
	}
}

// TestMetaWithoutConflicts reads what was written before conflicts were counted.
func TestMetaWithoutConflicts(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "one", "field", "a")
	key := spaceKey(kindMeta, 1, 0)
	value, _, err := n.snapshot().Get(key)
	if err != nil {
		t.Fatal(err)
	}
	old := new(store.Batch)
	old.Put(key, seal(key, slices.Clone(value[:4+32])))
	if err := n.store.Commit(old); err != nil {
		t.Fatal(err)
	}
	n.reload()
	if n.space.Documents() != 1 || n.space.Arrival() != 1 {
		t.Errorf("%d documents, arrival %d", n.space.Documents(), n.space.Arrival())
	}
	n.verify()
}

// TestChangeOfAPlainFieldLoadsNothingElse: the conflict index costs a document of many fields no further chunks.
func TestChangeOfAPlainFieldLoadsNothingElse(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	var leaves []crdt.Leaf
	for i := range 2000 {
		leaves = append(leaves, crdt.Leaf{Path: mustPack(t, crdt.Path{"items", fmt.Sprintf("%06d", i)}), Value: crdt.IntValue(int64(i))})
	}
	a.write(10, func(tx *Transaction) error { return tx.SetLeaves("large", "", leaves) })
	b.pull(a)
	p := leaves[1500].Path
	d := b.write(20, func(tx *Transaction) error {
		return tx.SetLeaves("large", p, []crdt.Leaf{{Path: p, Value: crdt.StringValue("changed")}})
	})
	fields := len(d.Documents)
	if fields != 1 {
		t.Fatalf("%d documents changed", fields)
	}
	doc, err := a.space.open(a.snapshot(), "large")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.loadPath(p); err != nil {
		t.Fatal(err)
	}
	doc.doc.MergeField(crdt.VersionVector{}, p, crdt.Cell{Live: []crdt.Entry{{Dot: crdt.Dot{Replica: 1, Time: 30}, Stamp: 30, Author: 1, Value: crdt.IntValue(1)}}})
	if _, err := doc.finish(); err != nil {
		t.Fatal(err)
	}
	loaded := 0
	for _, part := range doc.parts {
		if part.isLoaded() {
			loaded++
		}
	}
	if loaded != 1 || len(doc.parts) < 10 {
		t.Errorf("%d of %d chunks were loaded", loaded, len(doc.parts))
	}
}
