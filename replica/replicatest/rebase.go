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
