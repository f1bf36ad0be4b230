package docstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// node is a space over a memory store that commits each step at once.
type node struct {
	t     *testing.T
	id    crdt.ReplicaID
	store *memstore.Store
	space *Space
}

func newNode(t *testing.T, id crdt.ReplicaID) *node {
	n := &node{t: t, id: id, store: memstore.New()}
	n.reload()
	return n
}

func (n *node) snapshot() store.Snapshot {
	n.t.Helper()
	snap, err := n.store.Snapshot()
	if err != nil {
		n.t.Fatal(err)
	}
	return snap
}

func (n *node) reload() {
	n.t.Helper()
	s, err := Load(n.snapshot(), 1)
	if err != nil {
		n.t.Fatal(err)
	}
	n.space = s
}

func (n *node) commit(b *store.Batch) {
	n.t.Helper()
	n.space.Flush(b)
	if err := n.store.Commit(b); err != nil {
		n.t.Fatal(err)
	}
}

// write runs one transaction and returns its delta.
func (n *node) write(at hlc.Time, fn func(tx *Transaction) error) *crdt.Delta {
	n.t.Helper()
	b := new(store.Batch)
	tx := n.space.Begin(&Overlay{Batch: b, Snapshot: n.snapshot()}, crdt.EventAt(crdt.Dot{Replica: n.id, Time: at}))
	if err := fn(tx); err != nil {
		n.t.Fatal(err)
	}
	d, err := tx.Commit(b)
	if err != nil {
		n.t.Fatal(err)
	}
	n.commit(b)
	return d
}

func (n *node) set(at hlc.Time, key, field, value string) *crdt.Delta {
	n.t.Helper()
	return n.write(at, func(tx *Transaction) error {
		p := mustPack(n.t, crdt.Path{field})
		return tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(value)}})
	})
}

func mustPack(t *testing.T, p crdt.Path) crdt.PathKey {
	t.Helper()
	k, err := p.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func anyTime(hlc.Time) error { return nil }

func (n *node) merge(d *crdt.Delta) error {
	n.t.Helper()
	for {
		b := new(store.Batch)
		m, err := n.space.Merge(&Overlay{Batch: b, Snapshot: n.snapshot()}, b, d, n.id, anyTime)
		if err != nil {
			return err
		}
		n.commit(b)
		if !m.Partial {
			return nil
		}
	}
}

// pull brings n up to what o has, by deltas built from o's log.
func (n *node) pull(o *node) {
	n.t.Helper()
	for d := range o.space.VV().Clone().All() {
		for n.space.VV().Get(d.Replica) < d.Time {
			delta, err := Build(o.snapshot(), 1, d.Replica, n.space.VV().Get(d.Replica), d.Time, n.space.Firm().Get(d.Replica))
			if err != nil {
				n.t.Fatal(err)
			}
			if delta.Size() > 7<<20 {
				n.t.Fatalf("a delta of %d bytes does not fit into a frame", delta.Size())
			}
			if err := n.merge(delta); err != nil {
				n.t.Fatal(err)
			}
		}
	}
}

func (n *node) verify() {
	n.t.Helper()
	r, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{})
	if err != nil {
		n.t.Fatal(err)
	}
	for _, p := range r.Problems {
		n.t.Error(p)
	}
}

func equal(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		n.verify()
		if n.space.Digest() != nodes[0].space.Digest() || !n.space.VV().Equal(nodes[0].space.VV()) {
			t.Fatalf("replicas %s and %s differ", nodes[0].id, n.id)
		}
	}
}

func TestSiblingsOfTheGreatestValueAreStoredAndSent(t *testing.T) {
	const writers = 12
	var nodes []*node
	for i := range writers {
		n := newNode(t, crdt.ReplicaID(i+1))
		big := strings.Repeat(string(rune('a'+i)), crdt.MaxValueBytes-64)
		n.write(1000, func(tx *Transaction) error {
			for _, f := range []string{"x", "y"} {
				p := mustPack(t, crdt.Path{f})
				if err := tx.SetLeaves("doc", p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(big)}}); err != nil {
					return err
				}
			}
			return nil
		})
		nodes = append(nodes, n)
	}
	all := newNode(t, 99)
	for _, n := range nodes {
		all.pull(n)
	}
	late := newNode(t, 100)
	late.pull(all)
	equal(t, all, late)
	doc, ok, err := Read(late.snapshot(), 1, "doc")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if n := len(doc.Document.Conflicts()); n != 2*(writers-1) {
		t.Fatalf("%d conflicts, want %d", n, 2*(writers-1))
	}
	late.set(2000, "doc", "x", "settled")
	all.pull(late)
	equal(t, all, late)
	late.write(3000, func(tx *Transaction) error { return tx.Remove("doc", "") })
	all.pull(late)
	equal(t, all, late)
	segments := 0
	for _, err := range all.snapshot().Keys(spaceKey(kindSegment, 1, 0), after(spaceKey(kindSegment, 1, 0))) {
		if err != nil {
			t.Fatal(err)
		}
		segments++
	}
	if segments != 0 {
		t.Fatalf("%d segments are left of values that are gone", segments)
	}
}

