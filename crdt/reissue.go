package crdt

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Reissue returns c with the dots of old in (after, upTo] under other names: name gives the new one for each, and the zero Dot
// for one that is to vanish. It is for transactions that no other replica can have seen. It reports whether anything changed.
//
// What the transactions did stays: an entry keeps its value, and what they removed or replaced stays observed. A newer entry
// of old, or a newer observed dot, also says that all older ones of old are dead; once it has another name, that has to be
// said in its place, for what old wrote up to after is known elsewhere. So the dot (old, after) is observed from then on.
//
// An entry's stamp and author follow the dot. A write that was made on somebody's behalf keeps its author, and its stamp
// unless that is later than the new dot.
//
// name must keep the order of times, and its dots must be of one replica that has no other entry in c.
func (c Cell) Reissue(old ReplicaID, after, upTo hlc.Time, name func(hlc.Time) Dot) (Cell, bool) {
	isMeant := func(t hlc.Time) bool { return t > after && t <= upTo }
	out := Cell{Live: c.Live, Observed: c.Observed.Clone()}
	changed := false
	if i, ok := c.find(old); ok && isMeant(c.Live[i].Dot.Time) {
		e := c.Live[i]
		out.Live = slices.Delete(slices.Clone(c.Live), i, i+1)
		if dot := name(e.Dot.Time); !dot.IsZero() {
			e = e.reissued(dot)
			at, _ := out.find(dot.Replica)
			out.Live = slices.Insert(out.Live, at, e)
		}
		changed = true
	}
	if t := c.Observed.Get(old); isMeant(t) {
		out.Observed.Remove(old)
		if dot := name(t); !dot.IsZero() {
			out.Observed.Advance(dot)
		}
		changed = true
	}
	if !changed {
		return c, false
	}
	out.Observed.Advance(Dot{old, after}) // nothing if after is zero
	out.normalise()
	return out, true
}

func (e Entry) reissued(dot Dot) Entry {
	own := e.Author == e.Dot.Replica
	if own && e.Stamp == e.Dot.Time {
		e.Stamp = dot.Time
	}
	if own {
		e.Author = dot.Replica
	}
	e.Stamp = min(e.Stamp, dot.Time)
	e.Dot = dot
	return e
}

// Rewrite replaces each loaded cell by what f makes of it, where f reports a change.
func (d *Document) Rewrite(f func(Cell) (Cell, bool)) {
	for i := range d.fields {
		if c, changed := f(d.fields[i].Cell); changed {
			d.touchAt(i).Cell = c
		}
	}
}
