package crdttest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// clientOp is one operation of a client that is not a replica, with what it had read.
type clientOp struct {
	kind   int // 0 set, 1 remove, 2 increment
	path   crdt.PathKey
	leaves []crdt.Leaf
	n      int64
	seen   []crdt.SeenDot
}

func (o clientOp) String() string {
	what := [...]string{"set " + tell(o.leaves), "remove", fmt.Sprintf("increment by %d", o.n)}[o.kind]
	return fmt.Sprintf("%s %q seeing %v", what, o.path, o.seen)
}

// transactFor lets r commit a transaction for a client that has seen a part of what r has.
func (h *History) transactFor(r *Replica) {
	t, err := r.clock.Tick(hlc.FromUnixMilli(h.now + r.skew))
	if err != nil {
		panic(err)
	}
	ev := crdt.Event{
		Dot:   crdt.Dot{Time: t},
		Stamp: t - hlc.Time(h.src.IntN(4)<<hlc.LogicalBits), Author: crdt.ReplicaID(1000 + h.src.IntN(2)),
	}
	var ops []clientOp
	for range 1 + h.src.IntN(5)/2 {
		ops = append(ops, h.clientOp(r))
	}
	d := h.applyInLane(r, &ev, ops)
	a := &author{replica: r, history: h, tx: newTransaction(ev)}
	var told []string
	for _, o := range ops {
		told = append(told, o.String())
		a.applyFor(o)
	}
	r.Fields = slices.Collect(d.Fields())
	h.commit(r, a.tx, "for a client: "+strings.Join(told, ", "))
}

// applyInLane makes the operations under the first lane of r that keeps nothing, and tells it to ev.
func (h *History) applyInLane(r *Replica, ev *crdt.Event, ops []clientOp) *crdt.Document {
	for i := range crdt.MaxLanes {
		ev.Dot.Replica = r.ID.Lane(i)
		s := crdt.NewSight(ev.Author, ev.Stamp)
		d := r.Document()
		for _, o := range ops {
			s.See(slices.Clone(o.seen))
			switch o.kind {
			case 0:
				d.SetLeavesSeen(*ev, s, o.path, o.leaves)
			case 1:
				d.RemoveSeen(*ev, s, o.path)
			default:
				if err := d.IncrementSeen(*ev, s, o.path, o.n); err != nil {
					panic(err)
				}
			}
		}
		if !s.Keeps(ev.Dot.Replica) {
			return d
		}
	}
	panic("all lanes are taken")
}

func (h *History) clientOp(r *Replica) clientOp {
	o := clientOp{kind: h.src.IntN(3), path: paths[h.src.IntN(len(paths))], n: int64(h.src.IntN(7) - 3)}
	o.leaves = h.leaves(o.path)
	if len(o.leaves) == 0 {
		o.leaves = []crdt.Leaf{{Path: o.path, Value: crdt.EmptyMapValue()}}
	}
	for _, p := range paths {
		for _, e := range h.live(r, p) {
			if h.src.IntN(2) == 0 {
				o.seen = append(o.seen, crdt.SeenDot{Path: p, Dot: e.Dot})
			}
		}
	}
	return o
}

// applyFor does by the definition what a client's operation does.
func (a *author) applyFor(o clientOp) {
	ev := a.tx.event
	seenAt := func(p crdt.PathKey) func(crdt.Event) bool {
		return func(e crdt.Event) bool {
			return e.Dot == ev.Dot || e.Author == ev.Author && e.Stamp <= ev.Stamp || slices.Contains(o.seen, crdt.SeenDot{Path: p, Dot: e.Dot})
		}
	}
	switch o.kind {
	case 0:
		for _, p := range paths {
			if o.path.Contains(p) || p.Contains(o.path) {
				a.kill(p, seenAt(p))
			}
		}
		for _, l := range o.leaves {
			a.tx.write(l.Path, l.Value)
		}
	case 1:
		for _, p := range paths {
			if o.path.Contains(p) {
				a.kill(p, seenAt(p))
			}
		}
	default:
		a.incrementFor(o.path, o.n)
	}
}

func (a *author) incrementFor(p crdt.PathKey, n int64) {
	ev := a.tx.event
	own := func(e crdt.Event) bool { return e.Dot.Replica == ev.Dot.Replica }
	at := ev
	add := func(e crdt.Event, v crdt.Value) {
		if v.Kind() != crdt.Counter {
			return
		}
		n += v.Int()
		at.Stamp = max(at.Stamp, e.Stamp)
		if e.Author != at.Author {
			at.Author = ev.Dot.Replica
		}
	}
	if v, ok := a.tx.written[p]; ok {
		add(a.tx.eventAt(p), v)
	} else {
		for i, e := range a.history.live(a.replica, p) {
			if own(e) && !a.tx.killed[p].has(i) {
				add(e, a.history.made[i].written[p])
			}
		}
	}
	a.kill(p, own)
	a.tx.write(p, crdt.CounterValue(n))
	a.tx.changed[p] = at
}
