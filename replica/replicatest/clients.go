package replicatest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// In some runs there are clients that are not replicas. Each has a home, reads there now and then what is durable, writes by what it has
// read into a queue of its own, and gives its home what is in the queue, again and again until it hears of the outcome. It
// moves to other nodes, with all that. What its home does for it is what package replica does.

// client is one of them.
type client struct {
	index int
	id    crdt.ReplicaID
	space int
	home  *node
	clock int64 // milliseconds that it is ahead

	seq    uint64
	last   int64
	read   map[int][]seenEntry // what it has read live in each cell
	queue  []*clientTx
	waits  *outcome // for what it gave; nil: for nothing
	behind int      // times that its home was

	copies map[string]string // what it has followed, by document
	vector crdt.VersionVector
	begins bool     // the home has noted that it has less than the client, who reads there as soon as that is durable
	ahead  *reading // nil: it reads nothing from a home that has less than it
}

// seenEntry is an entry that a client has read: the dot that it had then, and whose it is.
type seenEntry struct {
	dot crdt.Dot
	tx  int
}

// clientTx is a transaction of a client, with what the client had read when it was made.
type clientTx struct {
	client *client
	seq    uint64
	at     hlc.Time
	ops    []clientOp
	bad    bool // to be rejected
}

type clientOp struct {
	docstore.ClientOp
	seen map[int][]seenEntry
}

// outcome is what a home says to what a client gave it, once the group is durable.
type outcome struct {
	upTo  uint64
	group *group // nil: it was durable already
}

// someClients lets clients do something, now and then.
func (s *simulation) someClients() {
	if len(s.clients) == 0 || s.client.IntN(4) > 0 {
		return
	}
	c := s.clients[s.client.IntN(len(s.clients))]
	if c.begins || c.ahead != nil {
		s.follow(c)
	}
	s.drawing(s.client, func() {
		switch d := s.rng.IntN(100); {
		case d < 30:
			s.writeOffline(c)
		case d < 60:
			s.push(c, 1+s.rng.IntN(3), false)
		case d < 80:
			s.hearOutcome(c, s.chance(0.3))
		case d < 90:
			s.readAtHome(c)
		case d < 96:
			s.follow(c)
		default:
			s.move(c)
		}
	})
}

// drawing lets do take its random numbers from another source.
func (s *simulation) drawing(from *rand.Rand, do func()) {
	was := s.rng
	s.rng = from
	do()
	s.rng = was
}

func (s *simulation) drawClients(p *plan) {
	share := 0.3
	if p.holds { // few runs come to that
		share = 0.6
	}
	if s.client.Float64() >= share || s.leaves.clients {
		return
	}
	p.clients = 1 + s.client.IntN(6)
}

func (s *simulation) beginClients() {
	for i := range s.plan.clients {
		s.clients = append(s.clients, &client{
			index: i, id: crdt.ReplicaID(s.client.Uint64() | 1), space: s.client.IntN(s.plan.spaces), home: s.nodes[s.client.IntN(len(s.nodes))],
			read: make(map[int][]seenEntry), clock: int64(s.client.IntN(20_000) - 10_000),
		})
	}
}

// mayWrite reports whether a node takes transactions.
func (n *node) mayWrite() bool {
	return !n.isDown && !n.isAbsent && !n.isSuspect() && (n.self != 0 || len(n.poisoned) == 0)
}

// move gives a client another home. It takes along what it has read, and what is not settled as far as it knows.
func (s *simulation) move(c *client) { s.moveTo(c, s.nodes[s.rng.IntN(len(s.nodes))]) }

func (s *simulation) moveTo(c *client, n *node) {
	if !s.leaves.readers && s.chance(0.3) { // else it has what was there some time ago
		s.follow(c)
	}
	c.home = n
	c.waits, c.behind, c.begins = nil, 0, false
	s.counts[ClientsMoved]++
	s.tracef("client %d moves to node %d", c.index, c.home.index)
	if !s.leaves.readers {
		s.follow(c)
	}
}

// welcome lets clients come to a node that has just joined, and has nothing yet.
func (s *simulation) welcome(n *node) {
	if s.leaves.readers {
		return
	}
	for _, c := range s.clients {
		s.drawing(s.client, func() {
			if s.chance(0.8) {
				s.moveTo(c, n)
			}
		})
	}
}

// readAtHome reads some documents of those that are durable at the client's home.
func (s *simulation) readAtHome(c *client) {
	n := c.home
	if n.isDown || n.isAbsent {
		return
	}
	o := s.oracles[c.space]
	snap, err := n.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return
	}
	defer snap.Close()
	for _, key := range s.clientKeys() {
		if s.hurt[c.space][key] || s.chance(0.3) {
			continue
		}
		doc, ok, err := docstore.Read(snap, spaceNumber(c.space), key)
		if err != nil {
			s.failf("node %d: %v", n.index, err)
			return
		}
		for _, cell := range o.docs[key] {
			c.read[cell] = nil
			if !ok {
				continue
			}
			for _, e := range doc.Document.Cell(o.cells[cell].path).Live {
				if tx, known := o.byDot[e.Dot]; known {
					c.read[cell] = append(c.read[cell], seenEntry{e.Dot, tx})
				}
			}
		}
	}
	s.counts[ClientReads]++
}

