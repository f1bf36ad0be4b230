package replicatest

import (
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// wall is the node's wall clock.
func (n *node) wall() time.Time { return time.UnixMilli(n.sim.millis + n.skew) }

// loadMembers reads what the replica had stored of the other members.
func (r *replica) loadMembers(snap store.Snapshot) error {
	members, err := docstore.Members(snap, spaceNumber(r.space))
	r.members = protocol.NewRoster(r.node.peer, members)
	return err
}

// storeMembers adds what is new of members to a batch.
func (n *node) storeMembers(b *store.Batch) {
	for _, r := range n.replicas {
		r.members.TakeDirty(func(m protocol.Member, known bool) bool {
			if known {
				docstore.PutMember(b, spaceNumber(r.space), m)
			} else {
				docstore.ForgetMember(b, spaceNumber(r.space), m.Peer)
			}
			return true
		})
	}
}

// tellMembers tells all peers what the replica knows of other members.
func (r *replica) tellMembers(vectors bool) {
	s := r.node.sim
	for _, e := range s.endsOf(r) {
		var others []protocol.Member
		for _, m := range r.members.List(r.node.wall()) {
			if m.Peer != e.peer.replica.node.peer {
				others = append(others, m)
			}
		}
		e.session.TellMembers(others, s.plan.maxOffline.Milliseconds()/16, vectors)
	}
}

func (s *simulation) learnMembers(e *end, list []protocol.Member) {
	s.counts[MembersTold] += int64(len(list))
	e.replica.members.Learn(list, e.replica.node.wall())
	e.replica.checkMembers()
}

// evict lets some member count no longer, if that may be.
func (r *replica) evict() {
	s := r.node.sim
	other := s.nodes[s.forget.IntN(len(s.nodes))]
	if r.members.Evict(other.peer, r.node.wall()) == nil {
		s.counts[MembersEvicted]++
		s.tracef("node %d: evicts node %d", r.node.index, other.index)
	}
}

// stableByMembers returns what all members that count hold, as far as the replica knows.
func (r *replica) stableByMembers() crdt.VersionVector {
	return r.members.Stable(r.durable.firm(), r.node.wall(), r.node.sim.plan.maxOffline)
}

// checkMembers: no member is thought to hold more than it ever had on disk. A stream that loses or swaps messages may break that,
// for vectors are told as differences to what came before; it does no harm.
func (r *replica) checkMembers() {
	s := r.node.sim
	if s.plan.distortion > 0 {
		return
	}
	for _, n := range s.nodes {
		m, _ := r.members.Get(n.peer)
		if ever := n.replicas[r.space].ever; !m.VV.LessOrEqual(ever) {
			s.failf("node %d thinks that node %d holds %s, which never had more than %s on disk", r.node.index, n.index, m.VV, ever)
		}
		if firm := n.replicas[r.space].firm; !m.Firm.LessOrEqual(firm) {
			s.failf("node %d thinks that node %d holds all of %s, which never had more of it on disk than %s", r.node.index, n.index, m.Firm, firm)
		}
	}
}
