package replicatest

import (
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// link connects two nodes. While it is up it carries a session for each space.
type link struct {
	nodes    [2]*node
	isUp     bool
	conduits []*conduit
	ends     []*end // of all conduits
	drift    drift
}

// conduit is one session and the frames under way, in order, in both directions.
type conduit struct {
	ends [2]*end
}

// end is one side of a conduit.
type end struct {
	link    *link
	peer    *end
	replica *replica
	session *protocol.Session
	inbox   []protocol.Message
	rest    *protocol.Delta // of which a part was merged; nothing else is received before it is whole
	piece   *protocol.Piece // likewise of a snapshot
	stream  *stream         // the snapshot that goes out
	broken  bool            // the session is over
	heard   bool            // what the peer opened the session with was noted
	equal   bool            // the last comparison of digests found them equal
}

func (l *link) connect() {
	l.isUp = true
	l.nodes[0].sim.beginSessions(l)
	l.conduits, l.ends = nil, nil
	for space := range l.nodes[0].replicas {
		c := &conduit{}
		for side := range c.ends {
			r := l.nodes[side].replicas[space]
			c.ends[side] = &end{link: l, replica: r, session: protocol.NewSession(r.durable.State)}
			c.ends[side].session.TellWhole(r.node.sim.plan.whole, r.node.sim.plan.leaf)
		}
		c.ends[0].peer, c.ends[1].peer = c.ends[1], c.ends[0]
		for _, e := range c.ends {
			e.replica.members.Meet(e.peer.replica.node.peer, e.replica.node.wall())
		}
		l.conduits = append(l.conduits, c)
		l.ends = append(l.ends, c.ends[:]...)
	}
}

// cut ends all sessions of the link; what is under way is lost.
func (l *link) cut() (underWay int) {
	for _, e := range l.ends {
		underWay += len(e.inbox)
		e.stream.close()
		e.replica.members.Leave(e.peer.replica.node.peer, e.replica.node.wall())
	}
	l.isUp, l.conduits, l.ends = false, nil, nil
	return underWay
}

// endsOf returns the live ends of a replica's sessions.
func (s *simulation) endsOf(r *replica) []*end {
	var ends []*end
	for _, l := range s.links {
		for _, e := range l.ends {
			if e.replica == r && !e.broken {
				ends = append(ends, e)
			}
		}
	}
	return ends
}

// pump sends the next message of one side, if there is one and the connection can take it.
func (s *simulation) pump(e *end) bool {
	if e.broken || len(e.peer.inbox) >= s.plan.window {
		return false
	}
	if e.session.Tick(s.uptime()) {
		s.counts[RelaysOverdue]++
	}
	m, err := e.session.Next(s.sourceOf(e))
	if err != nil {
		s.failf("node %d: session: next: %v", e.replica.node.index, err)
		return false
	}
	if m == nil {
		return false
	}
	if r, ok := m.(*protocol.Refusal); ok && r.Code == protocol.RefusedKnown {
		s.counts[SurplusTold]++
	}
	s.checkSent(e, m)
	if r, ok := m.(*protocol.Refusal); ok && r.Code == protocol.RefusedStable {
		s.counts[SnapshotsDeclined]++
	}
	s.tracef("node %d -> %d: %s", e.replica.node.index, e.peer.replica.node.index, describe(m))
	e.peer.inbox = append(e.peer.inbox, m)
	return true
}

// deliver hands over the next message that came in. At a distorted delivery the stream misbehaves in a way that no
// QUIC stream does, but that must not harm either.
func (s *simulation) deliver(e *end, distorted bool) bool {
	if e.rest != nil {
		d := e.rest
		e.rest = nil
		s.merge(e, d)
		return true
	}
	if e.piece != nil {
		p := e.piece
		e.piece = nil
		s.mergePiece(e, p)
		return true
	}
	if e.broken || len(e.inbox) == 0 {
		return false
	}
	i, repeat := 0, false
	if distorted {
		switch s.rng.IntN(3) {
		case 0:
			s.counts[FramesLost]++
			s.tracef("node %d: lost %s", e.replica.node.index, describe(e.inbox[0]))
			e.inbox = e.inbox[1:]
			return true
		case 1:
			s.counts[FramesRepeated]++
			repeat = true
		case 2:
			if i = s.rng.IntN(len(e.inbox)); i > 0 {
				s.counts[FramesReordered]++
			}
		}
	}
	m := e.inbox[i]
	if !repeat {
		e.inbox = append(e.inbox[:i:i], e.inbox[i+1:]...)
	}
	s.counts[Messages]++
	step, err := e.session.Receive(m)
	if err != nil {
		s.endSession(e, err)
		return true
	}
	s.hear(e)
	s.do(e, step)
	s.checkAckedBy(e)
	return true
}

// endSession ends a session that the protocol was broken in. Only distorted streams excuse that.
func (s *simulation) endSession(e *end, err error) {
	if s.plan.distortion == 0 {
		s.failf("node %d: session: %v", e.replica.node.index, err)
	}
	s.counts[SessionsEnded]++
	for _, side := range []*end{e, e.peer} {
		side.broken, side.inbox, side.rest, side.piece = true, nil, nil, nil
		side.stream.close()
	}
}

// do does what a step asks for, in the order of its fields.
func (s *simulation) do(e *end, step protocol.Step) {
	n := e.replica.node
	if step.Merge != nil {
		s.merge(e, step.Merge)
	}
	if step.Begun != nil {
		s.beginSnapshot(e, step.Begun)
	}
	if step.Piece != nil {
		s.mergePiece(e, step.Piece)
	}
	if step.Offered {
		s.chooseSource(e.replica)
	}
	if step.LostWrites {
		s.counts[LossProvenByVector]++
		n.doubtIdentity()
	}
	if step.Acked {
		e.replica.members.Acknowledge(e.peer.replica.node.peer, e.session.AckedVector(), e.session.FirmVector())
	}
	if step.Members != nil {
		s.learnMembers(e, step.Members)
	}
	switch step.Compared {
	case protocol.Equal:
		s.counts[EqualDigests]++
		e.equal = true
	case protocol.Differs:
		s.counts[DifferingDigests]++
	}
	s.compared(e, step)
}

// merge merges a delta that came over a session, or the next part of it.
func (s *simulation) merge(e *end, d *protocol.Delta) {
	n := e.replica.node
	m, err := e.replica.merge(d)
	s.noteMerge(n, m, err)
	switch {
	case err != nil:
		s.refuse(e, d, err)
	case !m.New:
		e.session.Surplus(d)
	}
	if m.Foreign {
		s.counts[LossProvenByDelta]++
		n.doubtIdentity()
	}
	if m.Partial {
		e.rest = d
	}
}

func (s *simulation) noteMerge(n *node, m docstore.Merged, err error) {
	switch {
	case err == nil && m.Partial:
		s.counts[PartialMerges]++
	case err == nil && m.New:
		s.counts[Merges]++
	case err == nil:
		s.counts[KnownDeltas]++
	case errors.Is(err, docstore.ErrGap):
		s.counts[GapsRefused]++
	case errors.As(err, new(*docstore.OpenError)):
		s.counts[OpenRefused]++
	case errors.As(err, new(*hlc.DriftError)):
		s.counts[ClockRefused]++
	default:
		s.failf("node %d: merge: %v", n.index, err)
	}
}

func (s *simulation) refuse(e *end, d *protocol.Delta, err error) {
	var open *docstore.OpenError
	if errors.As(err, &open) {
		e.session.RefuseOpen(d, open.Firm, err.Error())
		return
	}
	code := protocol.RefusedClock
	if errors.Is(err, docstore.ErrGap) {
		code = protocol.RefusedGap
	}
	e.session.Refuse(d, code, err.Error())
}

// load notes what a delta made by replica r carries, by the oracle's account: its cells, as they are in state.
func (s *simulation) load(r *replica, d *protocol.Delta, state knowledge) {
	o := s.oracles[r.space]
	carried := cargo{stable: r.state.Stable().Clone()}
	for _, doc := range d.Documents {
		fields, err := codec.ParseCells(doc.Cells)
		if err != nil {
			s.failf("node %d: delta of %s: %v", r.node.index, d.Origin, err)
			return
		}
		for _, f := range fields {
			id, ok := o.cellIDs[cellName{doc.Key, f.Path}]
			if !ok {
				s.failf("node %d: delta of %s names a cell that nobody wrote: %v", r.node.index, d.Origin, cellName{doc.Key, f.Path})
				return
			}
			carried.cells = append(carried.cells, known{id, state.of(id).carried()})
		}
	}
	s.carried[d] = carried
}

func describe(m protocol.Message) string {
	switch m := m.(type) {
	case *protocol.Delta:
		return fmt.Sprintf("delta of %s (%s, %s] with %d documents", m.Origin, m.From, m.To, len(m.Documents))
	case *protocol.Vectors:
		return "vectors " + m.VV.String()
	case *protocol.Opening:
		return fmt.Sprintf("opening of %d entries", m.VV.Entries)
	case *protocol.Branches:
		return fmt.Sprintf("%d branches", len(m.List))
	case *protocol.Ack:
		return "ack " + m.VV.String()
	case *protocol.SnapshotOffer, *protocol.SnapshotRequest, *protocol.SnapshotBegin, *protocol.SnapshotPiece:
		return describeSnapshot(m)
	case *protocol.Members:
		return fmt.Sprintf("%d members", len(m.List))
	case *protocol.Refusal:
		return fmt.Sprintf("refusal of %s (%s, %s]: %s", m.Origin, m.From, m.To, m.Code)
	}
	return fmt.Sprintf("%T", m)
}
