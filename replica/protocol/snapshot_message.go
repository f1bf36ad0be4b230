package protocol

import "github.com/anabranch-db/anabranch/crdt"

// AfterDocument returns the first position after all cells of a document.
func AfterDocument(key string) Position { return Position{Key: key + "\x00"} }

// SnapshotOffer says that the sender does not serve the receiver by deltas: what the receiver lacks of Stable is forgotten
// here, or is so much that a snapshot is faster. It takes a snapshot. One with a Stable that the receiver has takes the last one back.
type SnapshotOffer struct{ Stable crdt.VersionVector }

// SnapshotRequest asks for the snapshot from a position on. V is the vector of the state that the first piece came from; it is empty
// where From is zero.
type SnapshotRequest struct {
	From  Position
	V     crdt.VersionVector
	Known *KnownRanges // nil: everything is to be sent
}

// SnapshotBegin answers a request: it describes the one state that the pieces with its number come from. From is what was asked
// for, or zero: then that state does not continue what the receiver has, which starts over.
type SnapshotBegin struct {
	State   uint64
	From    Position
	VV      crdt.VersionVector
	Stable  crdt.VersionVector
	Horizon crdt.VersionVector
	// Documents and Bytes are what the whole state comes to, about.
	Documents uint64
	Bytes     uint64
	// Round is that of the KnownRanges of the request, zero if they are not taken into account.
	Round uint64
}

// SnapshotPiece is all cells of a state in a range: whole, those with nothing live included. What is not in it is not in the
// state.
type SnapshotPiece struct {
	State uint64
	Range
	Documents []crdt.DocumentDelta // sorted by key, one for each document
	// Partial: it has some of the siblings of one cell that no frame takes whole, and what is missing says nothing. Others
	// follow, and then a piece of the same range that has the last of them, and in Spared the dots of those before.
	Partial bool
	Spared  crdt.VersionVector
	// Equal: the state has in the range what has this Fingerprint, as the receiver said of itself. There are no documents then.
	Equal       bool
	Fingerprint uint64
}

// IsLast reports whether nothing comes after the piece.
func (p *SnapshotPiece) IsLast() bool { return p.Upper.IsZero() }

func (*SnapshotOffer) message()   {}
func (*SnapshotRequest) message() {}
func (*SnapshotBegin) message()   {}
func (*SnapshotPiece) message()   {}
