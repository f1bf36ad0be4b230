package replica

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Bounds of the live cache. A peer that falls further behind is served from the log.
const (
	liveDeltas = 512
	liveBytes  = 8 << 20
)

// liveCache keeps the newest deltas of a space with their frames, own and received ones, so that each is
// encoded once however many peers take it.
type liveCache struct {
	deltas []*liveDelta // oldest first
	bytes  int
}

func (c *liveCache) add(d *liveDelta) {
	if d.frame == nil {
		return
	}
	// What the documents hold is in the frame, and there it may take a fraction of the memory.
	m := &protocol.Delta{Delta: crdt.Delta{Origin: d.message.Origin, From: d.message.From, To: d.message.To, Stable: d.message.Stable}}
	c.deltas = append(c.deltas, &liveDelta{message: m, frame: d.frame, max: d.max})
	c.bytes += len(d.frame)
	drop := 0
	for c.bytes > liveBytes || len(c.deltas)-drop > liveDeltas {
		c.bytes -= len(c.deltas[drop].frame)
		c.deltas[drop] = nil
		drop++
	}
	c.deltas = c.deltas[drop:]
}

// find returns a delta of origin that begins at from or before and ends after it, at most at to, and whose encoder had pruned no more of
// origin than up to pruned.
func (c *liveCache) find(origin crdt.ReplicaID, from, to, pruned hlc.Time) *liveDelta {
	for i := len(c.deltas) - 1; i >= 0; i-- {
		m := c.deltas[i].message
		if m.Origin == origin && m.From <= from && m.To > from && m.To <= to && m.Stable <= pruned {
			return c.deltas[i]
		}
	}
	return nil
}

// source serves one session: from the live cache if it has what comes next, else from the log.
type source struct {
	space *Space
	peer  PeerID
	frame []byte // of the delta that was returned last, if it is known
	// wantsNote: something waits for a note that the peer may be told of it.
	wantsNote bool

	snapshot *docstore.SnapshotReader // being sent
}

// Delta implements protocol.Source. A delta from the cache comes without documents: its frame has them.
func (f *source) Delta(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*protocol.Delta, error) {
	s := f.space
	s.mu.Lock()
	d := s.live.find(origin, from, to, pruned)
	free := s.isFree(f.peer)
	if free {
		s.handAll(f.peer)
	}
	s.mu.Unlock()
	f.frame = nil
	switch {
	// What was received names nothing of this node's own that nobody else has.
	case d != nil && (free || d.max != 0 && d.max <= s.r.clockLimit()):
		f.frame = d.frame
		return d.message, nil
	case !free:
		return f.guarded(origin, from, to, pruned)
	}
	snap, err := s.r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	built, err := docstore.Build(snap, s.number, origin, from, to, pruned)
	if err != nil {
		return nil, s.unreadable(err)
	}
	return &protocol.Delta{Delta: *built}, nil
}
