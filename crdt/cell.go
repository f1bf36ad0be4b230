package crdt

import (
	"fmt"
	"math"
	"slices"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Entry is one value written at one path by one transaction. Stamp and Author decide which of several
// siblings shows; they equal the dot except for a write that was re-issued on somebody's behalf.
type Entry struct {
	Dot    Dot
	Stamp  hlc.Time
	Author ReplicaID
	Value  Value
}

// wins reports whether e shows rather than o: the greater (stamp, author), and for re-issued writes that
// tie in both the greater dot, so that the order is total.
func (e Entry) wins(o Entry) bool {
	switch {
	case e.Stamp != o.Stamp:
		return e.Stamp > o.Stamp
	case e.Author != o.Author:
		return e.Author > o.Author
	}
	return e.Dot.Compare(o.Dot) > 0
}

// Cell is one path of one document, and a lattice on its own. The zero Cell is empty.
//
// Invariants, which Check tests by number, and which every Cell that a method or Merge returns has:
//  1. Live is sorted by writer, with at most one entry for each.
//  2. No live entry has a zero dot, stamp or author.
//  3. For a writer with a live entry, Observed has either nothing or a newer dot.
//
// A Cell is a value: methods that change it replace its slices and never write into them, so a copy made before
// a change keeps what it was.
type Cell struct {
	Live     []Entry       // sorted by Dot.Replica
	Observed VersionVector // dots known dead at this path, the removals' own dots included
}

// Check reports the first invariant that c breaks.
func (c Cell) Check() error {
	for i, e := range c.Live {
		switch {
		case i > 0 && c.Live[i-1].Dot.Replica >= e.Dot.Replica:
			return fmt.Errorf("%w: live entries of a cell are not sorted by writer (invariant 1)", ErrValue)
		case e.Dot.Time == 0 || e.Dot.Replica == 0 || e.Stamp == 0 || e.Author == 0:
			return fmt.Errorf("%w: live entry %s has a zero dot, stamp or author (invariant 2)", ErrValue, e.Dot)
		}
		if t := c.Observed.Get(e.Dot.Replica); t != 0 && t <= e.Dot.Time {
			return fmt.Errorf("%w: observed dot of %s is not newer than its live entry (invariant 3)", ErrValue, e.Dot.Replica)
		}
	}
	return nil
}

// IsEmpty reports whether c has neither live entries nor observed dots: such a cell is not kept.
func (c Cell) IsEmpty() bool { return len(c.Live) == 0 && c.Observed.Len() == 0 }

// Equal reports whether both cells are the same state.
func (c Cell) Equal(o Cell) bool {
	return slices.Equal(c.Live, o.Live) && c.Observed.Equal(o.Observed)
}

// Refers reports whether the cell refers to a dot of r in (from, to], live or observed.
func (c Cell) Refers(r ReplicaID, from, to hlc.Time) bool {
	if t := c.Observed.Get(r); t > from && t <= to {
		return true
	}
	e, ok := c.entry(r)
	return ok && e.Dot.Time > from && e.Dot.Time <= to
}

func (c Cell) find(r ReplicaID) (int, bool) {
	for i := range c.Live {
		if c.Live[i].Dot.Replica >= r {
			return i, c.Live[i].Dot.Replica == r
		}
	}
	return len(c.Live), false
}

func (c Cell) entry(r ReplicaID) (Entry, bool) {
	if i, ok := c.find(r); ok {
		return c.Live[i], true
	}
	return Entry{}, false
}

// Write replaces every live entry by a new one.
func (c *Cell) Write(ev Event, v Value) {
	c.kill(ev.Dot)
	c.put(Entry{ev.Dot, ev.Stamp, ev.Author, v})
}

// put adds a live entry, in the place of its writer's.
func (c *Cell) put(e Entry) {
	i, own := c.find(e.Dot.Replica)
	live := slices.Clone(c.Live)
	if own {
		live = slices.Delete(live, i, i+1)
	}
	c.Live = slices.Insert(live, i, e)
	c.normalise()
}

// Remove kills every live entry and remembers the removal's own dot, so that the removal is itself
// something that a peer can be missing. It reports false, and changes nothing, if nothing is live.
func (c *Cell) Remove(ev Event) bool {
	if len(c.Live) == 0 {
		return false
	}
	c.kill(ev.Dot)
	c.Observed.Advance(ev.Dot)
	return true
}

// kill moves the dots of all live entries to observed. An entry of the same transaction just goes: nobody else
// can have seen it.
func (c *Cell) kill(d Dot) {
	if len(c.Live) == 0 {
		c.Observed = c.Observed.Clone()
		return
	}
	observed := c.Observed.Clone()
	for _, e := range c.Live {
		if e.Dot != d {
			observed.Advance(e.Dot)
		}
	}
	c.Live, c.Observed = nil, observed
}

// ErrCounterRange says that a counter's part would leave the range of int64.
var ErrCounterRange = fmt.Errorf("%w: counter leaves the range of int64", ErrValue)

// Increment adds n to the writer's own part of the counter. It replaces only that writer's entry, whatever
// its kind; entries of others stay live.
func (c *Cell) Increment(ev Event, n int64) error {
	value := CounterValue(n)
	if old, own := c.entry(ev.Dot.Replica); own && old.Value.Kind() == Counter {
		var err error
		if value, err = addCounter(old.Value, n); err != nil {
			return err
		}
	}
	c.Observed = c.Observed.Clone()
	c.put(Entry{ev.Dot, ev.Stamp, ev.Author, value})
	return nil
}

// addCounter returns a counter's part with n added.
func addCounter(part Value, n int64) (Value, error) {
	sum := part.Int()
	if n > 0 && sum > math.MaxInt64-n || n < 0 && sum < math.MinInt64-n {
		return part, ErrCounterRange
	}
	return CounterValue(sum + n), nil
}

// Dead reports whether d, which is not live in c, is known to have been live once: it is at or below stable or
// observed, or its writer has a newer live entry.
func (c Cell) Dead(stable VersionVector, d Dot) bool {
	if stable.Covers(d) || c.Observed.Covers(d) {
		return true
	}
	e, ok := c.entry(d.Replica)
	return ok && e.Dot.Time > d.Time
}

// normalise restores invariant 3.
func (c *Cell) normalise() {
	for _, e := range c.Live {
		if t := c.Observed.Get(e.Dot.Replica); t != 0 && t <= e.Dot.Time {
			c.Observed.Remove(e.Dot.Replica)
		}
	}
}

// Prune drops what is observed if every dot of the cell is at or below stable. A cell is pruned whole or
// not at all, so that a frame need not carry the stable vector of its encoder.
func (c *Cell) Prune(stable VersionVector) {
	if c.isPrunable(stable) {
		c.Observed = VersionVector{}
	}
}

func (c *Cell) isPrunable(stable VersionVector) bool {
	if stable.Len() == 0 || c.Observed.Len() == 0 || !c.Observed.LessOrEqual(stable) {
		return false
	}
	for _, e := range c.Live {
		if !stable.Covers(e.Dot) {
			return false
		}
	}
	return true
}

// Merge joins two states of one cell and returns a new one; a and b are not changed. stableA and stableB are
// the vectors the two were pruned at; the result is pruned at stableA. Merge is associative, commutative
// and idempotent on states that histories reach. Cost: linear in both.
//
// It is the join of an optimised OR-set without tombstones (Bieniusa et al., arXiv:1210.3368), kept cell by
// cell with exact contexts instead of one context for the whole state.
func Merge(a Cell, stableA VersionVector, b Cell, stableB VersionVector) Cell {
	if a.IsEmpty() && stableA.Len() == 0 {
		return b
	}
	a.Prune(stableA)
	m := MergeComplete(a, stableA, b, stableB)
	m.Prune(stableA)
	return m
}

// MergeComplete is Merge for the cells of two complete states, as in a snapshot: seenA and seenB are all that the
// states have seen, so what one has seen and does not hold was removed there. The result is not pruned: having seen a
// removal oneself does not make it stable, and others may still have to learn of it.
//
// An entry that is known to be dead only because a state has seen it, and of which no dot of that state's cell says so, goes without a trace: told
// in a delta, it would take that entry away from who has not seen its removal, and does not learn of that. Only if nothing else is left
// of the cell is the entry in what is observed, so that it does not vanish before it is pruned; see Forget.
func MergeComplete(a Cell, seenA VersionVector, b Cell, seenB VersionVector) Cell {
	var m Cell
	m.Observed = a.Observed.Clone()
	m.Observed.Join(b.Observed)
	m.Live = make([]Entry, 0, max(len(a.Live), len(b.Live)))
	var unnamed VersionVector

	i, j := 0, 0
	for i < len(a.Live) || j < len(b.Live) {
		var inA, inB bool
		switch {
		case j == len(b.Live):
			inA = true
		case i == len(a.Live):
			inB = true
		default:
			inA = a.Live[i].Dot.Compare(b.Live[j].Dot) <= 0
			inB = a.Live[i].Dot.Compare(b.Live[j].Dot) >= 0
		}
		var e Entry
		if inA {
			e = a.Live[i]
			i++
		}
		if inB {
			e = b.Live[j]
			j++
		}
		other, seen := b, seenB // who may know better, if only one has it
		if !inA {
			other, seen = a, seenA
		}
		switch {
		case inA && inB || !other.Dead(seen, e.Dot):
			m.Live = append(m.Live, e)
		case other.Dead(VersionVector{}, e.Dot):
			m.Observed.Advance(e.Dot)
		default:
			unnamed.Advance(e.Dot)
		}
	}
	m.normalise()
	if m.IsEmpty() {
		m.Observed = unnamed
	}
	return m
}
