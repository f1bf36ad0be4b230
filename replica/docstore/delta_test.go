package docstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// setMany sets one field in each of n documents, in one transaction.
func (n *node) setMany(at hlc.Time, documents int) *crdt.Delta {
	n.t.Helper()
	return n.write(at, func(tx *Transaction) error {
		p := mustPack(n.t, crdt.Path{"x"})
		for i := range documents {
			if err := tx.SetLeaves(fmt.Sprintf("d%04d", i), p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(int64(at))}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *node) build(r crdt.ReplicaID, from, to hlc.Time) *crdt.Delta {
	n.t.Helper()
	d, err := Build(n.snapshot(), 1, r, from, to, from)
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// cellsOf names the cells of a delta, as "document path".
func cellsOf(t *testing.T, d *crdt.Delta) []string {
	t.Helper()
	var names []string
	for _, doc := range d.Documents {
		fields, err := codec.ParseCells(doc.Cells)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range fields {
			names = append(names, doc.Key+" "+f.Path.String())
		}
	}
	return names
}

func TestBuildNeverSplitsATransaction(t *testing.T) {
	n := newNode(t, 1)
	n.setMany(10, buildRecords+100)
	if d := n.build(1, 0, 10); len(d.Documents) != buildRecords+100 || d.To != 10 {
		t.Errorf("a delta of %d documents to %d", len(d.Documents), d.To)
	}
}

func TestBuildEndsBetweenTransactions(t *testing.T) {
	n := newNode(t, 1)
	for i := range hlc.Time(4) {
		n.write(10+i, func(tx *Transaction) error {
			for k := range buildRecords / 2 {
				p := mustPack(t, crdt.Path{"x"})
				if err := tx.SetLeaves(fmt.Sprintf("%d/%d", i, k), p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(1)}}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	d := n.build(1, 0, 13)
	if d.To != 11 || len(d.Documents) != buildRecords {
		t.Errorf("a delta of %d documents to %d", len(d.Documents), d.To)
	}
	if rest := n.build(1, d.To, 13); rest.To != 13 || len(rest.Documents) != buildRecords {
		t.Errorf("the rest has %d documents to %d", len(rest.Documents), rest.To)
	}
}

// A frame takes crdt.MaxTransactionDocuments documents.
func TestBuildKeepsToTheDocumentsOfAFrame(t *testing.T) {
	a := newNode(t, 1)
	a.setMany(10, buildRecords-1)
	a.write(11, func(tx *Transaction) error {
		p := mustPack(t, crdt.Path{"x"})
		for i := range crdt.MaxTransactionDocuments {
			if err := tx.SetLeaves(fmt.Sprintf("e%04d", i), p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(1)}}); err != nil {
				return err
			}
		}
		return nil
	})
	for from := hlc.Time(0); from < 11; {
		d := a.build(1, from, 11)
		if n := len(d.Documents); n > crdt.MaxTransactionDocuments || n == 0 {
			t.Fatalf("a delta of %d documents, (%d, %d]", n, d.From, d.To)
		}
		from = d.To
	}
}

func TestBuildSendsOnlyCellsOfTheRange(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.set(10, "d", "early", "1")
	a.set(20, "d", "late", "1")
	b.pull(a)
	b.set(30, "d", "other", "1")
	a.pull(b)
	if got := fmt.Sprint(cellsOf(t, a.build(1, 10, 20))); got != "[d /late]" {
		t.Errorf("it sends %s", got)
	}
	if got := fmt.Sprint(cellsOf(t, a.build(1, 0, 20))); got != "[d /early d /late]" {
		t.Errorf("it sends %s", got)
	}
}

// What a later transaction has replaced is not sent, so the receiver must know that it does not have the whole yet.
func TestReceiverOfReplacedWritesIsOpenUntilItHasWhatReplacedThem(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.set(10, "d", "x", "1")
	a.set(20, "d", "x", "2")
	if err := b.merge(a.build(1, 0, 10)); err != nil {
		t.Fatal(err)
	}
	if b.space.IsClosed() {
		t.Error("closed without the cell that the transaction wrote")
	}
	if err := b.merge(a.build(1, 10, 20)); err != nil {
		t.Fatal(err)
	}
	if !b.space.IsClosed() {
		t.Error("open though everything is here")
	}
	equal(t, a, b)
}

func TestReceiverOfForeignEffectsIsOpenUntilItHasTheirTransactions(t *testing.T) {
	a, b, c := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	a.set(10, "d", "x", "1")
	b.pull(a)
	seen := b.set(20, "d", "x", "2") // it observed a's write
	if err := c.merge(seen); err != nil {
		t.Fatal(err)
	}
	if c.space.IsClosed() {
		t.Error("closed, with effects of a transaction that is not in its vector")
	}
	c.pull(a)
	if !c.space.IsClosed() {
		t.Error("open though everything is here")
	}
	equal(t, b, c)
}

func TestCombineTakesTheLastStateOfEachCell(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	deltas := []*crdt.Delta{
		a.set(10, "d", "x", "1"), a.set(11, "d", "y", "1"), a.set(12, "e", "x", "1"), a.set(13, "d", "x", "2"),
	}
	d, err := Combine(deltas)
	if err != nil {
		t.Fatal(err)
	}
	if d.From != 0 || d.To != 13 || d.Origin != 1 {
		t.Errorf("the range is (%d, %d] of %s", d.From, d.To, d.Origin)
	}
	if got := fmt.Sprint(cellsOf(t, d)); got != "[d /x d /y e /x]" {
		t.Errorf("it has %s", got)
	}
	if err := b.merge(d); err != nil {
		t.Fatal(err)
	}
	equal(t, a, b)
}

// One delta made of two origins would claim all of the first up to a time of the second.
func TestCombineRefusesDeltasThatDoNotFollowEachOther(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	first, second, third := a.set(10, "d", "x", "1"), a.set(11, "d", "y", "1"), a.set(12, "e", "x", "1")
	other := b.set(11, "d", "x", "1")
	for name, deltas := range map[string][]*crdt.Delta{
		"two origins": {first, other}, "a gap": {first, third}, "out of order": {second, first},
	} {
		if d, err := Combine(deltas); err == nil {
			t.Errorf("%s: got (%d, %d] of %s", name, d.From, d.To, d.Origin)
		}
	}
}

func TestDeltaFromTheFutureChangesNothing(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	d := a.set(1000, "d", "x", "1")
	ahead := errors.New("ahead")
	batch := new(store.Batch)
	_, err := b.space.Merge(&Overlay{Batch: batch, Snapshot: b.snapshot()}, batch, d, 2, func(at hlc.Time) error {
		if at != 1000 {
			t.Errorf("checked was %d", at)
		}
		return ahead
	})
	if !errors.Is(err, ahead) {
		t.Fatalf("got %v", err)
	}
	b.space.Flush(batch)
	if batch.Len() != 0 || b.space.VV().Len() != 0 || b.space.Horizon().Len() != 0 {
		t.Error("a refused delta left something")
	}
}

// A stamp decides which sibling shows, so one from the future is refused as a dot would be.
func TestStampFromTheFutureIsChecked(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	batch := new(store.Batch)
	ev := crdt.Event{Dot: crdt.Dot{Replica: 1, Time: 10}, Stamp: 5000, Author: 77}
	tx := a.space.Begin(&Overlay{Batch: batch, Snapshot: a.snapshot()}, ev)
	p := mustPack(t, crdt.Path{"x"})
	if err := tx.SetLeaves("d", p, []crdt.Leaf{{Path: p, Value: crdt.IntValue(1)}}); err != nil {
		t.Fatal(err)
	}
	d, err := tx.Commit(batch)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.space.Merge(&Overlay{Batch: new(store.Batch), Snapshot: b.snapshot()}, new(store.Batch), d, 2, anyTime)
	if err != nil || m.Max != 5000 {
		t.Errorf("the greatest time is %d, %v", m.Max, err)
	}
}

func TestDotOfOursThatWeNeverGaveIsNoticed(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	first := a.set(10, "d", "x", "1")
	second := a.set(20, "d", "y", "1")
	if err := b.merge(first); err != nil {
		t.Fatal(err)
	}
	if err := b.merge(second); err != nil {
		t.Fatal(err)
	}
	effects := b.set(30, "d", "y", "2")

	restored := newNode(t, 1)
	if err := restored.merge(first); err != nil { // as another, before it took the old ID up
		t.Fatal(err)
	}
	for name, d := range map[string]*crdt.Delta{"a delta of ours": second, "a cell that names our dot": effects} {
		m, err := restored.space.Merge(&Overlay{Batch: new(store.Batch), Snapshot: restored.snapshot()}, new(store.Batch), d, 1, anyTime)
		if err != nil || !m.Foreign {
			t.Errorf("%s: Foreign is %v, %v", name, m.Foreign, err)
		}
		restored.reload()
	}
	m, err := a.space.Merge(&Overlay{Batch: new(store.Batch), Snapshot: a.snapshot()}, new(store.Batch), effects, 1, anyTime)
	if err != nil || m.Foreign {
		t.Errorf("who gave the dot: Foreign is %v, %v", m.Foreign, err)
	}
}

func TestTransactionThatChangesNothingTakesNoDot(t *testing.T) {
	for name, change := range map[string]func(tx *Transaction) error{
		"nothing":                    func(*Transaction) error { return nil },
		"remove what is not there":   func(tx *Transaction) error { return tx.Remove("d", "") },
		"write and remove":           func(tx *Transaction) error { return errors.Join(tx.Increment("d", "", 1), tx.Remove("d", "")) },
		"replace nothing by nothing": func(tx *Transaction) error { return tx.Replace("d", nil) },
	} {
		n := newNode(t, 1)
		if d := n.write(10, change); d != nil || n.space.VV().Len() != 0 || n.store.Usage().DiskBytes != 0 {
			t.Errorf("%s: delta %v, vector %s", name, d, n.space.VV())
		}
	}
}

func TestTimeMustGrow(t *testing.T) {
	n := newNode(t, 1)
	n.set(10, "d", "x", "1")
	b := new(store.Batch)
	tx := n.space.Begin(&Overlay{Batch: b, Snapshot: n.snapshot()}, crdt.EventAt(crdt.Dot{Replica: 1, Time: 10}))
	if err := tx.Increment("d", "", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Commit(b); err == nil || b.Len() != 0 {
		t.Errorf("a dot was given twice: %v", err)
	}
}

func TestFeedHasEachDocumentOnceInTheOrderOfChanges(t *testing.T) {
	n := newNode(t, 1)
	for i, key := range []string{"a", "b", "c", "a", "b"} {
		n.set(hlc.Time(10+i), key, "x", fmt.Sprint(i))
	}
	feed := func(since uint64) string {
		var keys []string
		for e, err := range Feed(n.snapshot(), 1, since) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, fmt.Sprintf("%s:%d", e.Key, e.Arrival))
		}
		return fmt.Sprint(keys)
	}
	if got := feed(0); got != "[c:3 a:4 b:5]" {
		t.Errorf("the feed is %s", got)
	}
	if got := feed(4); got != "[b:5]" {
		t.Errorf("after 4 the feed is %s", got)
	}
}

func TestTransactionsBuildOnBatchesThatAreNotCommitted(t *testing.T) {
	n := newNode(t, 1)
	snap := n.snapshot()
	p := mustPack(t, crdt.Path{"n"})
	var inFlight []*store.Batch
	for i := range hlc.Time(3) {
		b := new(store.Batch)
		tx := n.space.Begin(&Overlay{Batch: b, InFlight: inFlight, Snapshot: snap}, crdt.EventAt(crdt.Dot{Replica: 1, Time: 10 + i}))
		if err := tx.Increment("d", p, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Commit(b); err != nil {
			t.Fatal(err)
		}
		n.space.Flush(b)
		inFlight = append([]*store.Batch{b}, inFlight...)
	}
	for i := len(inFlight) - 1; i >= 0; i-- {
		if err := n.store.Commit(inFlight[i]); err != nil {
			t.Fatal(err)
		}
	}
	doc, _, err := Read(n.snapshot(), 1, "d")
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := doc.Document.Get(crdt.Path{"n"}); v != int64(3) {
		t.Errorf("the counter shows %v, want 3", v)
	}
	n.verify()
}

func TestLogKeysAreParsedAsTheyArePacked(t *testing.T) {
	for _, p := range []logPosition{
		{dot: crdt.Dot{Replica: 1, Time: 2}, key: "d"},
		{dot: crdt.Dot{Replica: 1<<64 - 1, Time: hlc.Max}, key: "d\x00", start: "a\x00b\x00"},
	} {
		got, err := parseLogKey(p.pack(7))
		if err != nil || got != p {
			t.Errorf("%v came back as %v, %v", p, got, err)
		}
		k := p.pack(7)
		for n := range k {
			if got, err := parseLogKey(k[:n]); err == nil && got == p {
				t.Errorf("%v parses from its first %d bytes", p, n)
			}
		}
	}
}
