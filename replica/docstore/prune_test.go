package docstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// prune raises stable to everything that the node has and forgets, in steps of a few log keys, verifying each.
func (n *node) prune(limit int) {
	n.t.Helper()
	b := new(store.Batch)
	n.space.RaiseStable(n.space.VV())
	n.commit(b)
	for step := 0; ; step++ {
		if step > 10_000 {
			n.t.Fatal("pruning does not end")
		}
		b := new(store.Batch)
		p, err := n.space.Prune(&Overlay{Batch: b, Snapshot: n.snapshot()}, limit)
		if err != nil {
			n.t.Fatal(err)
		}
		n.commit(b)
		n.verify()
		if !p.More {
			return
		}
	}
}

// keys returns the number of keys of each kind.
func (n *node) keys() map[byte]int {
	n.t.Helper()
	counts := make(map[byte]int)
	for k, err := range n.snapshot().Keys(nil, nil) {
		if err != nil {
			n.t.Fatal(err)
		}
		counts[k[0]]++
	}
	return counts
}

// expectNothing: no trace of any document is left.
func (n *node) expectNothing() {
	n.t.Helper()
	for kind, count := range n.keys() {
		if kind != kindMeta && kind != kindVector {
			n.t.Errorf("there are %d keys of kind %q left", count, kind)
		}
	}
}

func fieldPath(t *testing.T, i int) crdt.PathKey {
	return mustPack(t, crdt.Path{fmt.Sprintf("%04d", i)})
}

// longPath is a field path of which few make a directory that one value does not hold.
func longPath(t *testing.T, i int) crdt.PathKey {
	return mustPack(t, crdt.Path{fmt.Sprintf("%04d", i) + strings.Repeat("p", 3000)})
}

// setFields writes fields with values of the given size in one transaction.
func (n *node) setFields(at hlc.Time, key string, path func(*testing.T, int) crdt.PathKey, fields, size int) {
	n.t.Helper()
	n.write(at, func(tx *Transaction) error {
		for i := range fields {
			p := path(n.t, i)
			if err := tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(strings.Repeat("x", size))}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *node) remove(at hlc.Time, key string, p crdt.PathKey) {
	n.t.Helper()
	n.write(at, func(tx *Transaction) error { return tx.Remove(key, p) })
}

func TestDeletedDocumentsLeaveNoTrace(t *testing.T) {
	for _, c := range []struct {
		name         string
		path         func(*testing.T, int) crdt.PathKey
		fields, size int
	}{
		{"in one record", fieldPath, 3, 10},
		{"in chunks", fieldPath, 200, 100},
		{"with a cell in segments", fieldPath, 4, crdt.MaxValueBytes - 100},
		{"with a directory in pieces", longPath, 400, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t, 1)
			n.setFields(10, "d", c.path, c.fields, c.size)
			if c.size > maxSegmentBytes/2 { // siblings of that size make one cell of several segments
				o := newNode(t, 2)
				o.setFields(11, "d", c.path, c.fields, c.size)
				n.pull(o)
			}
			if c.fields == 400 && n.keys()[kindPiece] < 2 {
				t.Error("the directory is in one piece")
			}
			if c.fields == 4 && n.keys()[kindSegment] < 2 {
				t.Error("no cell is in segments")
			}
			if n.prune(1 << 10); n.keys()[kindLog] != 0 {
				t.Errorf("there are %d log keys left of a document that is stable", n.keys()[kindLog])
			}
			n.remove(20, "d", "")
			n.prune(7)
			n.expectNothing()
			if n.space.Documents() != 0 || n.space.Floor() != n.space.Arrival() {
				t.Errorf("%d documents, and the feed forgot up to %d of %d", n.space.Documents(), n.space.Floor(), n.space.Arrival())
			}
			n.setFields(30, "d", c.path, 2, 10) // it may come back
			n.verify()
		})
	}
}

func TestChunksWithoutCellsVanishAndTheOthersStay(t *testing.T) {
	n := newNode(t, 1)
	n.setFields(10, "d", fieldPath, 200, 100)
	before := n.keys()[kindChunk]
	for i := range 200 {
		if i != 77 {
			n.remove(hlc.Time(20+i), "d", fieldPath(t, i))
		}
	}
	n.prune(5)
	if got := n.keys(); got[kindChunk] > 2 || got[kindLog] != 0 || got[kindFeed] != 1 {
		t.Errorf("of %d chunks these keys are left: %v", before, got)
	}
	doc, _, err := Read(n.snapshot(), 1, "d")
	if err != nil {
		t.Fatal(err)
	}
	fields := doc.Document.AppendFields(nil)
	if len(fields) != 1 || fields[0].Path != fieldPath(t, 77) || fields[0].Cell.Observed.Len() != 0 {
		t.Errorf("left are %v", fields)
	}
	if n.space.Floor() != 0 {
		t.Errorf("the feed forgot something up to %d, though no document went", n.space.Floor())
	}
}

