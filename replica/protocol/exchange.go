package protocol

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/crdt"
)

// Version vectors grow by an entry for each life of a store that wrote, and after years have thousands. So a session
// whose vectors are long opens with their hashes, and the two sides find out what differs by a trie of hashes:
//
//	A → B  Opening {10,000 entries, hash}      B → A  Opening {10,001 entries, hash}
//	A → B  Branches {root: 32 hashes}          B → A  Branches {root: 32 hashes}
//	A → B  Branches {00110…: 32 hashes}        B → A  Branches {00110…: 32 hashes}      the one of 32 that differs
//	A → B  Branches {0011010010…: 9 entries}   B → A  Branches {0011010010…: 10 entries}
//
// A place in the trie is a prefix of replica IDs, so it holds a run of the sorted vector, and IDs are random, so the trie
// is balanced. Both sides know from what went to and fro which places differ, and tell of each in the same way: with few
// entries they are told, else the hashes of its children. A side that was told the other's entries answers with its own
// whatever their number, for most of them must be what the other lacks. It costs two or three steps, and what differs; nothing
// is remembered between sessions.

// Opening opens a session in each direction, in place of Vectors, where those are long.
type Opening struct {
	Self   crdt.ReplicaID // as in Vectors
	VV     VectorSummary
	Stable VectorSummary
	Ahead  crdt.VersionVector // as in Vectors
	Open   []crdt.Dot
}

// VectorSummary stands for a version vector.
type VectorSummary struct {
	Hash    [16]byte // crdt.VectorHash
	Entries int
}

// Summarize returns the summary of a vector. Cost: linear.
func Summarize(vv crdt.VersionVector) VectorSummary {
	return VectorSummary{crdt.VectorHash(vv), vv.Len()}
}

// Branches tells of places in the trie of the vector that the sender opened the session with.
type Branches struct{ List []Branch }

// Branch tells of one place: the entries there, or, if Hashes is not nil, a hash of the entries of each child.
type Branch struct {
	Place   Place
	Entries []crdt.Dot // sorted
	Hashes  *[FanOut]BranchHash
}

// BranchHash is the start of an XXH3-128 of entries; zero for none. That is enough to tell places apart, and the whole vector is
// checked by its summary in the end.
type BranchHash [6]byte

// MaxBranches bounds the places of one Branches.
const MaxBranches = 128

// FanOut is the number of children of a place.
const FanOut = 1 << fanOutBits

const (
	fanOutBits = 5
	// maxDepth is that of a place with at most 16 IDs in it, which are told as entries.
	maxDepth = 12
	// leafEntries is about what is told in fewer bytes than the hashes of children.
	leafEntries = 16
	// wholeVector is the length up to which vectors are told whole when a session opens: 1.5 KB for both.
	wholeVector = 48
)

// Place names the replica IDs whose first 5 × Depth bits are those of Prefix.
type Place struct {
	Prefix uint64 // its other bits are zero
	Depth  uint8  // at most 12
}

func (p Place) bits() int { return fanOutBits * int(p.Depth) }

// IsValid reports whether p names a place.
func (p Place) IsValid() bool { return p.Depth <= maxDepth && p.Prefix<<p.bits() == 0 }

func (p Place) contains(r crdt.ReplicaID) bool { return (uint64(r)^p.Prefix)>>(64-p.bits()) == 0 }

func (p Place) child(i int) Place {
	return Place{p.Prefix | uint64(i)<<(64-p.bits()-fanOutBits), p.Depth + 1}
}

// vectorExchange finds out the vector of a peer that opened the session with a summary of it, or that was told a summary of
// ours. It is over once the peer's vector is known, and the peer has been told of all places that differ.
type vectorExchange struct {
	whole []crdt.Dot    // ours, as the session was opened with it
	want  VectorSummary // of the peer's
	leaf  int           // what is told as entries

	known []crdt.Dot                    // entries of the peer's, not sorted
	open  map[Place]*[FanOut]BranchHash // places of which more is to come, with the hashes of ours, nil if ours are told as entries
	tell  []Branch                      // to be told, in order; the entries are filled in then
}

func newVectorExchange(whole crdt.VersionVector, want VectorSummary, leaf int) *vectorExchange {
	x := &vectorExchange{want: want, leaf: leaf, open: make(map[Place]*[FanOut]BranchHash)}
	x.whole = make([]crdt.Dot, 0, whole.Len())
	for d := range whole.All() {
		x.whole = append(x.whole, d)
	}
	return x
}

// entries returns ours at a place.
func (x *vectorExchange) entries(p Place) []crdt.Dot {
	from := sort.Search(len(x.whole), func(i int) bool { return uint64(x.whole[i].Replica) >= p.Prefix })
	rest := x.whole[from:]
	n := sort.Search(len(rest), func(i int) bool { return !p.contains(rest[i].Replica) })
	return rest[:n]
}

