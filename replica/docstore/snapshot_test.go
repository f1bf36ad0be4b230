package docstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// taker takes snapshots of another node, a piece at a time.
type taker struct {
	*node
	begin  *protocol.SnapshotBegin
	reader *SnapshotReader
	most   int // bytes of the largest piece
	steps  int // of merging
}

// begin asks o for what n lacks of a snapshot.
func (n *node) begin(o *node, documents, bytes int) *taker {
	n.t.Helper()
	q := n.space.SnapshotRequest()
	reader, begin, err := OpenSnapshot(o.snapshot(), 1, &q)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(reader.Close)
	reader.MaxDocuments, reader.MaxBytes = documents, bytes
	if _, err := n.space.BeginSnapshot(source, begin, n.id, anyTime); err != nil {
		n.t.Fatal(err)
	}
	return &taker{node: n, begin: begin, reader: reader}
}

var source = protocol.PeerID{1}

// next merges the next piece, and reports whether it was the last.
func (t *taker) next() bool {
	t.t.Helper()
	p, err := t.reader.Next()
	if err != nil {
		t.t.Fatal(err)
	}
	size := 0
	for _, d := range p.Documents {
		size += len(d.Cells)
	}
	t.most = max(t.most, size)
	t.mergePiece(p)
	return p.IsLast()
}

func (t *taker) mergePiece(p *protocol.SnapshotPiece) {
	t.t.Helper()
	for {
		t.steps++
		b := new(store.Batch)
		m, err := t.space.MergePiece(&Overlay{Batch: b, Snapshot: t.snapshot()}, b, &protocol.Piece{SnapshotPiece: p, Of: t.begin}, t.id, anyTime)
		if err != nil {
			t.t.Fatal(err)
		}
		t.commit(b)
		if !m.Partial {
			return
		}
	}
}

func (t *taker) all() {
	t.t.Helper()
	for !t.next() {
	}
}

// forgetting returns a node with documents, of which every third was deleted, and forgotten.
func forgetting(t *testing.T, documents int) *node {
	s := newNode(t, 1)
	at := s.setAll(1, documents, func(i int) string { return fmt.Sprint(i) }, 100)
	for i := 0; i < documents; i += 3 {
		at++
		s.remove(at, fmt.Sprint("d", i), "")
	}
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(1 << 20)
	return s
}

func TestSnapshotBringsWhatDeltasCannot(t *testing.T) {
	s := forgetting(t, 60)
	e := newNode(t, 2)
	e.set(5, "own", "x", "unsent")
	e.begin(s, 7, 1<<20).all()
	if e.space.Rejoining() != nil || !e.space.Stable().Equal(s.space.Stable()) || !s.space.VV().LessOrEqual(e.space.VV()) {
		t.Errorf("at the end: mark %v, stable %s, vv %s", e.space.Rejoining(), e.space.Stable(), e.space.VV())
	}
	s.pull(e)
	equal(t, s, e)
}

func TestReplicaBelowStableLosesWhatWasDeletedAndKeepsItsOwn(t *testing.T) {
	s, e := newNode(t, 1), newNode(t, 2)
	s.set(1, "deleted", "x", "old")
	s.set(2, "kept", "x", "old")
	e.pull(s)
	e.set(10, "kept", "mine", "unsent")
	s.remove(11, "deleted", "")
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(100)
	e.begin(s, 1, 1<<20).all()
	s.pull(e)
	equal(t, s, e)
	if doc, ok, _ := Read(e.snapshot(), 1, "deleted"); ok && doc.Document.IsLive() {
		t.Error("what was deleted is back")
	}
	e.prune(100)
	if _, ok, _ := Read(e.snapshot(), 1, "deleted"); ok {
		t.Error("what was deleted leaves a trace")
	}
	if doc, _, _ := Read(s.snapshot(), 1, "kept"); doc.Document.Cell(mustPack(t, crdt.Path{"mine"})).IsEmpty() {
		t.Error("what was not sent is gone")
	}
}

func TestSnapshotGoesOnAfterACrash(t *testing.T) {
	s := forgetting(t, 90)
	e := newNode(t, 2)
	first := e.begin(s, 10, 1<<20)
	first.next()
	first.next()
	e.reload()
	mark := e.space.Rejoining()
	if mark == nil || mark.Position.IsZero() || mark.Source != source || mark.Documents != 20 {
		t.Fatalf("after a crash the mark is %+v", mark)
	}
	s.set(1000, "new", "x", "since the break")
	second := e.begin(s, 10, 1<<20)
	if second.begin.From != mark.Position {
		t.Fatalf("it goes on at %v, want %v", second.begin.From, mark.Position)
	}
	second.all()
	e.pull(s)
	equal(t, s, e)
}

