package crdttest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// transact lets r commit one transaction of one to three operations, in the document and by the definition.
func (h *History) transact(r *Replica) {
	t, err := r.clock.Tick(hlc.FromUnixMilli(h.now + r.skew))
	if err != nil {
		panic(err)
	}
	ev := crdt.EventAt(crdt.Dot{Replica: r.ID, Time: t})
	if !h.config.NoReissued && h.src.IntN(8) == 0 {
		ev.Stamp -= hlc.Time(1 + h.src.IntN(3)<<hlc.LogicalBits)
		ev.Author = crdt.ReplicaID(1000 + h.src.IntN(2))
	}
	a := &author{replica: r, history: h, tx: newTransaction(ev)}
	d := r.Document()
	var told []string
	for range 1 + h.src.IntN(5)/2 {
		told = append(told, h.operate(d, ev, a))
	}
	r.Fields = slices.Collect(d.Fields())
	h.commit(r, a.tx, strings.Join(told, ", "))
}

// commit makes a transaction a part of the history.
func (h *History) commit(r *Replica, t *transaction, told string) {
	if len(t.written) == 0 && len(t.killed) == 0 {
		return // no change consumes no dot; the clock may skip a time
	}
	index := len(h.made)
	h.made = append(h.made, t)
	for p := range t.written {
		r.knows(p).add(index)
	}
	for p := range t.killed {
		r.knows(p).add(index)
	}
	ev := t.event
	r.VV.Advance(ev.Dot)
	h.note("%d commits %v (stamp %d by %d): %s", r.ID, ev.Dot, uint64(ev.Stamp), uint64(ev.Author), told)
}

func (h *History) value() crdt.Value {
	if h.src.IntN(4) == 0 {
		return crdt.EmptyMapValue()
	}
	return crdt.IntValue(int64(h.src.IntN(3)))
}

func (h *History) operate(d *crdt.Document, ev crdt.Event, a *author) string {
	p := paths[h.src.IntN(len(paths))]
	switch h.src.IntN(9) {
	case 0, 1, 2:
		v := h.value()
		if p == "" {
			v = crdt.EmptyMapValue() // as in an empty document that exists
		}
		d.Set(ev, p, v)
		a.set(p, []crdt.Leaf{{Path: p, Value: v}})
		return fmt.Sprintf("set %q to %v", p, v.Any())
	case 3:
		leaves := h.leaves(p)
		d.SetLeaves(ev, p, leaves)
		a.set(p, leaves)
		return fmt.Sprintf("set %q to %s", p, tell(leaves))
	case 4:
		leaves := h.leaves("")
		before := slices.Collect(d.Fields())
		d.Replace(ev, leaves)
		a.follow(crdt.NewDocument(before), d)
		return fmt.Sprintf("replace by %s", tell(leaves))
	case 8:
		before := slices.Collect(d.Fields())
		n, _ := d.Settle(ev, p, h.verdict, 0)
		a.follow(crdt.NewDocument(before), d)
		return fmt.Sprintf("settle %d conflicts at %q", n, p)
	case 5:
		d.Remove(ev, p)
		a.remove(func(q crdt.PathKey) bool { return p.Contains(q) })
		return fmt.Sprintf("remove %q", p)
	default:
		n := int64(h.src.IntN(7) - 3)
		if err := d.Increment(ev, p, n); err != nil {
			panic(err)
		}
		a.increment(p, n)
		return fmt.Sprintf("increment %q by %d", p, n)
	}
}

// verdict is a rule that decides at random.
func (h *History) verdict(c crdt.Contest) crdt.Verdict {
	switch h.src.IntN(5) {
	case 0:
		return crdt.LeaveOpen()
	case 1:
		return crdt.TakeLost(h.src.IntN(len(c.Lost)))
	case 2:
		return crdt.WriteValue(crdt.IntValue(int64(h.src.IntN(3))))
	}
	return crdt.KeepShown()
}

func tell(leaves []crdt.Leaf) string {
	var b strings.Builder
	for _, l := range leaves {
		b.WriteString(fmt.Sprintf("%q=%v ", l.Path, l.Value.Any()))
	}
	return "(" + strings.TrimSpace(b.String()) + ")"
}

// leaves returns some leaves at or below p of which none lies above another.
func (h *History) leaves(p crdt.PathKey) []crdt.Leaf {
	var leaves []crdt.Leaf
	for _, q := range paths {
		if !p.Contains(q) || h.src.IntN(2) == 0 || len(leaves) > 0 && leaves[len(leaves)-1].Path.Contains(q) {
			continue
		}
		leaves = append(leaves, crdt.Leaf{Path: q, Value: h.value()})
	}
	return leaves
}

// author is a replica in a transaction: what it has seen, and what the transaction has done so far.
type author struct {
	replica *Replica
	history *History
	tx      *transaction
}

// kill removes what is live at p in the author's eyes.
func (a *author) kill(p crdt.PathKey, which func(crdt.Event) bool) {
	for i, e := range a.history.live(a.replica, p) {
		if which(e) && !a.tx.killed[p].has(i) {
			if a.tx.killed[p] == nil {
				a.tx.killed[p] = &dotSet{}
			}
			a.tx.killed[p].add(i)
		}
	}
	if which(a.tx.event) {
		delete(a.tx.written, p)
	}
}

func everything(crdt.Event) bool { return true }

func (a *author) remove(at func(crdt.PathKey) bool) {
	for _, p := range paths {
		if at(p) {
			a.kill(p, everything)
		}
	}
}

func (a *author) set(p crdt.PathKey, leaves []crdt.Leaf) {
	a.remove(func(q crdt.PathKey) bool { return p.Contains(q) || q.Contains(p) })
	for _, l := range leaves {
		a.tx.write(l.Path, l.Value)
	}
}

func (a *author) increment(p crdt.PathKey, n int64) {
	own := func(e crdt.Event) bool { return e.Dot.Replica == a.replica.ID }
	if v, ok := a.tx.written[p]; ok {
		if v.Kind() == crdt.Counter {
			n += v.Int()
		}
	} else {
		for i, e := range a.history.live(a.replica, p) {
			if v := a.history.made[i].written[p]; own(e) && !a.tx.killed[p].has(i) && v.Kind() == crdt.Counter {
				n += v.Int()
			}
		}
	}
	a.kill(p, own)
	a.tx.write(p, crdt.CounterValue(n))
}

// follow takes over what an operation did at the author's own document: its meaning there is the matter of other tests, what
// becomes of it elsewhere is that of the definition.
func (a *author) follow(before, after *crdt.Document) {
	ev := a.tx.event
	for _, p := range paths {
		was, is := before.Cell(p), after.Cell(p)
		if was.Equal(is) {
			continue
		}
		a.kill(p, func(e crdt.Event) bool { return !hasLive(is, e.Dot) })
		for _, e := range is.Live {
			if e.Dot == ev.Dot {
				a.tx.write(p, e.Value)
				a.tx.changed[p] = crdt.Event{Dot: e.Dot, Stamp: e.Stamp, Author: e.Author} // an empty map that is kept stays as old as it was
			}
		}
	}
}

func hasLive(c crdt.Cell, d crdt.Dot) bool {
	return slices.ContainsFunc(c.Live, func(e crdt.Entry) bool { return e.Dot == d })
}
