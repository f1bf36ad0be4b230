package docstore

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ask returns what n asks a source for that offers a snapshot.
func (n *node) ask(o *node, grain Grain) *protocol.SnapshotRequest {
	n.t.Helper()
	q := n.space.SnapshotRequest()
	from, stable, ok := n.space.KnownFrom(o.space.Stable())
	if !ok {
		return &q
	}
	var err error
	if q.Known, err = ReadKnownRanges(context.Background(), n.snapshot(), 1, 7, stable, from, grain); err != nil {
		n.t.Fatal(err)
	}
	return &q
}

// traffic is what a snapshot came to.
type traffic struct{ requests, ranges, equal, pieces, documents int }

// take lets n take a snapshot from o, telling what it has. between is called before each piece is merged.
func (n *node) take(o *node, grain Grain, between func(*protocol.SnapshotPiece)) (sum traffic) {
	n.t.Helper()
	for {
		q := n.ask(o, grain)
		reader, begin, err := OpenSnapshot(o.snapshot(), 1, q)
		if err == nil {
			_, err = n.space.BeginSnapshot(source, begin, n.id, anyTime)
		}
		if err != nil {
			n.t.Fatal(err)
		}
		sum.requests++
		if q.Known != nil {
			sum.ranges += len(q.Known.Parts)
		}
		for again := false; !again; {
			p, err := reader.Next()
			if err != nil {
				n.t.Fatal(err)
			}
			if between != nil {
				between(p)
			}
			sum.pieces++
			sum.documents += len(p.Documents)
			if p.Equal {
				sum.equal++
			}
			again = reader.IsLast(p)
			for partial := true; partial; {
				b := new(store.Batch)
				m, err := n.space.MergePiece(&Overlay{Batch: b, Snapshot: n.snapshot()}, b, &protocol.Piece{SnapshotPiece: p, Of: begin, Known: q.Known}, n.id, anyTime)
				if err != nil && !errors.Is(err, ErrGap) {
					n.t.Fatal(err)
				}
				n.commit(b)
				if m.End {
					reader.Close()
					return sum
				}
				again = again || err != nil
				partial = m.Partial
			}
		}
		reader.Close()
	}
}

// alike returns two replicas of which the second lacks some writes and removals that are stable at the first, and forgotten.
func alike(t *testing.T, documents, differing int) (s, e *node, at hlc.Time) {
	s, e = newNode(t, 1), newNode(t, 2)
	at = s.setAll(1, documents, func(i int) string { return fmt.Sprint(i) }, 500)
	e.pull(s)
	for i := range differing {
		at++
		if key := fmt.Sprint("d", i*documents/differing); i%4 == 0 {
			s.remove(at, key, "")
		} else {
			s.set(at, key, "x", "other")
		}
	}
	s.space.RaiseStable(s.space.VV().Clone())
	s.prune(1 << 20)
	return s, e, at
}

func (n *node) expectTaken(s *node) {
	n.t.Helper()
	if n.space.Rejoining() != nil || !n.space.Stable().Equal(s.space.Stable()) || !s.space.VV().LessOrEqual(n.space.VV()) {
		n.t.Errorf("at the end: mark %v, stable %s, vv %s", n.space.Rejoining(), n.space.Stable(), n.space.VV())
	}
	s.pull(n)
	equal(n.t, s, n)
}

func TestSnapshotOfMostlyEqualReplicasBringsWhatDiffers(t *testing.T) {
	s, e, _ := alike(t, 5000, 8)
	sum := e.take(s, UsualGrain(), nil)
	t.Logf("%+v", sum)
	if sum.requests != 1 || sum.equal == 0 || sum.documents > 8*8 || sum.pieces > 40 {
		t.Errorf("of 8 documents in 5000 that differ: %+v", sum)
	}
	e.expectTaken(s)
}

func TestWhatAReplicaHasIsToldInSeveralRequests(t *testing.T) {
	s, e, _ := alike(t, 500, 5)
	sum := e.take(s, Grain{Ranges: 10, Width: 8}, nil)
	if sum.requests < 500/(10*8) || sum.equal == 0 || sum.documents > 5*16 {
		t.Errorf("%+v", sum)
	}
	e.expectTaken(s)
}

