package crdt

import (
	"iter"
	"math"
	"math/bits"
)

// Leaves yields what shows: each path that has a value and that value, in the order of the paths. A counter shows as a
// Counter of the sum, held within the range of int64. The document must be complete, not a part of a stored one.
//
// Where several values were written concurrently, one shows, and Conflicts yields the others. At one path there
// may be plain values, a counter, and fields below; that group shows which has the newest entry, the
// greatest by (stamp, author), and among plain values the newest. An empty map beside fields below does not contradict them: it counts
// for the group of the fields, and those show. Cost: linear.
func (d *Document) Leaves() iter.Seq2[PathKey, Value] {
	return func(yield func(PathKey, Value) bool) {
		r := resolver{fields: d.fields, show: yield}
		r.resolve()
	}
}

// Value returns what shows as Go data (see Value.Any), an empty map for a document that is empty or does not exist;
// IsLive tells these apart. A plain value at the empty path, which Set can write and nothing else, is under "".
func (d *Document) Value() map[string]any {
	v, ok := d.Get(Path{})
	switch v := v.(type) {
	case map[string]any:
		return v
	default:
		if ok {
			return map[string]any{"": v}
		}
		return map[string]any{}
	}
}

// Get returns what shows at p as Go data: the value there, or a map of the fields below. It reports false if there
// is nothing. Nothing lies inside an array. Cost: linear in the document.
func (d *Document) Get(p Path) (any, bool) {
	base, err := p.Pack()
	if err != nil {
		return nil, false // no document holds such a path
	}
	var t tree
	found := false
	for path, v := range d.Leaves() {
		if !base.Contains(path) {
			if found {
				break
			}
			continue
		}
		found = true
		if path == base {
			return v.Any(), true
		}
		t.put(path[len(base):], v)
	}
	if !found {
		return nil, false
	}
	return t.root, true
}

// tree builds nested maps from leaves in the order of their paths.
type tree struct {
	root map[string]any
	at   []map[string]any // the maps on the way to the last leaf
	path PathKey          // and that way, without its last element
}

func (t *tree) put(p PathKey, v Value) {
	if t.root == nil {
		t.root = map[string]any{}
	}
	parent := p.Parent()
	if parent != t.path || len(t.at) == 0 {
		t.at = append(t.at[:0], t.root)
		m := t.root
		for _, e := range parent.Path() {
			next, ok := m[e].(map[string]any)
			if !ok {
				next = map[string]any{}
				m[e] = next
			}
			m = next
			t.at = append(t.at, m)
		}
		t.path = parent
	}
	t.at[len(t.at)-1][p.Last()] = v.Any()
}

// Any returns v as Go data: nil, bool, int64 (counters too), float64, string, []byte, []any or map[string]any.
func (v Value) Any() any {
	switch v.kind {
	case False, True:
		return v.Bool()
	case Int, Counter:
		return v.Int()
	case Float:
		return v.Float()
	case String:
		return v.text
	case Bytes:
		return v.Bytes()
	case Array:
		elements := v.Elements()
		list := make([]any, len(elements))
		for i, e := range elements {
			list[i] = e.Any()
		}
		return list
	case Map, EmptyMap:
		m := map[string]any{}
		for _, member := range v.Members() {
			m[member.Key] = member.Value.Any()
		}
		return m
	}
	return nil
}

// resolver decides what shows in a document. It changes nothing.
type resolver struct {
	fields []tracked
	below  []*Entry // for each field the newest entry below it; built when first needed
	show   func(PathKey, Value) bool
	lose   func(Conflict) // nil if nobody asks
}

func (r *resolver) resolve() {
	for i := 0; i < len(r.fields); i++ {
		f := &r.fields[i]
		if len(f.Cell.Live) == 0 {
			continue
		}
		nested := r.isNested(i)
		if !nested && len(f.Cell.Live) == 1 { // nearly all fields
			if !r.show(f.Path, f.Cell.Live[0].Value) {
				return
			}
			continue
		}
		g := r.group(i, nested)
		if v, ok := g.shown(); ok {
			if !r.show(f.Path, v) {
				return
			}
		}
		r.losers(i, &g)
		if !g.mapShows() {
			i = r.last(i)
		}
	}
}

