package replicatest

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// makeFor commits a client's transaction, and compares what it comes to with what the oracle expects.
func (s *simulation) makeFor(r *replica, over *docstore.Overlay, t *clientTx, w *docstore.ClientWrite) (crdt.Dot, bool) {
	n, c, o := r.node, t.client, s.oracles[r.space]
	d := newDraft(o, r.now, 0, func(cell int) []int { return r.liveNow(over, cell) })
	for _, op := range t.ops {
		for _, cell := range o.docs[op.Key] {
			d.view(cell) // as it is before
		}
	}
	delta, err := r.state.CommitClient(over, n.group.batch, w)
	switch {
	case errors.Is(err, docstore.ErrBehind):
		c.behind++
		s.counts[HomesBehind]++
		if w.Force || !s.isBehind(r, over, t) {
			s.failf("node %d: transaction %d of client %d: %v", n.index, t.seq, c.index, err)
		}
		return crdt.Dot{}, false
	case err != nil:
		s.failf("node %d: transaction %d of client %d: %v", n.index, t.seq, c.index, err)
		return crdt.Dot{}, false
	case !w.Force && s.isMissing(r, over, t):
		s.failf("node %d: transaction %d of client %d was made, and it names what is not here", n.index, t.seq, c.index)
	}
	c.behind = 0
	lane := crdt.ReplicaID(1) // one without entries, for where nothing changed it is not known which it was
	if delta != nil {
		lane = delta.Origin
	}
	d.self, d.node = lane, n
	d.present = func(dot crdt.Dot) crdt.Dot {
		now, err := r.state.PresentDot(over, dot)
		if err != nil {
			s.failf("node %d: %v", n.index, err)
		}
		return now
	}
	ev := crdt.Event{Dot: crdt.Dot{Replica: lane, Time: w.Time}, Stamp: w.Stamp, Author: c.id}
	for _, op := range t.ops {
		d.applyFor(op, ev)
	}
	if delta != nil {
		s.checkLane(r, d, w.Self)
	}
	s.tracef("node %d: transaction %d of client %d, stamp %s", n.index, t.seq, c.index, w.Stamp)
	before := len(o.txs)
	(&write{sim: s, r: r, event: ev, draft: d}).settle(over, delta)
	s.counts[ClientTransactions]++
	if len(o.txs) == before {
		return crdt.Dot{}, true
	}
	made := o.txs[before]
	s.checkOnce(n, t, made)
	made.of, made.seq = c, t.seq
	return ev.Dot, true
}

// isBehind reports whether what a client has read is not all here.
func (s *simulation) isBehind(r *replica, over *docstore.Overlay, t *clientTx) bool {
	return s.anySeen(r, over, t, func(d crdt.Dot) bool { return !r.state.VV().Covers(d) })
}

// isMissing is isBehind for what not even shows in the cells that it was read in.
func (s *simulation) isMissing(r *replica, over *docstore.Overlay, t *clientTx) bool {
	return s.anySeen(r, over, t, func(d crdt.Dot) bool { return !r.state.Horizon().Covers(d) })
}

func (s *simulation) anySeen(r *replica, over *docstore.Overlay, t *clientTx, holds func(crdt.Dot) bool) bool {
	for _, op := range t.ops {
		for _, entries := range op.seen {
			for _, e := range entries {
				d, err := r.state.PresentDot(over, e.dot)
				if err != nil {
					s.failf("node %d: %v", r.node.index, err)
				}
				if !d.IsZero() && holds(d) {
					return true
				}
			}
		}
	}
	return false
}

// checkOnce: a node makes a transaction a second time only if a backup was restored in between, or it never came to be.
func (s *simulation) checkOnce(n *node, t *clientTx, made *tx) {
	for _, o := range s.oracles[t.client.space].txs {
		if o != made && o.of == t.client && o.seq == t.seq && o.node == n.index && o.status != vanished && !o.rolledBack {
			s.failf("node %d: transaction %d of client %d is made again: %s and %s", n.index, t.seq, t.client.index, o.dot, made.dot)
		}
	}
}

// checkSettled: what the client is told was made was made, or changed nothing.
func (s *simulation) checkSettled(n *node, t *clientTx) {
	s.counts[ClientsAcknowledged]++
	snap, err := n.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return
	}
	defer snap.Close()
	rec, _, err := n.replicas[t.client.space].state.Client(snap, t.client.id)
	if err != nil || rec.Last < t.seq && n.lives == 0 {
		s.failf("node %d: it has settled transaction %d of client %d, and its record ends at %d: %v", n.index, t.seq, t.client.index, rec.Last, err)
	}
}

