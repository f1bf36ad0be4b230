package protocol

import (
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Message is one of *Grants, *Vectors, *Opening, *Branches, *Delta, *Ack, *Level, *Refusal, *Members, *Clock and those of snapshots: what two replicas of a space tell
// each other in one session. A message is not changed after it was made.
type Message interface{ message() }

// Vectors opens a session in each direction: what the sender holds durably.
type Vectors struct {
	// Self is the sender's present ReplicaID, zero if it has not drawn one. A peer that knows more of Self
	// than the sender does proves that the sender lost something.
	Self   crdt.ReplicaID
	VV     crdt.VersionVector
	Stable crdt.VersionVector
	// Ahead is what of the sender's horizon lies beyond VV: together they cover every dot that its state names. So who
	// wrote a transaction learns for sure that a peer has nothing of it. Most often it is empty.
	Ahead crdt.VersionVector
	// Open has each replica in Ahead, sorted, with what the sender holds of it whole: see Firm. The time may be zero.
	Open []crdt.Dot
}

// Delta carries the writes of one replica. See crdt.Delta.
type Delta struct{ crdt.Delta }

// Ack says that the sender now holds more, durably: the entries of its version vector that rose since it
// last told them, in a Vectors, an Ack, or by sending the Delta itself; and those at which what it holds whole changed.
type Ack struct {
	VV   crdt.VersionVector
	Open []crdt.Dot // of the replicas in VV those at which the sender is open, as in Vectors
}

// Level is sent when the sender knows of nothing that the receiver lacks: the digest of the sender's live state
// and the hash of its version vector (see crdt.VectorHash). Digests are compared only where both sides are closed and have equal vectors.
type Level struct {
	VectorHash [16]byte
	Digest     crdt.Digest
	Closed     bool
}

// RefusalCode says why a Delta was refused, or a session ends.
type RefusalCode uint8

// The codes are part of the wire format.
const (
	// RefusedClock: the delta holds a time too far ahead of the refuser's clock. The session goes on; the
	// sender holds that origin back for a while and then tries again.
	RefusedClock RefusalCode = iota + 1
	// RefusedGap: the receiver lacks what comes before the delta. The sender starts again from the
	// receiver's acknowledged vector.
	RefusedGap
	// RefusedMalformed: the content does not parse or breaks a limit. It ends the session.
	RefusedMalformed
	// RefusedStable: a snapshot was asked for, and this replica serves none now.
	RefusedStable
	// RefusedInternal: the refuser could not store it (disk full, store closed). It ends the session.
	RefusedInternal
	// RefusedKnown: the receiver had it already from elsewhere, which is no fault. The sender leaves that origin to
	// others, for as long as they do it.
	RefusedKnown
	// RefusedPermission: the sender may only read the space. It ends the session.
	RefusedPermission
	// RefusedOpen: the encoder had pruned more of the origin than the receiver holds whole. From says up to where that is. The sender
	// starts again from the receiver's acknowledged vector, with a delta of somebody who pruned less, or by a snapshot.
	RefusedOpen
)

func (c RefusalCode) String() string {
	switch c {
	case RefusedClock:
		return "clock too far ahead"
	case RefusedGap:
		return "gap"
	case RefusedMalformed:
		return "malformed"
	case RefusedStable:
		return "serves no snapshot"
	case RefusedInternal:
		return "internal error"
	case RefusedKnown:
		return "known"
	case RefusedPermission:
		return "no right to write"
	case RefusedOpen:
		return "open"
	}
	return fmt.Sprintf("code %d", uint8(c))
}

// Refusal tells the peer that its Delta (Origin, From, To) was not merged, and why. From means something else in a RefusedOpen. Text is
// for people.
type Refusal struct {
	Code   RefusalCode
	Origin crdt.ReplicaID
	From   hlc.Time
	To     hlc.Time
	Text   string // at most MaxRefusalText bytes
}

// MaxRefusalText bounds Refusal.Text, in bytes.
const MaxRefusalText = 1024

func (*Vectors) message() {}
func (*Delta) message()   {}
func (*Ack) message()     {}
func (*Level) message()   {}
func (*Refusal) message() {}

func (*Opening) message()  {}
func (*Branches) message() {}
