package docstore

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Exposure is what a host learns, while it runs, of who holds the writes of its own. Together with Own.Handed, which also
// outlives a crash, it tells which of them no peer can have.
//
// It rests on two promises. A session begins with the peer's word on what its durable state names, and that includes all
// that it took in earlier sessions. And what a session hands out is told to Handed first.
type Exposure struct {
	peers map[protocol.PeerID]*exposed
	named crdt.VersionVector // own dots that received deltas named: somebody has them
}

// exposed is one peer since the host began to run.
type exposed struct {
	vv     crdt.VersionVector // what it holds
	told   crdt.VersionVector // what it holds, or has a part of
	handed crdt.VersionVector // own dots that it was handed since it said so
}

// NewExposure returns the exposure of a host that has just begun to run.
func NewExposure() *Exposure {
	return &Exposure{peers: make(map[protocol.PeerID]*exposed)}
}

// Heard takes what a peer opened a session with.
func (x *Exposure) Heard(p protocol.PeerID, v protocol.Vectors) {
	told := v.VV.Clone()
	told.Join(v.Ahead)
	x.peers[p] = &exposed{vv: v.VV, told: told}
}

// IsHeard reports whether the peer has opened a session since the host began to run.
func (x *Exposure) IsHeard(p protocol.PeerID) bool { return x.peers[p] != nil }

// Handed notes that own dots were given to the session with a peer, to be sent.
func (x *Exposure) Handed(p protocol.PeerID, d crdt.Dot) {
	if e := x.peers[p]; e != nil {
		e.handed.Advance(d)
	}
}

// Acked takes what a peer acknowledged.
func (x *Exposure) Acked(p protocol.PeerID, vv crdt.VersionVector) {
	if e := x.peers[p]; e != nil {
		e.told.Join(vv)
	}
}

// Named takes a dot of this store's own that a received delta named.
func (x *Exposure) Named(d crdt.Dot) { x.named.Advance(d) }

// Received returns the IDs of the space, but for self and its lanes, all of whose writes somebody else has.
func (s *Space) Received(x *Exposure, self crdt.ReplicaID) (ids []crdt.ReplicaID) {
	for id, own := range s.owned {
		if !id.IsLaneOf(self) && own.Next == 0 && x.received(id) >= s.vv.Get(id) && !s.isNext(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *Space) isNext(id crdt.ReplicaID) bool {
	for _, own := range s.owned {
		if own.Next == id {
			return true
		}
	}
	return false
}

// received returns a time of r up to which somebody else is known to have it, at least in part.
func (x *Exposure) received(r crdt.ReplicaID) hlc.Time {
	t := x.named.Get(r)
	for _, e := range x.peers {
		t = max(t, e.told.Get(r))
	}
	return t
}