// What the replica writes while the snapshot is on its way, or gets from others, makes a range differ that was equal when it told of
// it. Here it gets what the source has removed and forgotten: that must not stay.
func TestRangeThatChangedSinceIsAskedForAgain(t *testing.T) {
	const late = "d350~"
	s, e, at := alike(t, 500, 5)
	third := newNode(t, 3)
	removed := third.set(5, late, "x", "third")
	if err := s.merge(removed); err != nil {
		t.Fatal(err)
	}
	s.remove(at+1, late, "")
	s.prune(1 << 20)
	changes, came := 0, false
	sum := e.take(s, Grain{Ranges: 10, Width: 8}, func(p *protocol.SnapshotPiece) {
		at++
		switch {
		case !p.Equal:
		case p.Contains(protocol.Position{Key: late}) && !came:
			came = true
			if err := e.merge(removed); err != nil {
				t.Fatal(err)
			}
			changes++
		case changes < 3:
			e.set(at+10, p.Lower.Key+"~", "own", "unsent")
			changes++
		}
	})
	if !came || changes < 3 || sum.requests <= changes {
		t.Errorf("%d changes, %+v", changes, sum)
	}
	if doc, ok, _ := Read(e.snapshot(), 1, late); ok && doc.Document.IsLive() {
		t.Error("what was removed is back")
	}
	e.expectTaken(s)
}

// A removal is told by what is observed alone. Two cells that differ in that are not equal, or whoever is served next would not hear
// of it.
func TestRangesDifferByWhatIsObserved(t *testing.T) {
	s, e, third := newNode(t, 1), newNode(t, 2), newNode(t, 3)
	s.set(1, "k", "x", "old")
	s.remove(2, "k", "")
	s.set(3, "l", "x", "both")
	e.pull(s)
	s.set(6, "m", "x", "new")
	third.pull(s)
	if err := s.merge(third.set(7, "k", "x", "third")); err != nil {
		t.Fatal(err)
	}
	s.remove(10, "k", "")
	s.space.RaiseStable(crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 6}))
	s.commit(new(store.Batch))
	if sum := e.take(s, UsualGrain(), nil); sum.documents != 3 || sum.equal != 0 {
		t.Errorf("%+v", sum)
	}
	e.expectTaken(s)
	third.pull(e)
	equal(t, s, e, third)
}

func TestEqualPieceThatNobodyAskedForIsRefused(t *testing.T) {
	s, e, _ := alike(t, 20, 2)
	take := e.begin(s, 10, 1<<20)
	known := &protocol.KnownRanges{Round: 7}
	high := &protocol.KnownRanges{Round: 7, Stable: crdt.NewVersionVector(crdt.Dot{Replica: 9, Time: 9})}
	for name, p := range map[string]*protocol.Piece{
		"without having told":      {SnapshotPiece: &protocol.SnapshotPiece{Equal: true}, Of: take.begin},
		"by another stable vector": {SnapshotPiece: &protocol.SnapshotPiece{Equal: true}, Of: take.begin, Known: high},
		"with documents":           {SnapshotPiece: &protocol.SnapshotPiece{Equal: true, Documents: make([]crdt.DocumentDelta, 1)}, Of: take.begin, Known: known},
		"up to within a document":  {SnapshotPiece: &protocol.SnapshotPiece{Equal: true, Range: protocol.Range{Upper: protocol.Position{Key: "d", Path: "x"}}}, Of: take.begin, Known: known},
	} {
		b := new(store.Batch)
		if m, err := e.space.MergePiece(&Overlay{Batch: b, Snapshot: e.snapshot()}, b, p, e.id, anyTime); !errors.Is(err, ErrMalformed) || m.New || b.Len() > 0 {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	lie := &protocol.Piece{SnapshotPiece: &protocol.SnapshotPiece{Equal: true, Fingerprint: 1}, Of: take.begin, Known: known}
	for _, want := range []error{ErrGap, ErrMalformed} { // it may be true once that what is here has changed
		b := new(store.Batch)
		if _, err := e.space.MergePiece(&Overlay{Batch: b, Snapshot: e.snapshot()}, b, lie, e.id, anyTime); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, _, ok := e.space.KnownFrom(crdt.VersionVector{}); ok {
		t.Error("what is here is told of a range that has changed")
	}
}
