package crdt

import "slices"

// Replace makes the given leaves what shows, and nothing else. They must be sorted by path, none above another; an empty
// document that exists is the leaf EmptyMapValue at the empty path, and no leaves at all remove the document. Only what
// differs from what shows now is written or removed, so saving a whole document does not trample on concurrent
// edits of other fields, and an untouched field keeps its conflicts. The conflicts of a field that is written or
// removed are settled, with what lies hidden above and below it: otherwise that would show instead.
//
// A counter that shows n where the integer m is wanted is incremented by m-n, so that concurrent increments still count; if the
// writer's part has no room for that the counter starts anew at m. The document must be complete. Cost: linear, and
// for each field that changes a search.
func (d *Document) Replace(ev Event, leaves []Leaf) {
	var gone []PathKey
	var written []Leaf
	rest := leaves
	for p, v := range d.Leaves() {
		for len(rest) > 0 && rest[0].Path < p {
			written, rest = append(written, rest[0]), rest[1:]
		}
		if len(rest) == 0 || rest[0].Path != p {
			gone = append(gone, p)
			continue
		}
		if !sameShown(v, rest[0].Value) {
			written = append(written, rest[0])
		}
		rest = rest[1:]
	}
	written = append(written, rest...)
	// Leaves has ended: from here on the fields move.
	for _, p := range gone {
		d.removeAbove(ev, p)
		d.Remove(ev, p)
	}
	d.fields = slices.Grow(d.fields, len(written))
	for _, l := range written {
		if !d.count(ev, l) {
			d.Set(ev, l.Path, l.Value)
		}
	}
}

// sameShown reports whether what shows is what is wanted. Data from outside knows a counter as an integer.
func sameShown(shown, wanted Value) bool {
	return shown == wanted || shown.kind == Counter && wanted.kind == Int && shown.num == wanted.num
}

// count brings a counter to the wanted integer and reports whether there is one and it has room.
func (d *Document) count(ev Event, l Leaf) bool {
	if l.Value.kind != Int && l.Value.kind != Counter {
		return false
	}
	i, ok := d.search(l.Path)
	if !ok {
		return false
	}
	r := resolver{fields: d.fields}
	g := r.group(i, r.isNested(i))
	if g.counter == nil || g.winner() != g.counter {
		return false
	}
	total, exact := counterTotal(g.cell)
	n, fits := subtract(l.Value.Int(), total)
	own, _ := g.cell.entry(ev.Dot.Replica)
	if _, roomy := add(own.Value.Int(), n); !exact || !fits || own.Value.kind == Counter && !roomy {
		return false
	}
	d.removeAbove(ev, l.Path)
	for j := r.last(i); j > i; j-- {
		d.removeAt(j, ev, nil)
	}
	f := d.touchAt(i)
	f.Cell.removePlain()
	return f.Cell.Increment(ev, n) == nil
}

// removeAbove removes the values at the paths above p.
func (d *Document) removeAbove(ev Event, p PathKey) {
	for p != "" {
		p = p.Parent()
		if i, ok := d.search(p); ok {
			d.removeAt(i, ev, nil)
		}
	}
}

// removePlain moves the dots of the entries that are no parts of a counter to observed. An increment follows, whose dot
// stands for the removal's.
func (c *Cell) removePlain() {
	observed := c.Observed.Clone()
	var live []Entry
	for _, e := range c.Live {
		if e.Value.kind == Counter {
			live = append(live, e)
		} else {
			observed.Advance(e.Dot)
		}
	}
	c.Live, c.Observed = live, observed
	c.normalise()
}

func add(a, b int64) (sum int64, ok bool) {
	sum = a + b
	return sum, (sum > a) == (b > 0)
}

func subtract(a, b int64) (difference int64, ok bool) {
	difference = a - b
	return difference, (difference < a) == (b > 0)
}
