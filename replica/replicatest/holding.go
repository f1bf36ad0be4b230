package replicatest

import (
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// In some runs clocks are hours or a year ahead for a while, and nodes hold and re-issue what they wrote then, as package replica has
// them do. The rest of this file plays its part of the holding, rebase.go of the re-issuing.

const yearMillis = 365 * 24 * 3600 * 1000

// drift is how far the clock of one side's peer was ahead of the true time when it was asked last.
type drift [2]int64

// limitFor returns the greatest time that most of a node's connected peers take, by what it knows of their clocks.
func (s *simulation) limitFor(n *node) hlc.Time {
	walls := s.wallsOf(n)
	if len(walls) == 0 {
		return hlc.Max
	}
	return latest(walls[len(walls)/2])
}

func latest(millis int64) hlc.Time {
	return hlc.FromUnixMilli(millis+hlc.DefaultMaxDrift.Milliseconds()+1) - 1
}

// wallsOf returns what a node takes the clocks of its connected peers to read, sorted.
func (s *simulation) wallsOf(n *node) []int64 {
	var walls []int64
	for _, l := range s.links {
		for side, m := range l.nodes {
			if l.isUp && m == n {
				walls = append(walls, s.millis+l.drift[side])
			}
		}
	}
	slices.Sort(walls)
	return walls
}

// isSound reports whether a node's clock agrees with those of most peers.
func (s *simulation) isSound(n *node) bool {
	walls, off := s.wallsOf(n), 0
	for _, w := range walls {
		if d := s.millis + n.skew - w; max(d, -d) > hlc.DefaultMaxDrift.Milliseconds() {
			off++
		}
	}
	return len(walls) > 0 && 2*off < len(walls)
}

// askClocks lets the two sides of a link learn each other's clock.
func (l *link) askClocks() {
	l.drift = drift{l.nodes[1].skew, l.nodes[0].skew}
}

// beginSessions does what is due before the sessions of a link begin: what earlier ones brought is durable by then.
func (s *simulation) beginSessions(l *link) {
	if !s.plan.holds {
		return
	}
	l.askClocks()
	for _, n := range l.nodes {
		for n.seal() || n.persist() {
		}
	}
}

// hear takes what a peer opened a session with.
func (s *simulation) hear(e *end) {
	x, peer := e.replica.exposure, e.peer.replica.node.peer
	if v, ok := e.session.PeerVectors(); ok && !e.heard {
		e.heard = true
		x.Heard(peer, v)
	}
	if e.heard {
		x.Acked(peer, e.session.AckedVector())
	}
}

func (s *simulation) sourceOf(e *end) protocol.Source {
	if s.plan.holds {
		return guard{source{e}}
	}
	return source{e}
}

// guard gives a session what its peer may be told.
type guard struct{ source }

// Delta implements protocol.Source.
func (g guard) Delta(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*protocol.Delta, error) {
	r, peer := g.replica, g.peer.replica.node.peer
	s := r.node.sim
	limit := s.limitFor(r.node)
	if g.isFree() {
		return r.Delta(origin, from, to, pruned)
	}
	for i := len(r.live) - 1; i >= 0; i-- {
		if d := r.live[i]; d.Origin == origin && d.From <= from && d.To > from && d.To <= to && d.Stable <= pruned && s.received[d] != 0 && s.received[d] <= limit {
			s.counts[RelayedWhileHolding]++
			return d, nil
		}
	}
	snap, err := r.node.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	a := docstore.Admission{Limit: limit, Own: r.durable.owned.MayTell(peer)}
	built, named, verdict, err := docstore.BuildAdmitted(snap, spaceNumber(r.space), origin, from, to, pruned, &a)
	switch {
	case err != nil:
		return nil, r.unreadable(err)
	case verdict == docstore.TooFar:
		s.counts[PushesHeld]++
		return nil, protocol.ErrWait
	case verdict == docstore.OwnBeyond:
		r.note(peer, limit)
		return nil, protocol.ErrWait
	}
	for d := range named.All() {
		r.exposure.Handed(peer, d)
	}
	d := &protocol.Delta{Delta: *built}
	s.load(r, d, r.disk)
	return d, nil
}

// isFree reports whether all that is durable may be told, and notes that it is.
func (g guard) isFree() bool {
	r, peer := g.replica, g.peer.replica.node.peer
	if r.isHolding() || !r.durable.owned.MayTellAll(peer, r.durable.VV) {
		return false
	}
	for id := range r.durable.owned {
		r.exposure.Handed(peer, crdt.Dot{Replica: id, Time: r.durable.VV.Get(id)})
	}
	return true
}

// isHolding reports whether something durable may be told nobody, for longer than a note takes.
func (r *replica) isHolding() bool {
	return r.durable.horizon.Max() > r.node.sim.limitFor(r.node) || r.durable.owned.IsReissuing()
}

// Begin implements protocol.SnapshotSource.
func (g guard) Begin(q *protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) {
	if !g.isFree() {
		g.replica.note(g.peer.replica.node.peer, g.replica.node.sim.limitFor(g.replica.node))
		if g.replica.isHolding() {
			return nil, protocol.ErrHeld
		}
		return nil, protocol.ErrWait
	}
	return g.source.Begin(q)
}

// note stores that a peer may be told of what was written here, and will be in the next while.
func (r *replica) note(peer protocol.PeerID, limit hlc.Time) {
	n := r.node
	span := hlc.FromUnixMilli(n.sim.holding.Int64N(600_000))
	r.state.Hand(n.group.batch, peer, func(id crdt.ReplicaID) hlc.Time {
		t := r.state.VV().Get(id)
		if t <= limit && id.IsLaneOf(n.self) {
			return t + span
		}
		return min(t, limit)
	})
}

// someHolding does, now and then, what goes on beside the exchange while clocks are wrong.
func (s *simulation) someHolding() {
	if !s.plan.holds {
		return
	}
	switch d := s.holding.IntN(1000); {
	case d < 15:
		s.setClockFar(s.nodes[s.holding.IntN(len(s.nodes))])
	case d < 100:
		s.tendClocks(s.links[s.holding.IntN(len(s.links))])
	case d < 130:
		if n := s.nodes[s.holding.IntN(len(s.nodes))]; !n.isDown {
			s.rebase(n)
		}
	}
}

// setClockFar sets the clock of a node hours or a year ahead, or right.
func (s *simulation) setClockFar(n *node) {
	s.counts[ClockFarAhead]++
	switch s.holding.IntN(5) {
	case 0:
		n.skew = yearMillis
	case 1:
		n.skew = s.holding.Int64N(48 * 3600 * 1000)
	case 2:
		n.skew = s.holding.Int64N(10 * 60 * 1000)
	default:
		n.skew = 0
	}
	s.tracef("node %d: clock is %d ms ahead", n.index, n.skew)
}

// tendClocks lets both sides ask for the other's clock, and look again at what waits.
func (s *simulation) tendClocks(l *link) {
	if l.isUp {
		l.askClocks()
	}
	for _, e := range l.ends {
		e.session.Resume()
	}
}

// tendAll does the same everywhere, once all clocks are right, and reports whether something was re-issued.
func (s *simulation) tendAll() bool {
	if !s.plan.holds {
		return false
	}
	clocks := fmt.Sprint(s.millis)
	for _, l := range s.links {
		s.tendClocks(l)
		clocks += fmt.Sprint(" ", l.drift)
	}
	moved := clocks != s.tended // what waited may be sent now
	s.tended = clocks
	for _, n := range s.nodes {
		for s.failure == nil && s.rebase(n) {
			if moved = true; n.isDown {
				s.reopen(n)
			}
		}
		for _, l := range s.links {
			if !l.isUp {
				moved = true
				l.connect()
			}
		}
	}
	return moved
}

// letTimeCome moves the true time on to the greatest time that is left, if that is beyond what nodes take.
func (s *simulation) letTimeCome() bool {
	var last int64
	for _, n := range s.nodes {
		last = max(last, n.clock.Last().UnixMilli())
	}
	if !s.plan.holds || last <= s.millis {
		return false
	}
	if last > s.millis+hlc.DefaultMaxDrift.Milliseconds() {
		s.counts[HeldUntilTheirTime]++
	}
	s.millis = last
	return true
}