func hashesAt(p Place, entries []crdt.Dot) *[FanOut]BranchHash {
	var all [FanOut]BranchHash
	var buf []byte
	for len(entries) > 0 {
		i := int(uint64(entries[0].Replica)<<p.bits()>>(64-fanOutBits)) % FanOut
		child := p.child(i)
		n := sort.Search(len(entries), func(k int) bool { return !child.contains(entries[k].Replica) })
		buf = buf[:0]
		for _, d := range entries[:n] {
			buf = binary.BigEndian.AppendUint64(buf, uint64(d.Replica))
			buf = binary.BigEndian.AppendUint64(buf, uint64(d.Time))
		}
		sum := xxh3.Hash128(buf).Bytes()
		copy(all[i][:], sum[:])
		entries = entries[n:]
	}
	return &all
}

// begin makes a place one that differs: it is to be told, and heard of.
func (x *vectorExchange) begin(p Place) {
	var ours *[FanOut]BranchHash
	if entries := x.entries(p); len(entries) > x.leaf && p.Depth < maxDepth {
		ours = hashesAt(p, entries)
	}
	x.open[p] = ours
	x.tell = append(x.tell, Branch{Place: p, Hashes: ours})
}

// next returns the next message, nil if there is nothing to tell now.
func (x *vectorExchange) next() *Branches {
	if len(x.tell) == 0 {
		return nil
	}
	n := min(len(x.tell), MaxBranches)
	m := &Branches{List: slices.Clone(x.tell[:n])}
	x.tell = x.tell[n:]
	for i := range m.List {
		if b := &m.List[i]; b.Hashes == nil {
			b.Entries = x.entries(b.Place)
		}
	}
	return m
}

// receive takes what the peer tells.
func (x *vectorExchange) receive(m *Branches) error {
	for i := range m.List {
		if err := x.hear(&m.List[i]); err != nil {
			return err
		}
	}
	return nil
}

func (x *vectorExchange) hear(b *Branch) error {
	ours, ok := x.open[b.Place]
	if !ok {
		return fmt.Errorf("a branch at %d:%x was told that is not asked for", b.Place.Depth, b.Place.Prefix)
	}
	if b.Hashes == nil {
		return x.hearEntries(b, ours != nil)
	}
	if b.Place.Depth == maxDepth {
		return fmt.Errorf("hashes came for a place of %d bits", b.Place.bits())
	}
	if ours == nil {
		return nil // ours were told as entries: the peer's will follow
	}
	delete(x.open, b.Place)
	for i := range FanOut {
		child := b.Place.child(i)
		if ours[i] == b.Hashes[i] {
			if err := x.learn(x.entries(child)); err != nil {
				return err
			}
			continue
		}
		x.begin(child)
	}
	return nil
}

// hearEntries also answers with ours if the peer was told hashes of them.
func (x *vectorExchange) hearEntries(b *Branch, answer bool) error {
	for i, d := range b.Entries {
		if !b.Place.contains(d.Replica) || i > 0 && d.Replica <= b.Entries[i-1].Replica {
			return fmt.Errorf("entry %s does not belong at %d:%x", d, b.Place.Depth, b.Place.Prefix)
		}
	}
	delete(x.open, b.Place)
	if answer {
		x.answer(b.Place)
	}
	return x.learn(b.Entries)
}

// answer tells ours as entries, in place of the hashes of them or after those.
func (x *vectorExchange) answer(p Place) {
	i := slices.IndexFunc(x.tell, func(b Branch) bool { return b.Place == p })
	if i < 0 {
		x.tell = append(x.tell, Branch{Place: p})
		return
	}
	x.tell[i].Hashes = nil
}

func (x *vectorExchange) learn(entries []crdt.Dot) error {
	if len(x.known)+len(entries) > x.want.Entries {
		return fmt.Errorf("more than the %d entries came that the peer's vector has", x.want.Entries)
	}
	x.known = append(x.known, entries...)
	return nil
}

// isKnown reports whether all of the peer's vector is known.
func (x *vectorExchange) isKnown() bool { return len(x.open) == 0 }

// vector returns the peer's vector, checked against its summary.
func (x *vectorExchange) vector() (crdt.VersionVector, error) {
	slices.SortFunc(x.known, crdt.Dot.Compare)
	vv, ok := crdt.SortedVector(x.known)
	if !ok || Summarize(vv) != x.want {
		return vv, fmt.Errorf("the entries that came do not make up the vector that the peer opened the session with")
	}
	return vv, nil
}
