package replicatest

import (
	"fmt"
	"math/rand/v2"

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
	absent bool     // it reads seldom, so that much of what it has was deleted, and forgotten, before it reads again
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
			if !c.absent {
				s.follow(c)
			}
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
	if s.leaves.readers || s.leaves.absence {
		return
	}
	for _, c := range s.clients {
		c.absent = s.client.IntN(2) == 0
	}
}

// mayWrite reports whether a node takes transactions.
func (n *node) mayWrite() bool {
	return !n.isDown && !n.isAbsent && !n.isSuspect() && (n.self != 0 || len(n.poisoned) == 0)
}

// move gives a client another home. It takes along what it has read, and what is not settled as far as it knows.
func (s *simulation) move(c *client) { s.moveTo(c, s.nodes[s.rng.IntN(len(s.nodes))]) }

func (s *simulation) moveTo(c *client, n *node) {
	if !s.leaves.readers && !c.absent && s.chance(0.3) { // else it has what was there some time ago
		s.follow(c)
	}
	c.home = n
	c.waits, c.behind, c.begins = nil, 0, false
	s.counts[ClientsMoved]++
	s.tracef("client %d moves to node %d", c.index, c.home.index)
	if !s.leaves.readers && (!c.absent || s.chance(0.1)) {
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
				if c.absent {
					s.follow(c)
				}
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