func (s *simulation) clientKeys() []string {
	keys := make([]string, 0, s.plan.keys+1)
	for i := range s.plan.keys {
		keys = append(keys, fmt.Sprintf("doc/%d", i))
	}
	return append(keys, "large")
}

// writeOffline makes a transaction by what the client has read, and gives it to nobody yet.
func (s *simulation) writeOffline(c *client) {
	if len(c.queue) > 20 {
		return
	}
	c.seq++
	c.last = max(c.last+1, s.millis+c.clock)
	t := &clientTx{client: c, seq: c.seq, at: hlc.FromUnixMilli(c.last), bad: s.chance(0.05)}
	keys := s.clientKeys()
	for range 1 + s.rng.IntN(3) {
		t.ops = append(t.ops, s.clientOp(c, keys[s.rng.IntN(len(keys))]))
	}
	c.queue = append(c.queue, t)
}

func (s *simulation) clientOp(c *client, key string) clientOp {
	p := s.path(3)
	op := clientOp{ClientOp: docstore.ClientOp{Key: key, Path: p}, seen: make(map[int][]seenEntry)}
	switch d := s.rng.IntN(10); {
	case d < 3:
		op.Kind, op.Leaves = docstore.ClientSet, []crdt.Leaf{{Path: p, Value: s.value()}}
	case d < 5:
		op.Kind, op.Leaves = docstore.ClientSet, s.object(p, 3)
	case d < 7:
		op.Kind = docstore.ClientRemove
	case d < 8:
		op.Kind, op.Path = docstore.ClientRemove, ""
	default:
		op.Kind, op.By = docstore.ClientIncrement, int64(s.rng.IntN(21)-10)
	}
	o := s.oracles[c.space]
	for _, cell := range o.docs[key] {
		path := o.cells[cell].path
		if !op.Path.Contains(path) && !path.Contains(op.Path) {
			continue
		}
		for _, e := range c.read[cell] {
			op.seen[cell] = append(op.seen[cell], e)
			op.Seen = append(op.Seen, crdt.SeenDot{Path: path, Dot: e.dot})
		}
	}
	return op
}

// push gives the home the first transactions of the queue, also those that it may have had already.
func (s *simulation) push(c *client, n int, force bool) {
	if !c.home.mayWrite() {
		return
	}
	for _, t := range c.queue[:min(n, len(c.queue))] {
		if !s.give(c.home, t, force || c.behind > 4) || s.failure != nil {
			return
		}
		if c.waits == nil || c.waits.upTo < t.seq {
			c.waits = &outcome{upTo: t.seq, group: c.home.unsettled()}
		}
	}
}

// unsettled returns the group with the newest of what is not durable yet; nil if there is nothing.
func (n *node) unsettled() *group {
	if !n.group.isEmpty() {
		return n.group
	}
	return n.inFlight
}

// hearOutcome lets the client hear what came of what it gave, or not, if that is lost on the way.
func (s *simulation) hearOutcome(c *client, lost bool) {
	w := c.waits
	if w == nil || w.group != nil && !w.group.isDone && !w.group.isLost {
		return
	}
	c.waits = nil
	if lost || w.group != nil && w.group.isLost {
		s.counts[ClientAcksLost]++
		return
	}
	for len(c.queue) > 0 && c.queue[0].seq <= w.upTo {
		s.checkSettled(c.home, c.queue[0])
		c.queue = c.queue[1:]
	}
}

// give makes one transaction of a client at a node, and reports whether that is settled there.
func (s *simulation) give(n *node, t *clientTx, force bool) bool {
	c := t.client
	for _, op := range t.ops {
		if hurt := s.hurt[c.space]; hurt[op.Key] {
			return false
		}
	}
	r := n.replicas[c.space]
	over := n.overlay()
	defer over.Snapshot.Close()
	rec, _, err := r.state.Client(over, c.id)
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return false
	}
	if t.seq <= rec.Last {
		s.counts[ClientDuplicates]++
		if _, rejected := rec.Rejection(t.seq); rejected != t.bad {
			s.failf("node %d: transaction %d of client %d is said to be rejected: %v", n.index, t.seq, c.index, rejected)
		}
		return true
	}
	at, err := n.clock.Peek(n.physical())
	if err != nil {
		s.failf("node %d: clock: %v", n.index, err)
		return false
	}
	var dot crdt.Dot
	var why *docstore.ClientRejection
	if t.bad {
		why = &docstore.ClientRejection{Code: "bad"}
	} else {
		n.identify()
		w := &docstore.ClientWrite{Client: c.id, Self: n.self, Time: at, Force: force, Stamp: rec.StampAt(t.at, n.physical(), at)}
		for _, op := range t.ops {
			w.Ops = append(w.Ops, op.ClientOp)
		}
		var ok bool
		if dot, ok = s.makeFor(r, over, t, w); !ok {
			return false
		}
		rec.Stamp = w.Stamp
	}
	rec.Settle(t.seq, dot, why, r.state.Stable())
	rec.Used = s.millis
	r.state.PutClient(n.group.batch, c.id, &rec)
	return true
}

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

// settleClients lets every client give all that it has, where it can.
func (s *simulation) settleClients() {
	s.drawing(s.client, func() {
		for _, c := range s.clients {
			if s.chance(0.7) {
				s.readAtHome(c)
				s.writeOffline(c)
			}
			s.push(c, len(c.queue), true)
		}
	})
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
