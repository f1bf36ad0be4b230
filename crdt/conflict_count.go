package crdt

import "slices"

// ConflictCount returns the number of conflicts that Conflicts lists. The document must be complete. Cost: linear; little where
// nothing was written concurrently.
func (d *Document) ConflictCount() int { return countConflicts(d.fields) }

// CountConflicts is ConflictCount for the fields of a document, sorted by path. Where nothing was written concurrently it allocates
// nothing.
func CountConflicts(fields []Field) int {
	last := -1 // the last live field
	for i := range fields {
		switch live := fields[i].Cell.Live; {
		case len(live) == 0:
			continue
		case len(live) > 1 || last >= 0 && fields[last].Path.Contains(fields[i].Path):
			return NewDocument(fields).ConflictCount()
		}
		last = i
	}
	return 0
}

func countConflicts(fields []tracked) int {
	n := 0
	r := resolver{
		fields: fields,
		show:   func(PathKey, Value) bool { return true },
		lose:   func(Conflict) { n++ },
	}
	r.resolve()
	return n
}

// ConflictChange returns by how much the operations on the document changed its number of conflicts. The document need not be
// complete, but of every changed path all that it competes with must be there: see Rival. Cost: that of the changed
// paths, as long as nothing competes with them.
func (d *Document) ConflictChange() int {
	change := 0
	var above ancestry
	for i := 0; i < len(d.fields); i++ {
		f := &d.fields[i]
		if f.before == nil || slices.Equal(f.before.Live, f.Cell.Live) {
			continue
		}
		root := d.rival(i, &above)
		if root < 0 {
			continue
		}
		end := d.endOf(root)
		if end == i && root == i && len(f.before.Live) <= 1 && len(f.Cell.Live) <= 1 { // nearly always
			continue
		}
		region := d.fields[root : end+1]
		change += countConflicts(region) - countConflicts(asBefore(region))
		i = end
	}
	return change
}

// Rival returns the topmost path at or above p that holds a value, now or before the operations; what was written below it
// competes with that value. If there is none nothing competes with p, and ok is false.
func (d *Document) Rival(p PathKey) (top PathKey, ok bool) {
	for at := p; ; at = at.Parent() {
		if i, found := d.search(at); found && d.fields[i].holdsValue() {
			top, ok = at, true
		}
		if at == "" {
			return top, ok
		}
	}
}

// ancestry remembers the outcome for the last parent: neighbours have the same one.
type ancestry struct {
	parent PathKey
	top    int
	known  bool
}

// rival is Rival for the i-th field; -1 if nothing competes with it.
func (d *Document) rival(i int, above *ancestry) int {
	p := d.fields[i].Path
	if p != "" {
		parent := p.Parent()
		if !above.known || above.parent != parent {
			*above = ancestry{parent: parent, top: -1, known: true}
			if top, ok := d.Rival(parent); ok {
				above.top, _ = d.search(top)
			}
		}
		if above.top >= 0 {
			return above.top
		}
	}
	if d.fields[i].holdsValue() {
		return i
	}
	return -1
}

// holdsValue is HoldsValue of the cell now or before the operations.
func (f *tracked) holdsValue() bool {
	return f.Cell.HoldsValue() || f.before != nil && f.before.HoldsValue()
}

// HoldsValue reports whether a live entry is one that fields below contradict: anything but an empty map.
func (c Cell) HoldsValue() bool { return slices.ContainsFunc(c.Live, isValue) }

func isValue(e Entry) bool { return e.Value.kind != EmptyMap }

// endOf returns the index of the last field at or below the i-th.
func (d *Document) endOf(i int) int {
	p := d.fields[i].Path
	for i+1 < len(d.fields) && p.Contains(d.fields[i+1].Path) {
		i++
	}
	return i
}

// asBefore returns the fields as they were before the operations.
func asBefore(fields []tracked) []tracked {
	was := make([]tracked, len(fields))
	for i := range fields {
		was[i].Field = fields[i].Field
		if before := fields[i].before; before != nil {
			was[i].Cell = *before
		}
	}
	return was
}
