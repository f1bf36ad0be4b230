package replicatest

// txSet is a set of transactions, by their index in the oracle. It is never changed once it is made, so states
// share sets.
type txSet []uint64

func (s txSet) has(i int) bool { return i/64 < len(s) && s[i/64]&(1<<(i%64)) != 0 }

func (s txSet) with(i int) txSet {
	out := make(txSet, max(len(s), i/64+1))
	copy(out, s)
	out[i/64] |= 1 << (i % 64)
	return out
}

func (s txSet) union(o txSet) txSet {
	if s.covers(o) {
		return s
	}
	if o.covers(s) {
		return o
	}
	out := make(txSet, max(len(s), len(o)))
	copy(out, s)
	for i, w := range o {
		out[i] |= w
	}
	return out
}

func (s txSet) covers(o txSet) bool {
	for i, w := range o {
		if i >= len(s) {
			if w != 0 {
				return false
			}
		} else if w&^s[i] != 0 {
			return false
		}
	}
	return true
}

func (s txSet) meets(o txSet) bool {
	for i := range min(len(s), len(o)) {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}
