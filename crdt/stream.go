package crdt

import "iter"

// StreamLeaves yields what Document.Leaves does, for a document whose fields come one after the other, in the order of their paths: so a large one
// need not be in memory. It holds as much of it as competes: where a value was written concurrently with fields below its path, all of
// those, and else one field. The first error ends it.
func StreamLeaves(fields iter.Seq2[Field, error]) iter.Seq2[Leaf, error] {
	return func(yield func(Leaf, error) bool) {
		var group []Field // live ones, of which the first lies above the others
		flush := func() bool {
			shown := NewDocument(group).Leaves()
			group = group[:0]
			for p, v := range shown {
				if !yield(Leaf{p, v}, nil) {
					return false
				}
			}
			return true
		}
		for f, err := range fields {
			switch {
			case err != nil:
				yield(Leaf{}, err)
				return
			case len(f.Cell.Live) == 0:
				continue
			case len(group) == 0 || group[0].Path.Contains(f.Path) && !isEmptyMap(group[0].Cell):
			case group[0].Path.Contains(f.Path): // an empty map beside fields below does not show, and hides none
				group = group[:0]
			case !flush():
				return
			}
			group = append(group, f)
		}
		flush()
	}
}

// isEmptyMap reports whether an empty map is all that is live in the cell.
func isEmptyMap(c Cell) bool {
	for i := range c.Live {
		if c.Live[i].Value.kind != EmptyMap {
			return false
		}
	}
	return true
}
