package replica

import (
	"context"
	"errors"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
)

// ClientOpKind is what one change of a client's transaction does.
type ClientOpKind uint8

// The kinds. To delete a document is to remove the empty path.
const (
	ClientSet ClientOpKind = 1 + iota
	ClientRemove
	ClientIncrement
)

// SeenDot says that a client had read the live entry of Dot in the cell at Path.
type SeenDot struct {
	Path crdt.PathKey
	Dot  crdt.Dot
}

// ClientOp is one change of a client's transaction.
type ClientOp struct {
	Kind ClientOpKind
	Key  string
	Path crdt.PathKey // "" is the document
	// Leaves, of ClientSet, replace the subtree at Path: at Path or below, sorted by path, none above another. Empty: as ClientRemove, but
	// that the values above Path go as well.
	Leaves []crdt.Leaf
	By     int64 // of ClientIncrement
	// Seen are the live entries that the client had read at Path, below, and, for ClientSet, above; in any order. What is live in those
	// cells and is not listed survives as a sibling, but for what the client itself wrote.
	Seen []SeenDot
}

// ClientTransaction is a transaction of a client that is not a replica, as this node, its home, is to make it.
type ClientTransaction struct {
	// Client is the client's ID, random and not zero. It is the author of what the client writes.
	Client crdt.ReplicaID
	// Subject says who may use the ID: the one who used it first. At most MaxSubjectBytes.
	Subject string
	// Seq numbers the transactions of a client in the order in which it makes them: it grows, and begins at 1.
	Seq uint64
	// At is when the client made it, by its own clock. It is clamped to this node's clock. Zero: now.
	At time.Time
	// Force ignores listed dots of transactions that are not here. Without it they are ErrBehind.
	Force bool
	// Floor: nothing will be asked any more about transactions with a lower Seq, so their rejections may be forgotten.
	Floor uint64
	Ops   []ClientOp
}

// MaxSubjectBytes bounds ClientTransaction.Subject.
const MaxSubjectBytes = 255

// Codes of rejections.
const (
	RejectBadRequest      = "bad-request"
	RejectTooLarge        = "too-large"
	RejectCounterRange    = "counter-range"
	RejectClientTaken     = "client-taken"
	RejectForbidden       = "forbidden"
	RejectTooManySiblings = "too-many-siblings"
)

// ClientRejection says why a transaction was refused for good.
type ClientRejection struct {
	Code   string // one of the Reject constants; at most 64 bytes
	Detail string // for people; cut at 512 bytes
}

// ClientReceipt says where the effect of a client's transactions can be seen.
type ClientReceipt struct {
	// Vector covers the dots of all transactions of the client at this node so far: see Space.SyncedVector.
	Vector crdt.VersionVector
	// Cursor is a place in the feed at or after the effect.
	Cursor Cursor
	// Dot is that of the transaction; zero if it changed nothing, or if the answer is of an earlier call.
	Dot crdt.Dot
}

// ClientResult is the outcome of one transaction. It is durable.
type ClientResult struct {
	Seq       uint64
	Duplicate bool             // it was settled before
	Rejected  *ClientRejection // nil: accepted
	Receipt   ClientReceipt
}

// ErrBehind says that a client has read something that this node has not received yet: ask again later, or with Force.
var ErrBehind = errors.New("the client has seen writes that are not here yet")

// ApplyClient makes one transaction in the name of a client, once: if its Seq is not greater than that of the client's last one, the answer
// is what became of it then. It returns when the outcome is durable, also that of a rejection.
//
// After an error nothing was settled, and the same transaction can be given again: ErrBehind, ErrNoSpace, ErrClosed,
// PermissionError and what Update returns.
func (s *Space) ApplyClient(ctx context.Context, t ClientTransaction) (ClientResult, error) {
	results, err := s.ApplyClientAll(ctx, []ClientTransaction{t})
	if len(results) == 0 {
		return ClientResult{}, err
	}
	return results[0], err
}

// ApplyClientAll is ApplyClient for successive transactions of one client, or of several. They share commits. It returns the outcomes up to the
// first error, which is that of the transaction after those.
func (s *Space) ApplyClientAll(ctx context.Context, all []ClientTransaction) ([]ClientResult, error) {
	return nil, errors.ErrUnsupported
}

// RejectClient settles a Seq as rejected, for instance of a transaction that does not parse, unless it is settled already.
func (s *Space) RejectClient(ctx context.Context, client crdt.ReplicaID, subject string, seq uint64, why ClientRejection) (ClientResult, error) {
	return ClientResult{}, errors.ErrUnsupported
}
