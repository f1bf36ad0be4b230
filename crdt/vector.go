package crdt

import (
	"iter"
	"slices"
	"sort"
	"strings"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// VersionVector maps each replica to a time; a replica that is not in it has the zero time. It covers the
// dots at or below its entries. The zero value is the empty vector.
//
// It is a slice sorted by replica, because most vectors are small and all are read far more often than
// they grow: looking up costs O(log n), adding a replica O(n). A copy of the value shares the entries; use
// Clone before changing one of two copies.
type VersionVector struct {
	dots []Dot
}

// NewVersionVector returns the vector that covers the given dots (the join of them).
func NewVersionVector(dots ...Dot) VersionVector {
	var vv VersionVector
	for _, d := range dots {
		vv.Advance(d)
	}
	return vv
}

func (vv VersionVector) search(r ReplicaID) (int, bool) {
	// Vectors of a handful of entries are the rule: a scan beats the calls of a binary search.
	if len(vv.dots) <= 8 {
		for i := range vv.dots {
			if vv.dots[i].Replica >= r {
				return i, vv.dots[i].Replica == r
			}
		}
		return len(vv.dots), false
	}
	i := sort.Search(len(vv.dots), func(i int) bool { return vv.dots[i].Replica >= r })
	return i, i < len(vv.dots) && vv.dots[i].Replica == r
}

// Get returns the time of r, zero if it has none.
func (vv VersionVector) Get(r ReplicaID) hlc.Time {
	if i, ok := vv.search(r); ok {
		return vv.dots[i].Time
	}
	return 0
}

// Covers reports whether d is at or below the vector.
func (vv VersionVector) Covers(d Dot) bool { return vv.Get(d.Replica) >= d.Time }

// Advance raises the vector so that it covers d, and reports whether it did not before.
func (vv *VersionVector) Advance(d Dot) bool {
	i, ok := vv.search(d.Replica)
	switch {
	case ok && vv.dots[i].Time >= d.Time, d.Time == 0:
		return false
	case ok:
		vv.dots[i].Time = d.Time
	default:
		vv.dots = slices.Insert(vv.dots, i, d)
	}
	return true
}

// Join raises the vector to the least one that covers what it and o cover. Cost: linear in both.
func (vv *VersionVector) Join(o VersionVector) {
	switch {
	case len(o.dots) == 0:
		return
	case len(vv.dots) == 0:
		vv.dots = slices.Clone(o.dots)
		return
	case len(o.dots) <= 4:
		for _, d := range o.dots {
			vv.Advance(d)
		}
		return
	}
	joined := make([]Dot, 0, max(len(vv.dots), len(o.dots)))
	a, b := vv.dots, o.dots
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].Replica < b[0].Replica:
			joined, a = append(joined, a[0]), a[1:]
		case a[0].Replica > b[0].Replica:
			joined, b = append(joined, b[0]), b[1:]
		default:
			joined = append(joined, Dot{a[0].Replica, max(a[0].Time, b[0].Time)})
			a, b = a[1:], b[1:]
		}
	}
	joined = append(joined, a...)
	vv.dots = append(joined, b...)
}

// Remove takes the entry of r out of the vector.
func (vv *VersionVector) Remove(r ReplicaID) {
	if i, ok := vv.search(r); ok {
		vv.dots = slices.Delete(vv.dots, i, i+1)
	}
}

// LessOrEqual reports whether o covers everything that vv covers. Cost: linear in both.
func (vv VersionVector) LessOrEqual(o VersionVector) bool {
	rest := o.dots
	for _, d := range vv.dots {
		for len(rest) > 0 && rest[0].Replica < d.Replica {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].Replica != d.Replica || rest[0].Time < d.Time {
			return false
		}
	}
	return true
}

// Equal reports whether both cover the same dots.
func (vv VersionVector) Equal(o VersionVector) bool { return slices.Equal(vv.dots, o.dots) }

// Beyond returns the entries of vv that o does not cover. Cost: linear in both.
func (vv VersionVector) Beyond(o VersionVector) VersionVector {
	var out VersionVector
	rest := o.dots
	for _, d := range vv.dots {
		for len(rest) > 0 && rest[0].Replica < d.Replica {
			rest = rest[1:]
		}
		if len(rest) == 0 || rest[0].Replica != d.Replica || rest[0].Time < d.Time {
			out.dots = append(out.dots, d)
		}
	}
	return out
}

// Meet returns the greatest vector that both cover. Cost: linear in both.
func (vv VersionVector) Meet(o VersionVector) VersionVector {
	var out VersionVector
	rest := o.dots
	for _, d := range vv.dots {
		for len(rest) > 0 && rest[0].Replica < d.Replica {
			rest = rest[1:]
		}
		if len(rest) > 0 && rest[0].Replica == d.Replica {
			out.dots = append(out.dots, Dot{d.Replica, min(d.Time, rest[0].Time)})
		}
	}
	return out
}

// All yields the entries as dots, ordered by replica.
func (vv VersionVector) All() iter.Seq[Dot] { return slices.Values(vv.dots) }

// Len returns the number of replicas that have an entry.
func (vv VersionVector) Len() int { return len(vv.dots) }

// At returns the i-th entry in the order of replicas.
func (vv VersionVector) At(i int) Dot { return vv.dots[i] }

// Max returns the greatest time in the vector.
func (vv VersionVector) Max() hlc.Time {
	var t hlc.Time
	for _, d := range vv.dots {
		t = max(t, d.Time)
	}
	return t
}

// Clone returns a copy that shares nothing with vv.
func (vv VersionVector) Clone() VersionVector { return VersionVector{slices.Clone(vv.dots)} }

func (vv VersionVector) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, d := range vv.dots {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(d.String())
	}
	b.WriteByte('}')
	return b.String()
}
