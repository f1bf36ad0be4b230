package replicatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// In some runs clocks are hours or a year ahead for a while, and nodes hold and re-issue what they wrote then, as package replica has
// them do. The rest of this file plays its part.

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
	if r.durable.horizon.Max() > r.node.sim.limitFor(r.node) || !r.durable.owned.MayTellAll(peer, r.durable.VV) {
		return false
	}
	for id := range r.durable.owned {
		r.exposure.Handed(peer, crdt.Dot{Replica: id, Time: r.durable.VV.Get(id)})
	}
	return true
}

// Begin implements protocol.SnapshotSource.
func (g guard) Begin(q *protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) {
	if !g.isFree() {
		g.replica.note(g.peer.replica.node.peer, g.replica.node.sim.limitFor(g.replica.node))
		return nil, nil
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

// rebase re-issues what a node holds, if it may, and reports whether it did, or has to ask anew.
func (s *simulation) rebase(n *node) bool {
	if n.isDown || n.isSuspect() || !s.isSound(n) {
		return false
	}
	for n.seal() || n.persist() {
	}
	limit := min(s.limitFor(n), latest(s.millis+n.skew))
	holds := make([][]docstore.Hold, len(n.replicas))
	any, asked := false, false
	for i, r := range n.replicas {
		snap, err := n.store.Snapshot()
		if err != nil {
			s.failf("node %d: %v", n.index, err)
			return false
		}
		holds[i], err = r.state.Holds(snap, r.exposure, limit)
		snap.Close()
		if err != nil {
			s.failf("node %d: holds: %v", n.index, err)
			return false
		}
		for _, h := range holds[i] {
			any = true
			for _, b := range r.state.Blockers(r.exposure, h, s.neighbours(n), n.life()) {
				asked = true
				s.counts[RebasesBlocked]++
				s.tracef("node %d: to re-issue %+v it waits for %x, %+v", n.index, h, b.Peer[:4], b)
				if b.Restart {
					s.restart(n, b.Peer)
				}
			}
		}
	}
	past := soundPast(n, holds)
	if !any || asked || past > limit || !s.isTrulyAlone(n, holds) {
		return false
	}
	s.reissue(n, holds, past)
	return s.failure == nil
}

// neighbours returns the peers that a node is configured to have.
func (s *simulation) neighbours(n *node) []protocol.PeerID {
	var ids []protocol.PeerID
	for _, l := range s.links {
		for side, m := range l.nodes {
			if m == n {
				ids = append(ids, l.nodes[1-side].peer)
			}
		}
	}
	return ids
}

// restart ends the session with a peer, so that the next one begins with what the peer holds.
func (s *simulation) restart(n *node, peer protocol.PeerID) {
	for _, l := range s.links {
		if l.isUp && (l.nodes[0] == n && l.nodes[1].peer == peer || l.nodes[1] == n && l.nodes[0].peer == peer) {
			s.cut(l)
			l.connect()
		}
	}
}

func soundPast(n *node, holds [][]docstore.Hold) (past hlc.Time) {
	for i, r := range n.replicas {
		for d := range r.state.Horizon().All() {
			for _, h := range holds[i] {
				if h.Replica == d.Replica {
					d.Time = h.After
				}
			}
			past = max(past, d.Time)
		}
	}
	return past
}

// isTrulyAlone looks at all nodes whether any has what is about to be re-issued. One may, although it does not say so, only if a store was
// put back to an older state: what it passed on before it has forgotten.
func (s *simulation) isTrulyAlone(n *node, holds [][]docstore.Hold) bool {
	for i := range n.replicas {
		held := s.heldBy(s.oracles[i], holds[i])
		for _, m := range s.nodes {
			if m == n {
				continue
			}
			r := m.replicas[i]
			sound := func(k knowledge) knowledge { return s.without(k, i) }
			has := sound(r.now).meets(held) || sound(r.disk).meets(held)
			for _, b := range m.backups {
				has = has || sound(b.disk[i]).meets(held)
			}
			for _, e := range s.endsOf(r) {
				for _, message := range e.inbox {
					if d, ok := message.(*protocol.Delta); ok {
						has = has || knowledgeOf(s.carried[d].cells, s.isSoundCell(i)).meets(held)
					}
				}
			}
			if !has {
				continue
			}
			if s.counts[BackupsRestored]+s.counts[RestoredSameID] == 0 {
				s.failf("node %d is about to re-issue what node %d has", n.index, m.index)
			}
			s.counts[RebasesSpared]++
			return false
		}
	}
	return true
}

// heldBy returns the transactions of holds.
func (s *simulation) heldBy(o *oracle, holds []docstore.Hold) (held txSet) {
	for _, t := range o.txs {
		for _, h := range holds {
			if t.status != vanished && t.dot.Replica == h.Replica && t.dot.Time > h.After && t.dot.Time <= h.UpTo {
				held = held.with(t.index)
			}
		}
	}
	return held
}

func (k knowledge) meets(set txSet) bool {
	return slices.ContainsFunc(k, func(in inclusion) bool { return in.meets(set) })
}

func knowledgeOf(list []known, counts func(cell int) bool) (k knowledge) {
	for _, one := range list {
		if counts(one.cell) {
			k = append(k, one.inclusion)
		}
	}
	return k
}

// isSoundCell tells the cells of documents that were never damaged: who got another cell from a damaged replica may lack what the account
// says that it has.
func (s *simulation) isSoundCell(space int) func(cell int) bool {
	return func(cell int) bool { return !s.hurt[space][s.oracles[space].cells[cell].key] }
}

func (s *simulation) without(k knowledge, space int) (sound knowledge) {
	counts := s.isSoundCell(space)
	for cell, in := range k {
		if counts(cell) {
			sound = append(sound, in)
		}
	}
	return sound
}

var errCrashed = errors.New("crashed on purpose")

// reissue gives what a node holds sound times, in parts, and crashes now and then between two of them.
func (s *simulation) reissue(n *node, holds [][]docstore.Hold, past hlc.Time) {
	s.rebases++
	for _, l := range s.links {
		if l.nodes[0] == n || l.nodes[1] == n {
			s.cut(l)
		}
	}
	next := docstore.NameHolds(holds, func() crdt.ReplicaID { return crdt.ReplicaID(1 + s.holding.Uint64N(1<<32-1)) })
	s.tracef("node %d: re-issues what was written under %v", n.index, next)
	var clock hlc.Clock
	clock.Observe(past)
	first := true
	for i, r := range n.replicas {
		for done := len(holds[i]) == 0; !done && s.failure == nil; first = false {
			var err error
			if done, err = s.reissuePart(r, holds[i], next, &clock, first); errors.Is(err, errCrashed) {
				s.counts[RebasesCrashed]++
				s.stop(n)
				return
			} else if errors.Is(err, docstore.ErrCorrupt) && len(s.hurt[r.space]) > 0 {
				s.mendHeld(r, err)
				return
			} else if err != nil {
				s.failf("node %d: re-issue: %v", n.index, err)
			}
		}
	}
	n.clock = clock
	s.counts[Rebases]++
	for _, r := range n.replicas {
		r.durable, r.live = r.snapshotState(), nil
		r.checkVectors()
		s.verify(r)
	}
}

// mendHeld does what package replica does after a rebase that met damage: it goes back to what the store has, and mends that.
func (s *simulation) mendHeld(r *replica, why error) {
	n := r.node
	s.counts[RebasesMended]++
	s.tracef("node %d: re-issue: %v", n.index, why)
	s.stop(n)
	n.open()
	n.self = 0
	r.mendBroken()
	r.exclusively(func(snap store.Snapshot) error {
		_, err := docstore.Verify(context.Background(), snap, spaceNumber(r.space), docstore.VerifyOptions{Repair: n.store.Commit})
		return err
	})
}

func (s *simulation) reissuePart(r *replica, holds []docstore.Hold, next map[crdt.ReplicaID]crdt.ReplicaID, clock *hlc.Clock, first bool) (done bool, err error) {
	n := r.node
	snap, err := n.store.Snapshot()
	if err != nil {
		return false, err
	}
	defer snap.Close()
	group := newGroup(len(n.replicas))
	b := group.batch
	if id, given := docstore.AfterReissue(n.self, next); given && first {
		n.self = id
		docstore.PutIdentity(b, docstore.Identity{Replica: n.self, Anchor: fmt.Sprint(n.anchor)})
	}
	res, err := r.state.Reissue(snap, b, holds, clock, n.physical(), n.life(), 1+s.holding.IntN(12))
	if err != nil {
		return false, err
	}
	r.state.Flush(b)
	// One that is broken off has to ask anew, and whoever is gone for good will not answer.
	mayCrash := s.plan.crashes && s.counts[NodesVanished] == 0
	if s.plan.crashes && s.holding.IntN(20) == 0 && mayCrash {
		return false, errCrashed // before it is durable
	}
	if err := n.store.Commit(b); err != nil {
		return false, err
	}
	s.rename(r, holds, res)
	r.ever.Join(r.state.VV())
	r.firm.Join(r.state.Firm())
	if s.plan.crashes && s.holding.IntN(20) == 0 && mayCrash {
		return false, errCrashed
	}
	return res.Done, nil
}

// rename tells the oracle of new dots. A transaction all of whose effects were replaced by later held ones has none: it shares that of the
// next one, before which nobody can have anything of it.
func (s *simulation) rename(r *replica, holds []docstore.Hold, res docstore.Reissued) {
	o := s.oracles[r.space]
	all := slices.SortedFunc(maps.Keys(res.Names), func(a, b crdt.Dot) int { return cmp.Compare(a.Time, b.Time) })
	for i := 1; i < len(all); i++ {
		if res.Names[all[i]].Time <= res.Names[all[i-1]].Time {
			s.failf("node %d: %s came after %s, and is re-issued before it", r.node.index, all[i], all[i-1])
		}
	}
	for _, h := range holds {
		var olds []crdt.Dot
		for old := range res.Names {
			if old.Replica == h.Replica {
				olds = append(olds, old)
			}
		}
		slices.SortFunc(olds, crdt.Dot.Compare)
		for _, t := range o.txs {
			if t.status == vanished || t.dot.Replica != h.Replica || t.dot.Time <= h.After || t.dot.Time > h.UpTo {
				continue
			}
			i, named := slices.BinarySearchFunc(olds, t.dot, crdt.Dot.Compare)
			switch {
			case i < len(olds):
				o.rename(t, res.Names[olds[i]], named)
				s.counts[TransactionsReissued]++
			case res.Done && r.state.VV().Get(h.Next) > 0:
				o.rename(t, crdt.Dot{Replica: h.Next, Time: r.state.VV().Get(h.Next)}, false)
			case res.Done && len(s.hurt[r.space]) > 0: // what it wrote was damaged
				s.counts[WritesLost]++
				s.lost[t] = true
			case res.Done:
				s.failf("node %d: transaction %s was held and is gone", r.node.index, t.dot)
			}
		}
	}
}

// rename gives a transaction another dot, by the rules of the documentation.
func (o *oracle) rename(t *tx, dot crdt.Dot, named bool) {
	old := t.dot
	if o.byDot[old] == t.index {
		delete(o.byDot, old)
	}
	if named {
		o.byDot[dot] = t.index
	}
	t.former = append(t.former, old)
	for i := range t.effects {
		if ev := &t.effects[i].event; ev.Author != 0 {
			if ev.Author == old.Replica && ev.Stamp == old.Time {
				ev.Stamp = dot.Time
			}
			if ev.Author == old.Replica {
				ev.Author = dot.Replica
			}
			ev.Stamp = min(ev.Stamp, dot.Time)
		}
	}
	if t.author == old.Replica && t.stamp == old.Time {
		t.stamp = dot.Time
	}
	t.stamp = min(t.stamp, dot.Time)
	if t.author == old.Replica {
		t.author = dot.Replica
	}
	t.dot = dot
}

// hasReissued reports whether a backup holds, under their former dots, transactions that were re-issued since.
func (s *simulation) hasReissued(b *backup) bool {
	for i, o := range s.oracles {
		vv := s.onDisk(&replica{node: &node{store: b.store, sim: s}, space: i})
		for _, t := range o.txs {
			if slices.ContainsFunc(t.former, vv.Covers) {
				return true
			}
		}
	}
	return false
}
