package replicatest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// write is a transaction being made: by the replica, and by the oracle beside it.
type write struct {
	sim   *simulation
	r     *replica
	event crdt.Event
	tx    *docstore.Transaction
	draft *draft
	err   error
}

// transact runs a random transaction on a replica.
func (s *simulation) transact(r *replica) {
	s.transactWith(r, func(w *write) {
		for range 1 + s.rng.IntN(4) {
			w.operate()
		}
	})
}

func (s *simulation) transactWith(r *replica, operations func(*write)) {
	n := r.node
	over := n.overlay()
	defer over.Snapshot.Close()
	at, err := n.clock.Peek(n.physical())
	if err != nil {
		s.failf("node %d: clock: %v", n.index, err)
		return
	}
	if seen := r.state.Horizon().Max(); at <= seen {
		s.failf("node %d: a transaction at %s is not later than %s, which its author has seen", n.index, at, seen)
		return
	}
	n.identify()
	w := &write{sim: s, r: r, event: s.event(crdt.Dot{Replica: n.self, Time: at})}
	w.tx = r.state.Begin(over, w.event)
	w.draft = newDraft(s.oracles[r.space], r.now, n.self, func(cell int) []int { return r.liveNow(over, cell) })
	operations(w)
	if w.err != nil {
		s.failf("node %d: transaction: %v", n.index, w.err)
		return
	}
	delta, err := w.tx.Commit(n.group.batch)
	if err != nil {
		s.failf("node %d: commit: %v", n.index, err)
		return
	}
	w.settle(over, delta)
}

// event is what a transaction is made in the name of: now and then somebody else's, as a gateway does.
func (s *simulation) event(dot crdt.Dot) crdt.Event {
	ev := crdt.EventAt(dot)
	if s.chance(0.05) {
		s.counts[ReissuedWrites]++
		ev.Author = crdt.ReplicaID(1 + s.rng.IntN(3))
		ev.Stamp -= hlc.Time(s.rng.IntN(5000) << hlc.LogicalBits)
	}
	return ev
}

// settle compares what the transaction came to with what the oracle expects, and tells the oracle.
func (w *write) settle(over *docstore.Overlay, delta *crdt.Delta) {
	s, r, n := w.sim, w.r, w.r.node
	effects := w.draft.effects()
	if (delta == nil) != (len(effects) == 0) {
		s.failf("node %d: transaction %s: it changed %d cells, and its delta is %v", n.index, w.event.Dot, len(effects), delta)
		return
	}
	if delta == nil {
		s.counts[EmptyTransactions]++
		return
	}
	s.counts[Transactions]++
	n.clock.Observe(w.event.Dot.Time)
	r.state.Claim(n.group.batch, w.event.Dot.Replica, n.life())
	o := s.oracles[r.space]
	if _, used := o.byDot[w.event.Dot]; used || n.poisoned[n.self] {
		s.failf("node %d: dot %s is used again", n.index, w.event.Dot)
		return
	}
	t := &tx{dot: w.event.Dot, stamp: w.event.Stamp, author: w.event.Author, node: n.index, effects: effects}
	o.add(t)
	n.group.txs = append(n.group.txs, t)
	n.group.oracle = append(n.group.oracle, o)
	part := &n.group.parts[r.space]
	part.local = append(part.local, delta)
	part.risen.Advance(t.dot)
	for _, e := range effects {
		k := known{e.cell, r.now.of(e.cell)}
		k.sure = k.sure.with(t.index)
		r.now.set(k.cell, k.inclusion)
		part.known = append(part.known, k)
		part.written = append(part.written, written{t.dot.Replica, k})
	}
	s.tracef("node %d: transaction %d %s changes %d cells in %d documents", n.index, t.index, t.dot, len(effects), len(delta.Documents))
	for _, doc := range delta.Documents {
		r.checkDocument(over, doc.Key)
	}
	r.checkVectors()
}

// operate makes one random change.
func (w *write) operate() {
	s := w.sim
	key := fmt.Sprintf("doc/%d", s.rng.IntN(s.plan.keys))
	p := s.path(3)
	if hurt := s.hurt[w.r.space]; hurt[key] || hurt["large"] {
		return
	}
	var err error
	switch d := s.rng.IntN(20); {
	case d < 7:
		err = w.setLeaves(key, p, []crdt.Leaf{{Path: p, Value: s.value()}})
	case d < 10:
		err = w.setLeaves(key, p, s.object(p, 3))
	case d < 13:
		w.draft.remove(key, p)
		err = w.tx.Remove(key, p)
	case d < 16:
		by := int64(s.rng.IntN(21) - 10)
		w.draft.increment(key, p, by)
		err = w.tx.Increment(key, p, by)
	case d < 17:
		err = w.replace(key)
	case d < 18:
		err = w.settleConflicts(key, p)
	case d < 19:
		w.draft.remove(key, "")
		err = w.tx.Remove(key, "")
	case s.plan.large:
		s.counts[LargeDocuments]++
		err = w.setLeaves("large", "", s.manyFields())
	default:
		err = w.setLeaves("large", p, []crdt.Leaf{{Path: p, Value: s.value()}})
	}
	if w.err == nil {
		w.err = err
	}
}

