package protocol

import (
	"cmp"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
)

// Position is a place in the order of all cells of a space: by document key, then by path. The zero Position comes before
// all; as an upper bound it stands for the end.
type Position struct {
	Key  string
	Path crdt.PathKey
}

// IsZero reports whether p is the start, or the end.
func (p Position) IsZero() bool { return p.Key == "" }

// Compare orders positions that are no upper bounds.
func (p Position) Compare(o Position) int {
	return cmp.Or(strings.Compare(p.Key, o.Key), strings.Compare(string(p.Path), string(o.Path)))
}

// Range is the cells from Lower up to Upper, which is not part of it.
type Range struct{ Lower, Upper Position }

// Contains reports whether p lies in the range.
func (g Range) Contains(p Position) bool { return p.Compare(g.Lower) >= 0 && !g.EndsBefore(p) }

// EndsBefore reports whether p lies at or after the end of the range.
func (g Range) EndsBefore(p Position) bool { return !g.Upper.IsZero() && p.Compare(g.Upper) >= 0 }

// isValid reports whether the range can hold anything.
func (g Range) isValid() bool { return g.Upper.IsZero() || g.Lower.Compare(g.Upper) < 0 }

// follows reports whether the range begins where o ends or later.
func (g Range) follows(o Range) bool { return !o.Upper.IsZero() && o.EndsBefore(g.Lower) }

// Part is what a side has in a range.
type Part struct {
	Range
	Fingerprint uint64 // equal where the cells are, but for what is observed at or below the repair's stable vector
	Pieces      int    // documents, and chunks of large ones
	Damaged     bool   // something in it cannot be read: it differs from everything
}

// RepairOpen asks the peer to compare what the two replicas hold, and to mend what differs.
type RepairOpen struct {
	Round  uint64 // names the repair in all its messages; random, as it also salts the fingerprints
	Stable crdt.VersionVector
}

// RangeDigests tells the fingerprints of some ranges of the sender, in ascending order. Without any it ends the repair.
type RangeDigests struct {
	Round uint64
	Parts []Part // Pieces is not told
}

// RangeAnswer answers RepairOpen and RangeDigests.
type RangeAnswer struct {
	Round   uint64
	Refused bool
	Text    string             // why, for people
	Stable  crdt.VersionVector // to RepairOpen: what the answerer's stable vector has beyond the other
	Differs []RangeDifference  // to RangeDigests
}

// RangeDifference names a range that differs.
type RangeDifference struct {
	Index  int // in RangeDigests.Parts
	Pieces int // that the answerer has there
}

// RangeCells carries whole cells of the sender: all that it has in Spans, or, in a reply, those that differ from what was
// asked with. The spans of a reply are the first of those asked with; the last may end earlier.
type RangeCells struct {
	Round     uint64
	Reply     bool
	Spans     []Range
	Claims    uint64             // how many messages that acknowledge something the sender had sent when it read the cells
	Horizon   crdt.VersionVector // beside the dots in the cells: what effects may show of
	Documents []crdt.DocumentDelta
}

func (*RepairOpen) message()   {}
func (*RangeDigests) message() {}
func (*RangeAnswer) message()  {}
func (*RangeCells) message()   {}

// Bounds of what one message of a repair tells. More cells than RepairBytes come in the last document of a message, if
// that has large ones.
const (
	MaxRangeParts = 1024
	MaxRangeSpans = 64
	RepairBytes   = 256 << 10

	splitRanges = 32 // ranges that are cut at once
	// SplitParts is about how many parts a range is cut into, and at most twice as many.
	SplitParts = 16
	// smallRange is how many pieces may travel without asking which of them differ.
	smallRange = 4
)