// isNested reports whether something is live below the i-th field.
func (r *resolver) isNested(i int) bool {
	for j := i + 1; j < len(r.fields); j++ {
		if len(r.fields[j].Cell.Live) > 0 {
			return r.fields[i].Path.Contains(r.fields[j].Path)
		}
	}
	return false
}

// last returns the index of the last field at or below the i-th.
func (r *resolver) last(i int) int {
	p := r.fields[i].Path
	for i+1 < len(r.fields) && p.Contains(r.fields[i+1].Path) {
		i++
	}
	return i
}

// groups is the newest entry of each group at one path; nil where a group has none.
type groups struct {
	cell                   *Cell
	value, counter, fields *Entry
}

func (r *resolver) group(i int, nested bool) groups {
	g := groups{cell: &r.fields[i].Cell}
	if nested {
		if r.below == nil {
			r.below = newestBelow(r.fields)
		}
		g.fields = r.below[i]
	}
	for k := range g.cell.Live {
		e := &g.cell.Live[k]
		switch {
		case e.Value.kind == Counter:
			g.counter = newer(g.counter, e)
		case g.joinsFields(e):
			g.fields = newer(g.fields, e)
		default:
			g.value = newer(g.value, e)
		}
	}
	return g
}

// joinsFields reports whether e says no more than that a map is here, and one is.
func (g *groups) joinsFields(e *Entry) bool { return g.fields != nil && e.Value.kind == EmptyMap }

func (g *groups) winner() *Entry { return newer(newer(g.value, g.counter), g.fields) }

func (g *groups) mapShows() bool { return g.fields != nil && g.winner() == g.fields }

// shown returns what shows at the path itself, false if it is the fields below.
func (g *groups) shown() (Value, bool) {
	switch g.winner() {
	case g.fields:
		return Value{}, false
	case g.counter:
		return counterSum(g.cell), true
	}
	return g.value.Value, true
}

func newer(a, b *Entry) *Entry {
	if a == nil || b != nil && b.wins(*a) {
		return b
	}
	return a
}

// counterSum adds up the parts of all writers, held within the range of int64.
func counterSum(c *Cell) Value {
	n, _ := counterTotal(c)
	return CounterValue(n)
}

// counterTotal adds up the parts of all writers and reports whether the sum is exact. It is made in 128 bits and
// only then held within int64, so that it does not depend on the order of the parts.
func counterTotal(c *Cell) (sum int64, exact bool) {
	var high, low uint64
	for i := range c.Live {
		if c.Live[i].Value.kind != Counter {
			continue
		}
		n := c.Live[i].Value.num
		var carry uint64
		low, carry = bits.Add64(low, n, 0)
		high, _ = bits.Add64(high, uint64(int64(n)>>63), carry)
	}
	switch {
	case high == uint64(int64(low)>>63): // the high half only repeats the sign
		return int64(low), true
	case int64(high) < 0:
		return math.MinInt64, false
	}
	return math.MaxInt64, false
}

// newestBelow returns for each field the newest live entry below it, nil if there is none. One pass: a field
// that no later one can lie below hands its newest entry to the field that it lies below itself.
func newestBelow(fields []tracked) []*Entry {
	below := make([]*Entry, len(fields))
	var open []int // live fields that the present one lies below, outermost first
	closeLast := func() {
		i := open[len(open)-1]
		open = open[:len(open)-1]
		if len(open) == 0 {
			return
		}
		newest := below[i]
		for k := range fields[i].Cell.Live {
			newest = newer(newest, &fields[i].Cell.Live[k])
		}
		above := open[len(open)-1]
		below[above] = newer(below[above], newest)
	}
	for i := range fields {
		if len(fields[i].Cell.Live) == 0 {
			continue
		}
		for len(open) > 0 && !fields[open[len(open)-1]].Path.Contains(fields[i].Path) {
			closeLast()
		}
		open = append(open, i)
	}
	for len(open) > 0 {
		closeLast()
	}
	return below
}