func (w *write) setLeaves(key string, p crdt.PathKey, leaves []crdt.Leaf) error {
	w.draft.set(key, p, leaves)
	return w.tx.SetLeaves(key, p, leaves)
}

// replace saves the document as it shows with a few fields changed, added and left out, or something else.
func (w *write) replace(key string) error {
	s := w.sim
	before, err := w.tx.View(key, "")
	if err != nil {
		return err
	}
	var leaves []crdt.Leaf
	if s.chance(0.8) {
		for p, v := range before.Leaves() {
			if s.chance(0.15) {
				continue
			}
			if v.Kind() == crdt.Counter && s.chance(0.5) {
				v = crdt.IntValue(v.Int() + int64(s.rng.IntN(3)))
			} else if s.chance(0.15) {
				v = s.value()
			}
			leaves = append(leaves, crdt.Leaf{Path: p, Value: v})
		}
	}
	if s.chance(0.4) {
		leaves = tidy(append(leaves, s.object("", 2)...))
	}
	if err := w.tx.Replace(key, leaves); err != nil {
		return err
	}
	after, err := w.tx.View(key, "")
	if err != nil {
		return err
	}
	w.draft.replace(key, w.event.Dot, after)
	return shows(after, leaves)
}

// shows reports whether a document shows the given leaves and nothing else.
func shows(doc *crdt.Document, leaves []crdt.Leaf) error {
	rest := leaves
	for p, v := range doc.Leaves() {
		if v.Kind() == crdt.Counter {
			v = crdt.IntValue(v.Int())
		}
		if len(rest) == 0 || rest[0].Path != p || asInt(rest[0].Value) != v {
			return fmt.Errorf("replace: the document shows %v at %s and ought to show %v", v, p, rest)
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("replace: the document does not show %v", rest)
	}
	return nil
}

func asInt(v crdt.Value) crdt.Value {
	if v.Kind() == crdt.Counter {
		return crdt.IntValue(v.Int())
	}
	return v
}

var elements = []string{"a", "b", "c"}

// path returns a random path, of at most depth elements; seldom the empty one.
func (s *simulation) path(depth int) crdt.PathKey {
	n := 1 + s.rng.IntN(depth)
	if s.chance(0.03) {
		n = 0
	}
	p := make(crdt.Path, n)
	for i := range p {
		p[i] = elements[s.rng.IntN(len(elements))]
	}
	return pack(p)
}

func pack(p crdt.Path) crdt.PathKey {
	k, err := p.Pack()
	if err != nil {
		panic(err) // the paths are ours
	}
	return k
}

// object returns the leaves of a random object at p, at most an empty one.
func (s *simulation) object(p crdt.PathKey, size int) []crdt.Leaf {
	leaves := []crdt.Leaf{}
	for range s.rng.IntN(size + 1) {
		leaves = append(leaves, crdt.Leaf{Path: p + s.path(2), Value: s.value()})
	}
	if leaves = tidy(leaves); len(leaves) == 0 {
		return []crdt.Leaf{{Path: p, Value: crdt.EmptyMapValue()}}
	}
	return leaves
}

// tidy sorts leaves and drops those at or below another.
func tidy(leaves []crdt.Leaf) []crdt.Leaf {
	slices.SortStableFunc(leaves, func(a, b crdt.Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) })
	out := leaves[:0]
	for _, l := range leaves {
		if n := len(out); n == 0 || !strings.HasPrefix(string(l.Path), string(out[n-1].Path)) {
			out = append(out, l)
		}
	}
	return out
}

// manyFields returns the leaves of an object that takes several chunks.
func (s *simulation) manyFields() []crdt.Leaf {
	var leaves []crdt.Leaf
	for _, a := range elements {
		for _, b := range elements {
			for _, c := range elements[:1+s.rng.IntN(len(elements))] {
				text := strings.Repeat("x", 200+s.rng.IntN(700))
				leaves = append(leaves, crdt.Leaf{Path: pack(crdt.Path{a, b, c}), Value: crdt.StringValue(text)})
			}
		}
	}
	return leaves
}

func (s *simulation) value() crdt.Value {
	n := s.rng.IntN(100)
	switch s.rng.IntN(8) {
	case 0:
		return crdt.FloatValue(float64(n) / 4)
	case 1:
		return crdt.StringValue(fmt.Sprintf("text %d", n))
	case 2:
		return crdt.BytesValue([]byte{byte(n), 0, 255})
	case 3:
		return crdt.ArrayValue(crdt.IntValue(int64(n)), crdt.StringValue("x"))
	case 4:
		return crdt.BoolValue(n%2 == 0)
	case 5:
		return crdt.EmptyMapValue()
	case 6:
		return crdt.Value{}
	}
	return crdt.IntValue(int64(n))
}