func TestTransactionThatRewritesTooMuchIsRefusedWhole(t *testing.T) {
	n := newNode(t, 1)
	at := hlc.Time(1)
	filler := strings.Repeat("x", maxInlineBytes-100)
	for i := 0; i < crdt.MaxTransactionDocuments; i += 256 {
		at++
		n.write(at, func(tx *Transaction) error {
			for k := range 256 {
				p := mustPack(t, crdt.Path{"filler"})
				if err := tx.SetLeaves(fmt.Sprintf("d%05d", i+k), p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(filler)}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	touch := func(tx *Transaction) error {
		for i := range crdt.MaxTransactionDocuments {
			p := mustPack(t, crdt.Path{"n"})
			if err := tx.SetLeaves(fmt.Sprintf("d%05d", i), p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(1)}}); err != nil {
				return err
			}
		}
		return nil
	}
	n.write(at+1, touch) // the most documents, each as large as one record may be: it fits
	b := new(store.Batch)
	tx := n.space.Begin(&Overlay{Batch: b, Snapshot: n.snapshot()}, crdt.EventAt(crdt.Dot{Replica: 1, Time: at + 2}))
	if err := touch(tx); err != nil {
		t.Fatal(err)
	}
	err := tx.SetLeaves("one more", "", nil)
	if !errors.Is(err, crdt.ErrLimit) {
		t.Fatalf("got %v", err)
	}
	n.verify()
}

func TestDeltaWithAGapIsRefused(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	first := a.set(10, "d", "x", "1")
	second := a.set(20, "d", "x", "2")
	if err := b.merge(second); !errors.Is(err, ErrGap) {
		t.Fatalf("got %v", err)
	}
	for _, d := range []*crdt.Delta{first, second, first, second} {
		if err := b.merge(d); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, a, b)
}

func TestMalformedDeltaChangesNothing(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	good := a.write(10, func(tx *Transaction) error {
		p := mustPack(t, crdt.Path{"x"})
		for _, key := range []string{"a", "b"} {
			if err := tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(1)}}); err != nil {
				return err
			}
		}
		return nil
	})
	before := b.store.Usage()
	for name, spoil := range map[string]func(d *crdt.Delta){
		"cells cut short":        func(d *crdt.Delta) { d.Documents[1].Cells = d.Documents[1].Cells[:5] },
		"no cells":               func(d *crdt.Delta) { d.Documents[1].Cells = nil },
		"key empty":              func(d *crdt.Delta) { d.Documents[0].Key = "" },
		"key too long":           func(d *crdt.Delta) { d.Documents[1].Key = strings.Repeat("k", crdt.MaxKeyBytes+1) },
		"documents out of order": func(d *crdt.Delta) { d.Documents[0], d.Documents[1] = d.Documents[1], d.Documents[0] },
		"document twice":         func(d *crdt.Delta) { d.Documents[1].Key = d.Documents[0].Key },
	} {
		bad := *good
		bad.Documents = append([]crdt.DocumentDelta(nil), good.Documents...)
		spoil(&bad)
		if err := b.merge(&bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if b.space.VV().Len() != 0 || b.store.Usage() != before {
		t.Fatal("a malformed delta changed the space")
	}
}

func TestVerifyFindsAndRepairsWhatDerives(t *testing.T) {
	n := newNode(t, 1)
	for i := range 20 {
		n.set(hlc.Time(10+i), fmt.Sprintf("d%d", i%7), fmt.Sprintf("f%d", i), "v")
	}
	spoiled := new(store.Batch)
	log := logPosition{dot: crdt.Dot{Replica: 1, Time: 25}, key: "d1"}
	spoiled.Delete(log.pack(1))
	spoiled.Put(logPosition{dot: crdt.Dot{Replica: 1, Time: 5}, key: "d2"}.pack(1), nil)
	spoiled.Put(feedKey(1, 3), []byte("d3"))
	spoiled.Delete(feedKey(1, 20))
	n.space.digest.Lo++
	n.space.documents += 2
	n.space.dirty = true
	n.commit(spoiled)
	r, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{Repair: n.store.Commit})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 6 {
		t.Errorf("found %d problems, want 6: %v", len(r.Problems), r.Problems)
	}
	for _, p := range r.Problems {
		if !p.Derived {
			t.Errorf("not derived: %s", p)
		}
	}
	n.reload()
	n.verify()
}

