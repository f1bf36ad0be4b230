package replicatest

import (
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
)

// draft is the oracle's own account of a transaction in the making: what each of its operations removes and
// writes, by the rules of the documentation, given what its author knows.
type draft struct {
	oracle *oracle
	seen   knowledge
	actual func(cell int) []int // what is live; asked where the account of what the author knows is vague
	self   crdt.ReplicaID
	views  map[int]*view

	node      *node                   // of a client's transaction: where it is made
	present   func(crdt.Dot) crdt.Dot // by that node: the dot that a transaction has now
	isCounted bool                    // an increment of a client is in it
	isWrong   bool                    // what its client has not seen goes, because self wrote it
}

// view is one cell in a draft.
type view struct {
	before []int // live before the transaction
	killed []int // of these, removed or replaced by it
	writes bool  // it has an entry of its own
	value  crdt.Value
	event  crdt.Event // stamp and author of that, where they are not the transaction's
}

func newDraft(o *oracle, seen knowledge, self crdt.ReplicaID, actual func(int) []int) *draft {
	return &draft{oracle: o, seen: seen, self: self, actual: actual, views: make(map[int]*view)}
}

func (d *draft) view(cell int) *view {
	v := d.views[cell]
	if v == nil {
		k := d.seen.of(cell)
		v = &view{before: d.oracle.live(cell, k.firm())}
		if k.isVague() {
			v.before = d.actual(cell)
		}
		d.views[cell] = v
	}
	return v
}

func (v *view) kill() {
	v.killed, v.writes, v.value, v.event = v.before, false, crdt.Value{}, crdt.Event{}
}

func (v *view) write(value crdt.Value) {
	v.killed, v.writes, v.value, v.event = v.before, true, value, crdt.Event{}
}

// set is Set and SetLeaves: leaves take the place of the subtree at p and of every value on the way to it.
func (d *draft) set(key string, p crdt.PathKey, leaves []crdt.Leaf) {
	for _, c := range d.oracle.docs[key] {
		path := d.oracle.cells[c].path
		above := path != p && strings.HasPrefix(string(p), string(path))
		if above || strings.HasPrefix(string(path), string(p)) {
			d.view(c).kill()
		}
	}
	for _, l := range leaves {
		d.view(d.oracle.cell(key, l.Path)).write(l.Value)
	}
}

// remove is Remove and Delete.
func (d *draft) remove(key string, p crdt.PathKey) {
	for _, c := range d.oracle.docs[key] {
		if strings.HasPrefix(string(d.oracle.cells[c].path), string(p)) {
			d.view(c).kill()
		}
	}
}

// increment replaces the writer's own entry and no other.
func (d *draft) increment(key string, p crdt.PathKey, n int64) {
	cell := d.oracle.cell(key, p)
	v := d.view(cell)
	if v.writes {
		if v.value.Kind() == crdt.Counter {
			n += v.value.Int()
		}
	} else {
		for _, i := range v.before {
			if d.oracle.txs[i].dot.Replica != d.self || slices.Contains(v.killed, i) {
				continue
			}
			if old := d.oracle.valueOf(cell, i); old.Kind() == crdt.Counter {
				n += old.Int()
			}
			v.killed = append(slices.Clone(v.killed), i)
		}
	}
	v.writes, v.value, v.event = true, crdt.CounterValue(n), crdt.Event{}
}

// replace takes over what Replace did to a document. What it writes and removes depends on what shows, and so is
// no business of the oracle, which takes it as the transaction's intent.
func (d *draft) replace(key string, dot crdt.Dot, after *crdt.Document) {
	for _, c := range d.oracle.docs[key] {
		d.view(c)
	}
	for f := range after.Fields() {
		d.view(d.oracle.cell(key, f.Path))
	}
	for _, c := range d.oracle.docs[key] {
		v, now := d.view(c), after.Cell(d.oracle.cells[c].path)
		v.kill()
		v.killed = slices.Clone(v.before)
		for _, e := range now.Live {
			if e.Dot == dot {
				v.writes, v.value, v.event = true, e.Value, crdt.Event{Stamp: e.Stamp, Author: e.Author}
			} else if i, ok := d.oracle.byDot[e.Dot]; ok {
				v.killed = slices.DeleteFunc(v.killed, func(k int) bool { return k == i })
			}
		}
	}
}

// effects returns what the transaction comes to, cell by cell. Cells that it leaves as they were do not count.
func (d *draft) effects() []effect {
	var effects []effect
	for c, v := range d.views {
		if len(v.killed) > 0 || v.writes {
			effects = append(effects, effect{cell: c, kills: v.killed, writes: v.writes, value: v.value, event: v.event})
		}
	}
	slices.SortFunc(effects, func(a, b effect) int { return a.cell - b.cell })
	return effects
}