// checkLane: the lane of a transaction has no entry that the client had not seen where the transaction changed something, and no
// lower one would have done.
func (s *simulation) checkLane(r *replica, d *draft, self crdt.ReplicaID) {
	o := s.oracles[r.space]
	kept := func(lane crdt.ReplicaID, changed bool) bool {
		for _, v := range d.views {
			if changed && !v.writes && len(v.killed) == 0 {
				continue
			}
			for _, i := range v.before {
				if o.txs[i].dot.Replica == lane && !slices.Contains(v.killed, i) {
					return true
				}
			}
		}
		return false
	}
	if kept(d.self, true) || d.isWrong {
		s.failf("node %d: the lane %s has entries that its client has not seen", r.node.index, d.self)
	}
	for i := range crdt.MaxLanes {
		lane := self.Lane(i)
		if lane == d.self {
			if i > 0 {
				s.counts[LanesTaken]++
			}
			return
		}
		if !kept(lane, false) && !d.isCounted {
			s.failf("node %d: a client's transaction goes by lane %s, and %s is free", r.node.index, d.self, lane)
		}
	}
	s.failf("node %d: %s is no lane of %s", r.node.index, d.self, self)
}

// sees reports whether a client had seen the entry of a transaction in a cell: it has read it, or is its author.
func (d *draft) sees(op clientOp, ev crdt.Event, cell, tx int) bool {
	if e := d.oracle.entryOf(cell, tx); e.Author == ev.Author && e.Stamp <= ev.Stamp {
		return true
	}
	// Only the node that has given a transaction another name knows both, and forgets that if it is put back to before.
	t := d.oracle.txs[tx]
	knowsNames := t.node == d.node.index && d.node.lives == 0
	return slices.ContainsFunc(op.seen[cell], func(e seenEntry) bool { return e.tx == tx && (knowsNames || d.present(e.dot) == t.dot) })
}

// killSeen is kill for what a client had seen.
func (d *draft) killSeen(op clientOp, ev crdt.Event, cell int) {
	v := d.view(cell)
	for _, i := range v.before {
		seen := d.sees(op, ev, cell, i)
		if seen && !slices.Contains(v.killed, i) {
			v.killed = append(slices.Clone(v.killed), i)
		}
		if v.event.Author != 0 && !seen && d.oracle.txs[i].dot.Replica == d.self {
			d.isWrong = true // what it had counted on from goes with what was counted
		}
	}
	v.writes, v.value, v.event = false, crdt.Value{}, crdt.Event{}
}

// applyFor does by the rules of the documentation what an operation of a client does.
func (d *draft) applyFor(op clientOp, ev crdt.Event) {
	if op.Kind == docstore.ClientIncrement {
		d.incrementFor(op, ev)
		return
	}
	for _, c := range d.oracle.docs[op.Key] {
		path := d.oracle.cells[c].path
		above := op.Kind == docstore.ClientSet && strings.HasPrefix(string(op.Path), string(path))
		if above || strings.HasPrefix(string(path), string(op.Path)) {
			d.killSeen(op, ev, c)
		}
	}
	for _, l := range op.Leaves {
		v := d.view(d.oracle.cell(op.Key, l.Path))
		v.writes, v.value = true, l.Value
	}
}

func (d *draft) incrementFor(op clientOp, ev crdt.Event) {
	cell := d.oracle.cell(op.Key, op.Path)
	v := d.view(cell)
	n, at := op.By, crdt.Event{Stamp: ev.Stamp, Author: ev.Author}
	add := func(old crdt.Entry) {
		if old.Value.Kind() != crdt.Counter {
			return
		}
		n += old.Value.Int()
		at.Stamp = max(at.Stamp, old.Stamp)
		if old.Author != ev.Author {
			at.Author = d.self
		}
	}
	if v.writes {
		add(crdt.Entry{Value: v.value, Stamp: cmp.Or(v.event.Stamp, ev.Stamp), Author: cmp.Or(v.event.Author, ev.Author)})
	} else {
		for _, i := range v.before {
			if d.oracle.txs[i].dot.Replica != d.self || slices.Contains(v.killed, i) {
				continue
			}
			old := d.oracle.entryOf(cell, i)
			add(old)
			if old.Value.Kind() != crdt.Counter && !d.sees(op, ev, cell, i) {
				d.isWrong = true
			}
			v.killed = append(slices.Clone(v.killed), i)
		}
	}
	d.isCounted = true
	v.writes, v.value, v.event = true, crdt.CounterValue(n), at
}

// entryOf returns the entry of a transaction in a cell.
func (o *oracle) entryOf(cell, index int) crdt.Entry {
	t := o.txs[index]
	for _, h := range o.touching[cell] {
		if h.tx == index {
			return crdt.Entry{Dot: t.dot, Stamp: cmp.Or(h.effect.event.Stamp, t.stamp), Author: cmp.Or(h.effect.event.Author, t.author), Value: h.effect.value}
		}
	}
	return crdt.Entry{Dot: t.dot, Stamp: t.stamp, Author: t.author}
}
