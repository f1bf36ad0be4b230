package crdt

// SortedVector returns the vector of the given dots, which it keeps: for parsers, which find them in order. It reports
// false if they are not sorted by replica without repetition, or if one has a zero replica or time.
func SortedVector(dots []Dot) (VersionVector, bool) {
	last := ReplicaID(0)
	for _, d := range dots {
		if d.Replica <= last || d.Time == 0 {
			return VersionVector{}, false
		}
		last = d.Replica
	}
	return VersionVector{dots}, true
}
