package crdt

import (
	"bytes"
	"cmp"
)

// JoinField joins the cell b into the one at p as Merge does for states that were never pruned: an entry that only one of the two
// has stays, unless the other says that it is dead. For where absence proves nothing, as in a repair. The result is
// pruned at stable. It reports whether that changed anything.
//
// One dot may even have two contents there, after damage: then the greater (stamp, author, value) stays, so that both sides choose alike.
func (d *Document) JoinField(stable VersionVector, p PathKey, b Cell) bool {
	own := d.prunedAt(p, stable)
	merged := MergeComplete(own, VersionVector{}, b, VersionVector{})
	for i, e := range merged.Live {
		if o, ok := own.entry(e.Dot.Replica); ok && o.Dot == e.Dot && o != e && o.compareContent(e) > 0 {
			merged.Live[i] = o
		}
	}
	merged.Prune(stable)
	return d.replaceAt(p, own, merged)
}

func (e Entry) compareContent(o Entry) int {
	return cmp.Or(cmp.Compare(e.Stamp, o.Stamp), cmp.Compare(e.Author, o.Author), cmp.Compare(e.Value.Kind(), o.Value.Kind()),
		bytes.Compare(e.Value.AppendPacked(nil), o.Value.AppendPacked(nil)))
}
