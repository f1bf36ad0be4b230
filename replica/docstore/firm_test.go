package docstore

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// leftOut returns x, which wrote, removed what somebody else had written, forgot the removal, and wrote there anew; y, which lacks that last
// write and has forgotten the removal too; s, which has everything, and remembers; and e, which s brought up to the time before the last
// write: what was removed is alive there. late is that last write, as x sent it.
func leftOut(t *testing.T) (x, y, s, e *node, late *crdt.Delta) {
	t.Helper()
	q := newNode(t, 9)
	x, y, s, e = newNode(t, 1), newNode(t, 4), newNode(t, 2), newNode(t, 3)
	q.set(5, "d", "f", "removed")
	x.set(10, "other", "f", "x")
	for _, n := range []*node{x, y, s, e} {
		n.pull(q)
	}
	e.pull(x)
	x.remove(13, "d", "")
	x.set(18, "other", "f", "y")
	s.pull(x)
	y.pull(x)
	x.prune(100)
	y.prune(100)
	late = x.set(19, "d", "f", "anew")
	if err := s.merge(late); err != nil {
		t.Fatal(err)
	}
	if err := e.merge(s.build(1, 10, 18)); err != nil {
		t.Fatal(err)
	}
	if live := liveAt(t, e); len(live) != 1 || live[0].Dot.Replica != 9 {
		t.Fatalf("before the last write is here, live are %v", live)
	}
	return x, y, s, e, late
}

func liveAt(t *testing.T, n *node) []crdt.Entry {
	t.Helper()
	doc, _, err := Read(n.snapshot(), 1, "d")
	if err != nil {
		t.Fatal(err)
	}
	return doc.Document.Cell(mustPack(t, crdt.Path{"f"})).Live
}

// e has all of 1 up to 18 by its vv. But what 1 removed at 13 was left out, for the write at 19 took it over, and the frame of that comes
// from one who has forgotten what was removed.
func TestDeltaThatForgotTooMuchIsRefused(t *testing.T) {
	x, _, s, e, late := leftOut(t)
	if got, want := e.space.Firm(), crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 10}, crdt.Dot{Replica: 9, Time: 5}); !got.Equal(want) {
		t.Errorf("firm is %s, want %s", got, want)
	}
	for range 2 {
		var open *OpenError
		if err := e.merge(late); !errors.As(err, &open) || open.Origin != 1 || open.Stable != 18 || open.Firm != 10 {
			t.Errorf("a delta from one who has forgotten more: %v", err)
		}
		e.reload()
	}
	if _, err := Build(x.snapshot(), 1, 1, 18, 19, 10); !errors.Is(err, protocol.ErrPruned) {
		t.Errorf("for e the one who has forgotten builds a delta: %v", err)
	}
	d, err := Build(s.snapshot(), 1, 1, 18, 19, 10)
	if err == nil {
		err = e.merge(d)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !e.space.IsClosed() || len(e.space.OpenEntries()) > 0 || !e.space.Firm().Equal(e.space.VV()) {
		t.Errorf("with all of it, vv is %s and firm %s", e.space.VV(), e.space.Firm())
	}
	equal(t, x, s, e)
	if err := e.merge(x.set(20, "d", "f", "again")); err != nil {
		t.Errorf("once it is closed: %v", err)
	}
}

func TestSnapshotBringsWhatWasLeftOut(t *testing.T) {
	x, _, _, e, late := leftOut(t)
	x.set(20, "other", "f", "z")
	e.begin(x, 10, 1<<20).all()
	equal(t, x, e)
	if len(e.space.OpenEntries()) > 0 || e.merge(late) != nil {
		t.Errorf("after a snapshot it is open at %v", e.space.OpenEntries())
	}
}

// A writer may be lost before all its writes have got round. Whoever has effects of them stays open; a snapshot of one that has none, and has
// forgotten what was removed, makes what comes before them whole.
func TestSnapshotMakesWholeWhatStaysOpen(t *testing.T) {
	_, y, _, e, _ := leftOut(t)
	e.begin(y, 10, 1<<20).all()
	e.reload()
	if open := e.space.OpenEntries(); len(open) != 1 || open[0] != (crdt.Dot{Replica: 1, Time: 18}) {
		t.Errorf("after a snapshot it is open at %v", open)
	}
	if live := liveAt(t, e); len(live) > 0 {
		t.Errorf("live are %v", live)
	}
	if err := e.merge(y.set(30, "d", "f", "of another")); err != nil {
		t.Fatal(err)
	}
	if err := y.merge(e.set(40, "d", "f", "e's")); err != nil {
		t.Fatal(err)
	}
	equal(t, y, e)
}

func TestFirmOfAnOlderStoreIsWhatIsCertain(t *testing.T) {
	_, _, _, e, _ := leftOut(t)
	e.space.RaiseStable(crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 7}))
	b := new(store.Batch)
	e.commit(b)
	key := vectorKey(1, 1)
	value, _, err := e.snapshot().Get(key)
	if err != nil || len(value) != 36 {
		t.Fatalf("the entry has %d bytes, %v", len(value), err)
	}
	for _, c := range []struct {
		name  string
		value []byte
		firm  uint64
	}{
		{"as it is", value[4:], 10},
		{"without firm", value[4:28], 7},
		{"firm beyond vv", binary.BigEndian.AppendUint64(append([]byte(nil), value[4:28]...), 19), 0},
		{"firm below stable", binary.BigEndian.AppendUint64(append([]byte(nil), value[4:28]...), 6), 0},
	} {
		b := new(store.Batch)
		b.Put(key, seal(key, append(make([]byte, 4), c.value...)))
		if err := e.store.Commit(b); err != nil {
			t.Fatal(err)
		}
		s, err := Load(e.snapshot(), 1)
		switch {
		case c.firm == 0:
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v", c.name, err)
			}
		case err != nil || uint64(s.Firm().Get(1)) != c.firm:
			t.Errorf("%s: %v, want a firm entry of %d", c.name, err, c.firm)
		}
	}
}
