package crdt

import (
	"iter"
	"slices"
	"sort"
	"strings"
)

// Field is one path of a document and its cell.
type Field struct {
	Path PathKey
	Cell Cell
}

// Document is a map from paths to cells. It may hold only a part of a stored document: operations need the
// cells at, above and below the path that they name, and no others. The zero Document is empty.
//
// A Document remembers, for each cell that an operation changed, what it was before: Changes yields
// them. It is not safe for concurrent use, but reading it from several goroutines is.
type Document struct {
	fields []tracked // sorted by path; cells that became empty stay until they are asked for
}

type tracked struct {
	Field
	before *Cell // the cell before the first change; nil while unchanged
}

var noCell Cell

// NewDocument returns a document of the given fields, which must be sorted by path without repetition
// (the form in which parsers return them). The document keeps the slice's cells but not the slice.
func NewDocument(fields []Field) *Document {
	d := &Document{fields: make([]tracked, len(fields))}
	for i, f := range fields {
		d.fields[i].Field = f
	}
	return d
}

// Include adds unchanged fields that were not loaded before; they must be sorted by path.
func (d *Document) Include(fields []Field) {
	if len(fields) == 0 {
		return
	}
	if n := len(d.fields); n == 0 || d.fields[n-1].Path < fields[0].Path {
		d.fields = slices.Grow(d.fields, len(fields))
		for _, f := range fields {
			d.fields = append(d.fields, tracked{Field: f})
		}
		return
	}
	i, _ := d.search(fields[0].Path)
	added := make([]tracked, len(fields))
	for k, f := range fields {
		added[k].Field = f
	}
	if i == len(d.fields) || fields[len(fields)-1].Path < d.fields[i].Path {
		d.fields = slices.Insert(d.fields, i, added...)
		return
	}
	d.fields = append(d.fields, added...)
	slices.SortStableFunc(d.fields, func(a, b tracked) int { return strings.Compare(string(a.Path), string(b.Path)) })
}

func (d *Document) search(p PathKey) (int, bool) {
	i := sort.Search(len(d.fields), func(i int) bool { return d.fields[i].Path >= p })
	return i, i < len(d.fields) && d.fields[i].Path == p
}

// Fields yields the fields that are not empty, tombstone-only ones included, in the order of their paths.
func (d *Document) Fields() iter.Seq[Field] { return d.FieldsFrom("") }

// FieldsFrom yields the fields that are not empty at or after path p.
func (d *Document) FieldsFrom(p PathKey) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		i, _ := d.search(p)
		for ; i < len(d.fields); i++ {
			if !d.fields[i].Cell.IsEmpty() && !yield(d.fields[i].Field) {
				return
			}
		}
	}
}

// AppendFields appends what Fields yields, in one piece of memory.
func (d *Document) AppendFields(dst []Field) []Field {
	dst = slices.Grow(dst, len(d.fields))
	for i := range d.fields {
		if !d.fields[i].Cell.IsEmpty() {
			dst = append(dst, d.fields[i].Field)
		}
	}
	return dst
}

// Cell returns the cell at path p, an empty one if there is none.
func (d *Document) Cell(p PathKey) Cell {
	if i, ok := d.search(p); ok {
		return d.fields[i].Cell
	}
	return Cell{}
}

// IsLive reports whether the document has a live entry, that is, exists for a reader.
func (d *Document) IsLive() bool {
	for i := range d.fields {
		if len(d.fields[i].Cell.Live) > 0 {
			return true
		}
	}
	return false
}

// IsCovered reports whether vv covers every dot that the document refers to, live or observed.
func (d *Document) IsCovered(vv VersionVector) bool {
	for i := range d.fields {
		c := &d.fields[i].Cell
		for k := range c.Live {
			if !vv.Covers(c.Live[k].Dot) {
				return false
			}
		}
		if !c.Observed.LessOrEqual(vv) {
			return false
		}
	}
	return true
}

// Change is a cell before and after the operations on a document.
type Change struct {
	Path          PathKey
	Before, After Cell
}

// Changes yields the cells that differ from what they were when the document was made, in the order of
// their paths.
func (d *Document) Changes() iter.Seq[Change] {
	return func(yield func(Change) bool) {
		for i := range d.fields {
			f := &d.fields[i]
			if f.before != nil && !f.before.Equal(f.Cell) && !yield(Change{f.Path, *f.before, f.Cell}) {
				return
			}
		}
	}
}

// Touched returns how many fields operations have touched: Changes yields no more than that.
func (d *Document) Touched() int {
	n := 0
	for i := range d.fields {
		if d.fields[i].before != nil {
			n++
		}
	}
	return n
}

// touch returns the field at p for changing, a new one if there is none.
func (d *Document) touch(p PathKey) *tracked {
	i, ok := d.search(p)
	if !ok {
		d.fields = slices.Insert(d.fields, i, tracked{Field: Field{Path: p}, before: &noCell})
		return &d.fields[i]
	}
	return d.touchAt(i)
}

func (d *Document) touchAt(i int) *tracked {
	f := &d.fields[i]
	if f.before == nil {
		before := f.Cell
		f.before = &before
	}
	return f
}