// Otherwise E would lack, and not say so, what S has forgotten since of the part that E has already.
func TestSnapshotStartsOverWhenMoreIsForgotten(t *testing.T) {
	s := forgetting(t, 30)
	e := newNode(t, 2)
	e.begin(s, 10, 1<<20).next()
	s.set(1000, "d1", "x", "new")
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(100)
	second := e.begin(s, 10, 1<<20)
	if !second.begin.From.IsZero() || !e.space.Rejoining().Position.IsZero() {
		t.Fatalf("it goes on at %v", second.begin.From)
	}
	second.all()
	equal(t, s, e)
}

func TestDeltaBesideASnapshotBringsNothingBack(t *testing.T) {
	s, old, e := newNode(t, 1), newNode(t, 3), newNode(t, 2)
	d := s.set(1, "a", "x", "old")
	if err := old.merge(d); err != nil {
		t.Fatal(err)
	}
	s.set(2, "b", "x", "stays")
	s.remove(3, "a", "")
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(100)
	take := e.begin(s, 1, 1<<20)
	s.set(4, "c", "x", "makes one more piece of the next snapshot")
	take.mergePiece(&protocol.SnapshotPiece{Range: protocol.Range{Upper: protocol.Position{Key: "b"}}})
	if err := e.merge(old.build(1, 0, 1)); err != nil {
		t.Fatal(err)
	}
	if doc, ok, _ := Read(e.snapshot(), 1, "a"); ok && doc.Document.IsLive() {
		t.Fatal("what was deleted came back by a delta")
	}
	take.all()
	e.pull(s)
	equal(t, s, e)
}

// What S removed, and has forgotten of, E has removed too and cannot say by whom. Who gets that from E must not take itself for
// closed: to it S's removal is a transaction that it does not have.
func TestWhoGetsEffectsOfAnUnfinishedSnapshotIsOpen(t *testing.T) {
	s, e, told, built := newNode(t, 1), newNode(t, 2), newNode(t, 3), newNode(t, 4)
	s.set(1, "a", "x", "old")
	s.set(2, "b", "x", "old")
	for _, n := range []*node{e, told, built} {
		n.pull(s)
	}
	s.remove(3, "a", "")
	s.prune(100)
	take := e.begin(s, 1, 1<<20)
	take.mergePiece(&protocol.SnapshotPiece{Range: protocol.Range{Upper: protocol.Position{Key: "b"}}})
	b := new(store.Batch)
	e.space.AbandonSnapshot()
	e.commit(b)
	e.reload()
	d := e.set(10, "a", "x", "written over what is no more")
	if err := told.merge(d); err != nil {
		t.Fatal(err)
	}
	built.pull(e)
	for name, n := range map[string]*node{"by its own delta": told, "from the log": built} {
		if n.space.IsClosed() {
			t.Errorf("%s: closed at %s", name, n.space.VV())
		}
		n.begin(s, 10, 1<<20).all()
		if !n.space.IsClosed() {
			t.Errorf("%s: after a snapshot of S it is open: %s beyond %s", name, n.space.Horizon(), n.space.VV())
		}
		n.verify()
	}
}

// Large documents travel in parts, both what S has of them and what E has to lose.
func TestSnapshotOfLargeDocumentsKeepsWithinItsBounds(t *testing.T) {
	const fields, size, bound = 3000, 300, 64 << 10
	s, e := newNode(t, 1), newNode(t, 2)
	s.setFields(1, "gone", fieldPath, fields, size)
	s.setFields(2, "large", fieldPath, fields, size)
	e.pull(s)
	s.remove(3, "gone", "")
	s.setFields(4, "large", longPath, fields/10, size)
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(1 << 20)
	take := e.begin(s, 100, bound)
	take.all()
	equal(t, s, e)
	if take.most > bound+maxChunkBytes {
		t.Errorf("a piece has %d bytes, at most %d were asked for", take.most, bound)
	}
	if parts := fields * size / maxChunkBytes / mergeParts; take.steps < parts {
		t.Errorf("it was merged in %d steps; a document alone takes %d", take.steps, parts)
	}
}

