package crdt

// JoinField joins the cell b into the one at p as Merge does for states that were never pruned: an entry that only one of the two
// has stays, unless the other says that it is dead. For where absence proves nothing, as in a repair. The result is
// pruned at stable. It reports whether that changed anything.
func (d *Document) JoinField(stable VersionVector, p PathKey, b Cell) bool {
	own := d.Cell(p)
	merged := MergeComplete(own, VersionVector{}, b, VersionVector{})
	merged.Prune(stable)
	if merged.Equal(own) {
		return false
	}
	d.touch(p).Cell = merged
	return true
}