// Log entries of chunks outlive a document that is made anew in one record: they would be wrong once it is in chunks again.
func TestVerifyDropsLogEntriesOfFormerChunks(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "a", "x", "1")
	b := new(store.Batch)
	b.Put(logPosition{crdt.Dot{Replica: 1, Time: 10}, "a", mustPack(t, crdt.Path{"w"})}.pack(1), nil)
	n.commit(b)
	r, err := Verify(t.Context(), n.snapshot(), 1, VerifyOptions{Repair: n.store.Commit})
	if err != nil || len(r.Problems) != 1 {
		t.Errorf("%v, %v: want one problem", err, r.Problems)
	}
	n.reload()
	for i := range 10 {
		n.set(hlc.Time(20+i), "a", fmt.Sprint(i), strings.Repeat("v", 1000))
	}
	n.verify()
	if _, err := Build(n.snapshot(), 1, 1, 0, 10, 0); err != nil {
		t.Error(err)
	}
}

func TestVerifyReportsADamagedRecordAndKeepsItsIndexes(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "a", "x", "1")
	n.set(11, "b", "x", "1")
	b := new(store.Batch)
	value, _, _ := n.snapshot().Get(documentKey(1, "a"))
	value = append([]byte(nil), value...)
	value[len(value)-1] ^= 1
	b.Put(documentKey(1, "a"), value)
	if err := n.store.Commit(b); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(n.snapshot(), 1, "a"); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("got %v", err)
	}
	r, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) == 0 || r.Problems[0].Derived || !strings.Contains(r.Problems[0].Where, `"a"`) {
		t.Fatalf("problems: %v", r.Problems)
	}
}

func TestOneFieldOfALargeDocumentRewritesOneChunk(t *testing.T) {
	n := newNode(t, 1)
	n.write(10, func(tx *Transaction) error {
		var leaves []crdt.Leaf
		for i := range 10_000 {
			leaves = append(leaves, crdt.Leaf{Path: mustPack(t, crdt.Path{fmt.Sprintf("field%06d", i)}), Value: crdt.IntValue(int64(i))})
		}
		return tx.SetLeaves("big", "", leaves)
	})
	b := new(store.Batch)
	tx := n.space.Begin(&Overlay{Batch: b, Snapshot: n.snapshot()}, crdt.EventAt(crdt.Dot{Replica: 1, Time: 20}))
	p := mustPack(t, crdt.Path{"field005000"})
	if err := tx.SetLeaves("big", p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(-1)}}); err != nil {
		t.Fatal(err)
	}
	d, err := tx.Commit(b)
	if err != nil {
		t.Fatal(err)
	}
	if b.Bytes() > 3*maxChunkBytes || len(d.Documents[0].Cells) > 64 {
		t.Fatalf("one field of 10,000 wrote %d bytes and sends %d", b.Bytes(), len(d.Documents[0].Cells))
	}
}

func TestTransactionOfTooManyFieldsIsRefusedWhole(t *testing.T) {
	n := newNode(t, 1)
	leaves := make([]crdt.Leaf, crdt.MaxTransactionFields+1)
	for i := range leaves {
		leaves[i] = crdt.Leaf{Path: mustPack(t, crdt.Path{fmt.Sprintf("%06d", i)})}
	}
	b := new(store.Batch)
	tx := n.space.Begin(&Overlay{Batch: b, Snapshot: n.snapshot()}, crdt.EventAt(crdt.Dot{Replica: 1, Time: 10}))
	if err := tx.SetLeaves("d", "", leaves); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(b); !errors.Is(err, crdt.ErrLimit) {
		t.Fatalf("got %v", err)
	}
	if b.Len() != 0 {
		t.Fatal("it wrote something")
	}
	n.write(20, func(tx *Transaction) error { return tx.SetLeaves("d", "", leaves[1:]) })
	o := newNode(t, 2)
	o.pull(n)
	equal(t, n, o)
}

func TestDeltaOfTooManyFieldsIsRefusedBeforeItIsParsed(t *testing.T) {
	fields := make([]crdt.Field, crdt.MaxTransactionFields)
	for i := range fields {
		e := crdt.Entry{Dot: crdt.Dot{Replica: 1, Time: 10}, Stamp: 10, Author: 1}
		fields[i] = crdt.Field{Path: mustPack(t, crdt.Path{fmt.Sprintf("%06d", i)}), Cell: crdt.Cell{Live: []crdt.Entry{e}}}
	}
	cells := codec.AppendCells(nil, fields)
	d := &crdt.Delta{Origin: 1, To: 10}
	for i := range crdt.MaxDeltaFields/crdt.MaxTransactionFields + 1 {
		d.Documents = append(d.Documents, crdt.DocumentDelta{Key: fmt.Sprint("d", i), Cells: cells})
	}
	n := newNode(t, 2)
	if err := n.merge(d); !errors.Is(err, ErrMalformed) || !errors.Is(err, crdt.ErrLimit) {
		t.Fatalf("got %v", err)
	}
}