// Each replica that ever wrote a field may have left a sibling of the greatest size: no frame takes all of them.
func TestCellOfManyLargeSiblingsTravelsInParts(t *testing.T) {
	const writers, size, bound = 12, 30_000, 100_000
	s, e := newNode(t, 1), newNode(t, 100)
	for i := range writers {
		w := newNode(t, crdt.ReplicaID(i+2))
		w.set(1, "a", "x", strings.Repeat("w", size))
		s.pull(w)
		if i%3 == 0 {
			e.pull(w) // it has some of them already
		}
	}
	s.set(5, "a", "other", "a field beside")
	s.set(6, "b", "x", "a document after")
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(1000)
	e.set(5, "a", "mine", "unsent")
	take := e.begin(s, 100, 1<<20)
	take.reader.MaxCell = bound
	take.all()
	s.pull(e)
	equal(t, s, e)
	if live := len(mustRead(t, e, "a").Cell(mustPack(t, crdt.Path{"x"})).Live); live != writers {
		t.Errorf("%d siblings, want %d", live, writers)
	}
	if take.most > bound+size {
		t.Errorf("a piece has %d bytes, at most %d were asked for", take.most, bound)
	}
}

// What is removed meanwhile on one side is in none of the parts of the other, or named as spared and dead here.
func TestPartsOfACellBringNothingBack(t *testing.T) {
	s, e := newNode(t, 1), newNode(t, 100)
	for i := range 6 {
		w := newNode(t, crdt.ReplicaID(i+2))
		w.set(1, "a", "x", strings.Repeat("w", 3000))
		s.pull(w)
		e.pull(w)
	}
	s.set(9, "b", "x", "so that something is forgotten")
	s.space.RaiseStable(crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 9}))
	e.set(20, "a", "x", "settled")
	take := e.begin(s, 100, 1<<20)
	take.reader.MaxCell = 7000
	take.all()
	if live := mustRead(t, e, "a").Cell(mustPack(t, crdt.Path{"x"})).Live; len(live) != 1 || live[0].Dot.Time != 20 {
		t.Errorf("live are %v", live)
	}
	s.pull(e)
	equal(t, s, e)
}

// The last part of a cell names the siblings in the parts before it, and nothing more of them: without those it says that they are dead.
func TestLastPartOfACellIsNotTakenWithoutTheOthers(t *testing.T) {
	s, e := newNode(t, 1), newNode(t, 100)
	for i := range 6 {
		w := newNode(t, crdt.ReplicaID(i+2))
		w.set(1, "a", "x", strings.Repeat("w", 3000))
		s.pull(w)
	}
	s.space.RaiseStable(s.space.VV().Clone())
	take := e.begin(s, 100, 1<<20)
	take.reader.MaxCell = 7000
	for lost := false; ; {
		p, err := take.reader.Next()
		if err != nil {
			t.Fatal(err)
		}
		if p.Partial && !lost {
			lost = true
			continue
		}
		if p.Partial {
			take.mergePiece(p)
			continue
		}
		b := new(store.Batch)
		_, err = e.space.MergePiece(&Overlay{Batch: b, Snapshot: e.snapshot()}, b, &protocol.Piece{SnapshotPiece: p, Of: take.begin}, e.id, anyTime)
		if !lost || !errors.Is(err, ErrGap) {
			t.Fatalf("a part was lost: %t; the last one gave %v", lost, err)
		}
		break
	}
	e.begin(s, 100, 1<<20).all() // it asks again
	equal(t, s, e)
}

func mustRead(t *testing.T, n *node, key string) *crdt.Document {
	t.Helper()
	doc, ok, err := Read(n.snapshot(), 1, key)
	if err != nil || !ok {
		t.Fatalf("document %q: %v, %v", key, ok, err)
	}
	return doc.Document
}

func TestSnapshotMergedInSmallStepsIsTheSame(t *testing.T) {
	s := forgetting(t, 60)
	e := newNode(t, 2)
	e.pull(s.before(t, 60))
	e.space.LimitMerges(50, 1<<20)
	take := e.begin(s, 20, 1<<20)
	take.all()
	if take.steps < 10 {
		t.Errorf("%d steps", take.steps)
	}
	equal(t, s, e)
}

// before returns a node that has what forgetting's wrote, and none of what it removed.
func (n *node) before(t *testing.T, documents int) *node {
	o := newNode(t, n.id)
	o.setAll(1, documents, func(i int) string { return fmt.Sprint(i) }, 100)
	return o
}