// removeAt removes what is live in the i-th field, and that the author has seen. A field that had nothing live before the transaction
// goes back to what it was: writing and removing in one transaction leaves no trace.
func (d *Document) removeAt(i int, ev Event, s *Sight) bool {
	if s != nil {
		return d.removeSeenAt(i, ev, s)
	}
	if len(d.fields[i].Cell.Live) == 0 {
		return false
	}
	f := d.touchAt(i)
	if len(f.before.Live) == 0 && onlyOf(f.Cell.Live, ev.Dot) {
		f.Cell = *f.before
		return true
	}
	return f.Cell.Remove(ev)
}

func onlyOf(live []Entry, d Dot) bool { return len(live) == 1 && live[0].Dot == d }

// Leaf is one field of a flattened map: a path and the value there.
type Leaf struct {
	Path  PathKey
	Value Value
}

// Set writes v at p. A map or a plain value that stands in its way goes: every live cell below p, and the
// value at each path above p.
func (d *Document) Set(ev Event, p PathKey, v Value) {
	d.SetLeaves(ev, p, []Leaf{{p, v}})
}

// SetLeaves replaces the whole subtree at p by the given leaves, which lie at or below p, are sorted by
// path and none of which lies above another. What stood in the subtree and is not among them is removed,
// and so is the value at each path above p.
func (d *Document) SetLeaves(ev Event, p PathKey, leaves []Leaf) { d.setLeaves(ev, nil, p, leaves) }

// setLeaves is SetLeaves for an author who has seen s; nil: everything.
func (d *Document) setLeaves(ev Event, s *Sight, p PathKey, leaves []Leaf) {
	for above := p; above != ""; {
		above = above.Parent()
		if i, ok := d.search(above); ok {
			d.removeAt(i, ev, s)
		}
	}
	i, _ := d.search(p)
	rest := leaves
	for ; i < len(d.fields) && p.Contains(d.fields[i].Path); i++ {
		for len(rest) > 0 && rest[0].Path < d.fields[i].Path {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].Path != d.fields[i].Path {
			d.removeAt(i, ev, s)
		}
	}
	for _, l := range leaves {
		d.touch(l.Path).write(ev, s, l.Value)
	}
}

// Remove removes what is live at p and below it, and reports whether there was anything. The empty path
// removes the whole document. A concurrent write that ev's author has not seen survives it.
func (d *Document) Remove(ev Event, p PathKey) bool { return d.remove(ev, nil, p) }

// remove is Remove for an author who has seen s; nil: everything.
func (d *Document) remove(ev Event, s *Sight, p PathKey) bool {
	removed := false
	i, _ := d.search(p)
	for ; i < len(d.fields) && p.Contains(d.fields[i].Path); i++ {
		if d.removeAt(i, ev, s) {
			removed = true
		}
	}
	return removed
}

// Increment adds n to the counter at p.
func (d *Document) Increment(ev Event, p PathKey, n int64) error {
	return d.touch(p).Cell.Increment(ev, n)
}

// Forget takes out of what the cells that changed have observed what could have been pruned at stable before the author's operations. It is for
// the end of a transaction, and makes the state the one that the operations give on a document pruned at stable: a cell that no operation touches
// may wait to be pruned, but what is left of it must not be told along with a new write.
func (d *Document) Forget(stable VersionVector) {
	for i := range d.fields {
		f := &d.fields[i]
		if f.before == nil || !f.before.isPrunable(stable) || f.before.Equal(f.Cell) {
			continue
		}
		observed := f.Cell.Observed.Clone()
		for dot := range f.before.Observed.All() {
			if observed.Get(dot.Replica) == dot.Time {
				observed.Remove(dot.Replica)
			}
		}
		f.Cell.Observed = observed
	}
}

// MergeField joins the cell b, which comes from a state that counts as never pruned, into the one at p,
// which is pruned at stable. It reports whether that changed anything.
func (d *Document) MergeField(stable VersionVector, p PathKey, b Cell) bool {
	own := d.prunedAt(p, stable)
	return d.replaceAt(p, own, Merge(own, stable, b, VersionVector{}))
}

// MergeComplete joins the cell b of another complete state into the one at p: seen and seenB are all that the two
// states have seen, as in crdt.MergeComplete; the result is pruned at stable. It reports whether that changed anything.
func (d *Document) MergeComplete(p PathKey, seen VersionVector, b Cell, seenB, stable VersionVector) bool {
	own := d.prunedAt(p, stable)
	merged := MergeComplete(own, seen, b, seenB)
	merged.Prune(stable)
	return d.replaceAt(p, own, merged)
}

// prunedAt returns the cell at p, pruned at stable.
func (d *Document) prunedAt(p PathKey, stable VersionVector) Cell {
	c := d.Cell(p)
	c.Prune(stable)
	return c
}

// replaceAt puts what a merge has made of own, the pruned cell at p, in its place, and reports whether that is another. To write what is only pruned
// is not the matter of a merge.
func (d *Document) replaceAt(p PathKey, own, merged Cell) bool {
	if merged.Equal(own) {
		return false
	}
	d.touch(p).Cell = merged
	return true
}
