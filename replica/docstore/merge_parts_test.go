package docstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// setAll sets one field of each of some documents, in as many transactions as need be, and returns the next time.
func (n *node) setAll(at hlc.Time, documents int, value func(i int) string, each int) hlc.Time {
	n.t.Helper()
	for i := 0; i < documents; at++ {
		n.write(at, func(tx *Transaction) error {
			for range each {
				if i == documents {
					return nil
				}
				p := mustPack(n.t, crdt.Path{"photo"})
				if err := tx.SetLeaves(fmt.Sprint("d", i), p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(value(i))}}); err != nil {
					return err
				}
				i++
			}
			return nil
		})
	}
	return at
}

// One transaction replaces fields that another replica has meanwhile filled with values of the greatest size: each
// becomes a cell of two siblings, and all those cells together are more than a commit takes.
func TestTransactionThatMeetsLargeSiblingsIsMergedInParts(t *testing.T) {
	large := strings.Repeat("x", crdt.MaxValueBytes-100)
	const documents = 100
	a, b := newNode(t, 1), newNode(t, 2)
	a.setAll(10, documents, func(i int) string { return fmt.Sprint(i) }, documents)
	end := b.setAll(20, documents, func(int) string { return large }, 7)
	b.pull(a)
	a.pull(b)
	equal(t, a, b)
	if !b.space.IsClosed() {
		t.Error("it is not closed though it has everything")
	}
	a.write(end, func(tx *Transaction) error { return tx.Remove("d7", "") })
	b.pull(a)
	equal(t, a, b)
}

func TestManyLargeSiblingsInOneDocumentAreMergedInParts(t *testing.T) {
	large := strings.Repeat("x", crdt.MaxValueBytes-100)
	const fields = 100
	path := func(i int) crdt.PathKey { return mustPack(t, crdt.Path{fmt.Sprintf("%03d", i)}) }
	a, b := newNode(t, 1), newNode(t, 2)
	a.write(10, func(tx *Transaction) error {
		for i := range fields {
			if err := tx.SetLeaves("d", path(i), []crdt.Leaf{{Path: path(i), Value: crdt.IntValue(int64(i))}}); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range fields {
		b.write(hlc.Time(20+i), func(tx *Transaction) error {
			return tx.SetLeaves("d", path(i), []crdt.Leaf{{Path: path(i), Value: crdt.StringValue(large)}})
		})
	}
	b.pull(a)
	a.pull(b)
	equal(t, a, b)
}

// The vectors of a space must fit into the frames that open a session.
func TestReplicasOfASpaceAreBounded(t *testing.T) {
	a := newNode(t, 1<<63)
	a.set(10, "d", "x", "1")
	made := func(from, n int) *crdt.Delta {
		dots := make([]crdt.Dot, n)
		for i := range dots {
			dots[i] = crdt.Dot{Replica: crdt.ReplicaID(from + i), Time: 5}
		}
		horizon, _ := crdt.SortedVector(dots)
		return &crdt.Delta{Origin: dots[0].Replica, To: 5, Horizon: horizon}
	}
	if err := a.merge(made(1, codec.MaxVectorEntries-1)); err != nil {
		t.Fatal(err)
	}
	if err := a.merge(made(codec.MaxVectorEntries, 1)); !errors.Is(err, crdt.ErrLimit) || errors.Is(err, ErrMalformed) {
		t.Fatalf("got %v", err)
	}
	if n := a.space.Horizon().Len(); n != codec.MaxVectorEntries {
		t.Fatal(n)
	}
	a.set(20, "d", "x", "2") // who is there already goes on
	if err := a.merge(made(1, 1)); err != nil {
		t.Fatal(err)
	}
	b := new(store.Batch)
	tx := a.space.Begin(&Overlay{Batch: b, Snapshot: a.snapshot()}, crdt.EventAt(crdt.Dot{Replica: 1<<63 + 1, Time: 30}))
	p := mustPack(t, crdt.Path{"x"})
	if err := tx.SetLeaves("d", p, []crdt.Leaf{{Path: p}}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(b); !errors.Is(err, crdt.ErrLimit) || b.Len() != 0 {
		t.Fatalf("got %v", err)
	}
}

// One field in each chunk of a large document is changed on both sides: what is rewritten is the chunks, not the fields.
func TestPartsOfAMergeKeepWithinTheirBound(t *testing.T) {
	const fields, bytes, entries = 3000, 64 << 10, 400
	path := func(i int) crdt.PathKey { return mustPack(t, crdt.Path{fmt.Sprintf("%04d", i)}) }
	a, b := newNode(t, 1), newNode(t, 2)
	a.write(10, func(tx *Transaction) error {
		for i := range fields {
			if err := tx.SetLeaves("d", path(i), []crdt.Leaf{{Path: path(i), Value: crdt.StringValue(strings.Repeat("x", 150))}}); err != nil {
				return err
			}
		}
		return nil
	})
	b.pull(a)
	for i := 0; i < fields; i += 5 {
		b.write(hlc.Time(20+i), func(tx *Transaction) error {
			return tx.SetLeaves("d", path(i), []crdt.Leaf{{Path: path(i), Value: crdt.IntValue(int64(i))}})
		})
	}
	d := a.write(9000, func(tx *Transaction) error {
		for i := 0; i < fields; i += 5 {
			if err := tx.SetLeaves("d", path(i), []crdt.Leaf{{Path: path(i), Value: crdt.BoolValue(true)}}); err != nil {
				return err
			}
		}
		return nil
	})
	b.space.LimitMerges(bytes, entries)
	const slack = 20 << 10 // the directory, the record, the feed
	for parts := 1; ; parts++ {
		batch := new(store.Batch)
		m, err := b.space.Merge(&Overlay{Batch: batch, Snapshot: b.snapshot()}, batch, d, b.id, anyTime)
		if err != nil {
			t.Fatal(err)
		}
		if batch.Bytes() > bytes+slack || batch.Len() > entries+10 {
			t.Fatalf("part %d: %d bytes, %d entries", parts, batch.Bytes(), batch.Len())
		}
		b.commit(batch)
		b.verify()
		if m.Partial {
			continue
		}
		if parts < 5 || m.Cells != fields/5 {
			t.Errorf("%d parts, %d cells in the end", parts, m.Cells)
		}
		break
	}
	a.pull(b)
	equal(t, a, b)
}
