package wire

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

type stored struct {
	t     *testing.T
	store *memstore.Store
	space *docstore.Space
}

func newStored(t *testing.T) *stored {
	n := &stored{t: t, store: memstore.New()}
	space, err := docstore.Load(n.snapshot(), 1)
	n.must(err)
	n.space = space
	return n
}

func (n *stored) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

func (n *stored) snapshot() store.Snapshot {
	snap, err := n.store.Snapshot()
	n.must(err)
	return snap
}

func (n *stored) commit(fn func(over *docstore.Overlay, b *store.Batch)) {
	b := new(store.Batch)
	fn(&docstore.Overlay{Batch: b, Snapshot: n.snapshot()}, b)
	n.space.Flush(b)
	n.must(n.store.Commit(b))
}

// write sets documents of about 200 bytes in one transaction.
func (n *stored) write(at hlc.Time, keys []string) (d *crdt.Delta) {
	path, err := crdt.Path{"text"}.Pack()
	n.must(err)
	rng := rand.New(rand.NewPCG(1, uint64(at)))
	n.commit(func(over *docstore.Overlay, b *store.Batch) {
		tx := n.space.Begin(over, crdt.EventAt(crdt.Dot{Replica: 1, Time: at}))
		for _, key := range keys {
			n.must(tx.SetLeaves(key, path, []crdt.Leaf{{Path: path, Value: crdt.StringValue(incompressible(rng, 160))}}))
		}
		d, err = tx.Commit(b)
		n.must(err)
	})
	return d
}

func incompressible(rng *rand.Rand, size int) string {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(' ' + rng.IntN(95))
	}
	return string(b)
}

// TestSnapshotOfMostlyEqualReplicasCostsWhatDiffers counts the bytes of all frames of a snapshot, both ways, between two replicas of 20,000
// documents of about 200 bytes.
func TestSnapshotOfMostlyEqualReplicasCostsWhatDiffers(t *testing.T) {
	const documents = 20_000
	for _, c := range []struct{ differing, limit int }{{1, 50 << 10}, {20, 130 << 10}, {200, 900 << 10}} {
		s, e := newStored(t), newStored(t)
		var keys []string
		for i := range documents {
			keys = append(keys, fmt.Sprintf("document/%06d", i))
		}
		clock := hlc.Time(1)
		for i := 0; i < documents; i, clock = i+1000, clock+1 {
			d := s.write(clock, keys[i:i+1000])
			e.commit(func(over *docstore.Overlay, b *store.Batch) {
				_, err := e.space.Merge(over, b, d, 2, func(hlc.Time) error { return nil })
				e.must(err)
			})
		}
		for i := range c.differing {
			s.write(clock, keys[i*documents/c.differing:][:1])
			clock++
		}
		s.commit(func(*docstore.Overlay, *store.Batch) { s.space.RaiseStable(s.space.VV().Clone()) })
		bytes := e.take(s)
		t.Logf("%d of 20,000 documents differ: %d bytes", c.differing, bytes)
		if !e.space.VV().Equal(s.space.VV()) || e.space.Digest() != s.space.Digest() {
			t.Errorf("%d differ: not level at the end", c.differing)
		}
		if bytes > c.limit {
			t.Errorf("%d differ: %d bytes, want at most %d", c.differing, bytes, c.limit)
		}
	}
}

// take takes a snapshot and returns the bytes of its frames.
func (n *stored) take(o *stored) (bytes int) {
	passed := func(m protocol.Message) any {
		frame, err := Marshal(nil, m)
		n.must(err)
		bytes += len(frame)
		got, err := Unmarshal(frame)
		n.must(err)
		return got
	}
	q := n.space.SnapshotRequest()
	from, stable, _ := n.space.KnownFrom(o.space.Stable())
	var err error
	q.Known, err = docstore.ReadKnownRanges(context.Background(), n.snapshot(), 1, 1<<63+1, stable, from, docstore.UsualGrain())
	n.must(err)
	reader, begin, err := docstore.OpenSnapshot(o.snapshot(), 1, passed(&q).(*protocol.SnapshotRequest))
	n.must(err)
	defer reader.Close()
	begin = passed(begin).(*protocol.SnapshotBegin)
	anyTime := func(hlc.Time) error { return nil }
	_, err = n.space.BeginSnapshot(protocol.PeerID{1}, begin, 2, anyTime)
	n.must(err)
	for {
		next, err := reader.Next()
		n.must(err)
		p := passed(next).(*protocol.SnapshotPiece)
		var m docstore.MergedPiece
		for m.Partial = true; m.Partial; {
			n.commit(func(over *docstore.Overlay, b *store.Batch) {
				m, err = n.space.MergePiece(over, b, &protocol.Piece{SnapshotPiece: p, Of: begin, Known: q.Known}, 2, anyTime)
				n.must(err)
			})
		}
		if m.End {
			return bytes
		}
	}
}
