package crdt

// MaxLanes is how many IDs a replica may write under at one time, its own included.
//
// A cell has at most one live entry of each writer, and a writer's newer entry or observed dot says that its older ones are dead. That is
// right for a replica's own transactions, which see all that it holds. One that it makes for a client has seen less: where
// an entry of the replica stays that the client has not seen, it needs another writer. Lanes are such writers, and live and die with the ID
// that they come from. More siblings in one cell than there are lanes nobody could use.
const MaxLanes = 64

// Lane returns the i-th lane of a replica, 0 ≤ i < MaxLanes. The first is the replica itself. The others are IDs as good as random, which
// every program computes alike.
func (r ReplicaID) Lane(i int) ReplicaID {
	if i == 0 {
		return r
	}
	// The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). It maps no two numbers
	// to one, so the lanes of a replica differ from each other.
	x := uint64(r) + uint64(i)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	if x == 0 { // which is no replica
		return 1
	}
	return ReplicaID(x)
}

// IsLaneOf reports whether r is a lane of self. Nothing is a lane of the zero ID.
func (r ReplicaID) IsLaneOf(self ReplicaID) bool {
	if self == 0 {
		return false
	}
	for i := range MaxLanes {
		if self.Lane(i) == r {
			return true
		}
	}
	return false
}