func TestDeltaBelowStableIsNotBuilt(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "a", "x")
	n.set(11, "d", "a", "y")
	n.prune(10)
	n.set(12, "d", "a", "z")
	if _, err := Build(n.snapshot(), 1, 1, 10, 12, 10); !errors.Is(err, protocol.ErrPruned) {
		t.Errorf("a delta from before stable: %v", err)
	}
	if d := n.build(1, 11, 12); len(d.Documents) != 1 {
		t.Errorf("a delta from stable on has %d documents", len(d.Documents))
	}
}

// Stable may rise over a write that waits in the same batch: its log key is not in the snapshot that is looked through.
func TestPruneFindsWhatWaitedWhenStableRose(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "a", "x")
	n.prune(10)
	b := new(store.Batch)
	over := &Overlay{Batch: b, Snapshot: n.snapshot()}
	tx := n.space.Begin(over, crdt.EventAt(crdt.Dot{Replica: 1, Time: 11}))
	if err := tx.Remove("d", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(b); err != nil {
		t.Fatal(err)
	}
	n.space.RaiseStable(n.space.VV())
	p, err := n.space.Prune(over, 10)
	if err != nil || !p.More || p.LogKeys != 0 {
		t.Fatalf("pruned %+v, %v", p, err)
	}
	n.commit(b)
	n.prune(10)
	n.expectNothing()
}

func TestPruneGoesOnAfterReopening(t *testing.T) {
	n := newNode(t, 1)
	for i := range 20 {
		n.set(hlc.Time(10+2*i), fmt.Sprint("d", i), "a", "x")
		n.remove(hlc.Time(11+2*i), fmt.Sprint("d", i), "")
	}
	b := new(store.Batch)
	n.space.RaiseStable(n.space.VV())
	n.commit(b)
	n.reload()
	n.prune(3)
	n.expectNothing()
}

// A cell may come along that still holds an entry whose removal is stable here, and forgotten.
func TestOldEntryDoesNotComeBack(t *testing.T) {
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	a.set(10, "d", "n", "x")
	b.pull(a)
	c.pull(a)
	removal := b.write(20, func(tx *Transaction) error { return tx.Remove("d", "") })
	b.prune(10)
	c.write(30, func(tx *Transaction) error { return tx.Increment("d", mustPack(t, crdt.Path{"n"}), 5) })
	b.pull(c)
	doc, ok, err := Read(b.snapshot(), 1, "d")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if live := doc.Document.Cell(mustPack(t, crdt.Path{"n"})).Live; len(live) != 1 || live[0].Dot.Replica != 3 {
		t.Errorf("live are %v", live)
	}
	b.verify()
	if err := c.merge(removal); err != nil {
		t.Fatal(err)
	}
	b.prune(10)
	equal(t, b, c)
}

func TestVerifyFindsCellsThatNothingWouldPrune(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "a", "x")
	n.remove(11, "d", "")
	b := new(store.Batch)
	n.space.RaiseStable(n.space.VV())
	b.Delete(logPosition{crdt.Dot{Replica: 1, Time: 11}, "d", ""}.pack(1))
	n.commit(b)
	report, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{Repair: n.store.Commit})
	if err != nil || len(report.Problems) != 1 || !report.Problems[0].Derived {
		t.Fatalf("%v %v", report.Problems, err)
	}
	n.reload()
	n.prune(10)
	n.expectNothing()
}

func TestFloorIsKept(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "a", "x")
	n.remove(11, "d", "")
	n.prune(10)
	n.reload()
	if n.space.Floor() != 2 {
		t.Errorf("the floor is %d after reopening", n.space.Floor())
	}
}

func TestThatAReaderIsAheadIsKept(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "a", "x")
	if n.space.NoteReader(n.space.VV()) {
		t.Error("one who has the same is noted")
	}
	more := crdt.NewVersionVector(crdt.Dot{Replica: 7, Time: 12})
	if !n.space.NoteReader(more) || n.space.NoteReader(more) {
		t.Error("one who has more is not noted once")
	}
	n.set(11, "d", "a", "y")
	n.reload()
	if n.space.NoteReader(more) {
		t.Error("it was forgotten")
	}
	n.space.breakFeed()
	n.set(12, "d", "a", "z")
	n.reload()
	if floor, breach, err := Floors(n.snapshot(), 1); floor != 3 || breach != 3 || err != nil {
		t.Errorf("floor %d, breach %d, %v", floor, breach, err)
	}
	if !n.space.NoteReader(more) {
		t.Error("the next one is not noted")
	}
}

// b has everything of a up to 10, but not the field that was written then, for a has written it anew at 20. Were 10 stable at b, the
// old entry would be dead there when somebody else sends it, and nothing in the cell would say why.
func TestStableDoesNotRiseWhereTheSpaceIsOpen(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.set(10, "d", "a", "x")
	a.set(20, "d", "a", "y")
	if err := b.merge(a.build(1, 0, 10)); err != nil {
		t.Fatal(err)
	}
	if b.space.VV().Get(1) != 10 || b.space.IsClosed() {
		t.Fatalf("vv is %s, horizon %s", b.space.VV(), b.space.Horizon())
	}
	if b.space.RaiseStable(b.space.VV()) {
		t.Errorf("stable has risen to %s", b.space.Stable())
	}
	b.pull(a)
	if !b.space.RaiseStable(b.space.VV()) {
		t.Error("stable has not risen where the space is closed")
	}
}
