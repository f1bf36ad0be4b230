package protocol

import "github.com/anabranch-db/anabranch/crdt"

// Who asks for a snapshot tells what it has, as fingerprints of ranges. Where the source has the same it says so, in place of
// sending it. So a snapshot of two replicas that hardly differ costs what differs:
//
//	E → S  SnapshotRequest from, V, known ["", "g") 17, ["g", "m") 4, ["m", "t") 8
//	S → E  SnapshotBegin 1 {vv, stable, horizon}
//	S → E  SnapshotPiece 1 ["", "g") equal, 17    E has that still, and its position moves
//	S → E  SnapshotPiece 1 ["g", "m") documents
//	S → E  SnapshotPiece 1 ["m", "t") equal, 8    the last of the ranges
//	E → S  SnapshotRequest from "t", V, known ["t", end) 23
//
// E compares again when such a piece comes: what it has may have changed meanwhile. If it did, E asks again, and tells nothing of that
// range any more.

// MaxKnownRanges bounds the ranges of a request.
const MaxKnownRanges = 2048

// KnownRanges tells what the receiver of a snapshot has in ranges that adjoin each other and begin between documents. The source
// sends nothing after the last of them.
type KnownRanges struct {
	Round  uint64             // names the request, and salts the fingerprints; random, not zero
	Stable crdt.VersionVector // what is observed at or below it does not count; the source has forgotten it, or may
	Parts  []Part             // Pieces is not told
}

// End returns where the last range ends; zero is the end of all.
func (k *KnownRanges) End() Position {
	if k == nil || len(k.Parts) == 0 {
		return Position{}
	}
	return k.Parts[len(k.Parts)-1].Upper
}

// EndsAt reports whether the piece is the last up to a position, or of the state.
func (p *SnapshotPiece) EndsAt(end Position) bool {
	return p.IsLast() || !end.IsZero() && !p.Partial && p.Upper.Compare(end) >= 0
}

// taken returns the ranges if the state that a Begin describes takes them into account.
func (k *KnownRanges) taken(b *SnapshotBegin) *KnownRanges {
	if k == nil || b.Round != k.Round {
		return nil
	}
	return k
}