func TestBadPiecesChangeNothing(t *testing.T) {
	s := forgetting(t, 30)
	cells := codec.AppendCells(nil, []crdt.Field{{Path: mustPack(t, crdt.Path{"x"}), Cell: crdt.Cell{
		Live: []crdt.Entry{{Dot: crdt.Dot{Replica: 1, Time: 1}, Stamp: 1, Author: 1, Value: crdt.IntValue(1)}},
	}}})
	doc := func(key string, cells []byte) []crdt.DocumentDelta {
		return []crdt.DocumentDelta{{Key: key, Cells: cells}}
	}
	to := func(key string) protocol.Range { return protocol.Range{Upper: protocol.Position{Key: key}} }
	for name, c := range map[string]struct {
		piece protocol.SnapshotPiece
		want  error
	}{
		"one before it is missing":    {protocol.SnapshotPiece{Range: protocol.Range{Lower: protocol.Position{Key: "b"}}}, ErrGap},
		"a document beyond its range": {protocol.SnapshotPiece{Range: to("b"), Documents: doc("c", cells)}, ErrMalformed},
		"a path beyond its range": {protocol.SnapshotPiece{
			Range: protocol.Range{Upper: protocol.Position{Key: "c", Path: "w\x00"}}, Documents: doc("c", cells),
		}, ErrMalformed},
		"cells that do not parse": {protocol.SnapshotPiece{Range: to("b"), Documents: doc("a", []byte{1, 2, 3})}, ErrMalformed},
		"a document of no cells":  {protocol.SnapshotPiece{Range: to("b"), Documents: doc("a", nil)}, ErrMalformed},
		"a key over the limit":    {protocol.SnapshotPiece{Documents: doc(strings.Repeat("k", crdt.MaxKeyBytes+1), cells)}, ErrMalformed},
	} {
		e := newNode(t, 2)
		take := e.begin(s, 10, 1<<20)
		b := new(store.Batch)
		piece := &protocol.Piece{SnapshotPiece: &c.piece, Of: take.begin}
		m, err := e.space.MergePiece(&Overlay{Batch: b, Snapshot: e.snapshot()}, b, piece, e.id, anyTime)
		if !errors.Is(err, c.want) || m.Changed > 0 || b.Len() > 0 || !e.space.Rejoining().Position.IsZero() {
			t.Errorf("%s: %v, changed %d, position %v", name, err, m.Changed, e.space.Rejoining().Position)
		}
	}
}

func TestSnapshotFromTheFutureIsRefused(t *testing.T) {
	s := forgetting(t, 30)
	q := protocol.SnapshotRequest{}
	_, begin, err := OpenSnapshot(s.snapshot(), 1, &q)
	if err != nil {
		t.Fatal(err)
	}
	drift := errors.New("too far ahead")
	e := newNode(t, 2)
	check := func(at hlc.Time) error {
		if at > 5 {
			return drift
		}
		return nil
	}
	if _, err := e.space.BeginSnapshot(source, begin, e.id, check); !errors.Is(err, drift) || e.space.Rejoining() != nil {
		t.Errorf("begin: %v, mark %v", err, e.space.Rejoining())
	}
}

// The bytes of format version 1.
func TestMarkIsPackedAsEver(t *testing.T) {
	m := &Rejoin{
		Source: source, Position: protocol.Position{Key: "pear", Path: "a\x00"},
		Progress: Progress{Documents: 300, Bytes: 70_000, KnownDocuments: 4000, KnownBytes: 1 << 20},
	}
	const want = "01" + "00000000000000000000000000000000000000000000000000000000000000" + "ac02" + "f0a204" + "a01f" + "808040" + "04" + "70656172" + "6100"
	b := m.pack()[4:]
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("packed as %s, want %s", got, want)
	}
	back, ok := parseRejoin(b)
	if !ok || back.Source != m.Source || back.Position != m.Position || back.Progress != m.Progress {
		t.Errorf("parsed as %+v", back)
	}
	for n := range len(b) - len("pear") - len("a\x00") + 1 {
		if _, ok := parseRejoin(b[:n]); ok {
			t.Errorf("the first %d bytes parse", n)
		}
	}
}

func FuzzParseRejoin(f *testing.F) {
	m := &Rejoin{Source: source, Position: protocol.Position{Key: "pear", Path: "a\x00"}}
	f.Add(m.pack()[4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, ok := parseRejoin(b)
		if !ok {
			return
		}
		if again, ok := parseRejoin(m.pack()[4:]); !ok || again.Position != m.Position || again.Progress != m.Progress {
			t.Errorf("%+v became %+v", m, again)
		}
	})
}
