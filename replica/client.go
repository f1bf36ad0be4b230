package replica

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// ClientOp is one change of a client's transaction.
type ClientOp = docstore.ClientOp

// ClientOpKind is what one change of a client's transaction does.
type ClientOpKind = docstore.ClientOpKind

// The kinds. To delete a document is to remove the empty path.
const (
	ClientSet       = docstore.ClientSet
	ClientRemove    = docstore.ClientRemove
	ClientIncrement = docstore.ClientIncrement
)

// SeenDot says that a client had read the live entry of Dot in the cell at Path.
type SeenDot = crdt.SeenDot

// ClientTransaction is a transaction of a client that is not a replica, as this node, its home, is to make it.
type ClientTransaction struct {
	// Client is the client's ID, random and not zero. It is the author of what the client writes.
	Client crdt.ReplicaID
	// Subject says who may use the ID: the one who used it first. At most MaxSubjectBytes.
	Subject string
	// Seq numbers the transactions of a client in the order in which it makes them: it grows, and begins at 1.
	Seq uint64
	// At is when the client made it, by its own clock: which of several siblings shows depends on it. It counts as not later than now by this
	// node's clock, and not earlier than the client's last transaction here. Zero: now.
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
var ErrBehind = docstore.ErrBehind

// ErrTooManyRejections says that so many transactions of a client were rejected that no more can be remembered: raise Floor.
var ErrTooManyRejections = fmt.Errorf("%d rejections of the client's transactions are remembered already: say which of them it knows of", docstore.MaxRejections)

// clientsAtOnce bounds the transactions that are made while the replica is locked for other writes.
const clientsAtOnce = 16

// ApplyClient makes one transaction in the name of a client, once: if its Seq is not greater than that of the client's last one, the answer
// is what became of it then. It returns when the outcome is durable, also that of a rejection.
//
// After an error nothing was settled, and the same transaction can be given again: ErrBehind, ErrTooManyRejections, store.ErrNoSpace, ErrClosed,
// *PermissionError, and what else Update returns. Until that has happened no later transaction of the client may be given, or this one would
// count as settled.
func (s *Space) ApplyClient(ctx context.Context, t ClientTransaction) (ClientResult, error) {
	results, err := s.ApplyClientAll(ctx, []ClientTransaction{t})
	if err != nil {
		return ClientResult{}, err
	}
	return results[0], nil
}

// ApplyClientAll is ApplyClient for successive transactions of one client, or of several; they share commits. It returns the outcomes up to
// the first error, which is that of the transaction after those. The others are not begun.
func (s *Space) ApplyClientAll(ctx context.Context, all []ClientTransaction) ([]ClientResult, error) {
	made, err := s.makeClients(ctx, len(all), func(i int) (clientOutcome, error) { return s.applyClient(&all[i]) })
	results, failed := s.waitForClients(made)
	if failed != nil {
		return results, failed
	}
	return results, err
}

// waitForClients returns the outcomes once they are durable, up to the first that does not come to be.
func (s *Space) waitForClients(made []clientOutcome) ([]ClientResult, error) {
	results := make([]ClientResult, 0, len(made))
	for _, m := range made {
		for _, g := range m.in {
			if err := g.wait(); err != nil {
				return results, fmt.Errorf("commit a client's transaction in space %q: %w", s.name, err)
			}
		}
		results = append(results, m.ClientResult)
	}
	return results, nil
}

// RejectClient settles a Seq as rejected, for instance of a transaction that does not parse, unless it is settled already.
func (s *Space) RejectClient(ctx context.Context, client crdt.ReplicaID, subject string, seq uint64, why ClientRejection) (ClientResult, error) {
	t := &ClientTransaction{Client: client, Subject: subject, Seq: seq}
	made, err := s.makeClients(ctx, 1, func(int) (clientOutcome, error) {
		rec, out, err := s.recall(t)
		if err != nil || out.isSettled {
			return out, err
		}
		return s.settleClient(t, rec, crdt.Dot{}, &why)
	})
	if err != nil {
		return ClientResult{}, err
	}
	results, err := s.waitForClients(made)
	if err != nil {
		return ClientResult{}, err
	}
	return results[0], nil
}

// clientOutcome is what became of a transaction, once the groups are durable.
type clientOutcome struct {
	ClientResult
	isSettled bool // by an earlier call, or it cannot be
	in        []*group
}

// makeClients makes n transactions, up to the first error. It does not wait until they are durable.
func (s *Space) makeClients(ctx context.Context, n int, makeOne func(int) (clientOutcome, error)) (made []clientOutcome, err error) {
	r := s.r
	defer r.poke()
	for len(made) < n && err == nil {
		if err = ctx.Err(); err != nil {
			break
		}
		made, err = s.makeSome(made, min(n, len(made)+clientsAtOnce), makeOne)
	}
	return made, err
}

func (s *Space) makeSome(made []clientOutcome, n int, makeOne func(int) (clientOutcome, error)) ([]clientOutcome, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(made) < n {
		if r.isGroupFull() {
			r.poke()
		}
		if err := r.waitForRoom(); err != nil {
			return made, err
		}
		if err := errors.Join(s.checkHere(), s.require(WriteRights)); err != nil {
			return made, err
		}
		m, err := makeOne(len(made))
		if err != nil {
			return made, err
		}
		made = append(made, m)
	}
	return made, nil
}

// applyClient is called with r.mu held.
func (s *Space) applyClient(t *ClientTransaction) (clientOutcome, error) {
	rec, out, err := s.recall(t)
	if err != nil || out.isSettled {
		return out, err
	}
	r := s.r
	now := r.now()
	w := docstore.ClientWrite{Client: t.Client, Force: t.Force, Ops: t.Ops}
	if w.Time, err = r.clock.Peek(now); err != nil {
		return out, err
	}
	if err = checkClientOps(t.Ops); err == nil {
		r.identify()
		w.Self, w.Stamp = r.self, rec.StampAt(clientTime(t.At), now, w.Time)
		var delta *crdt.Delta
		if delta, err = s.commitClient(&w); err == nil {
			rec.Stamp = max(rec.Stamp, w.Stamp)
			return s.settleClient(t, rec, s.noteClient(delta), nil)
		}
	}
	why, ok := rejectionOf(err)
	if !ok {
		return out, s.noteCorrupt(err)
	}
	return s.settleClient(t, rec, crdt.Dot{}, &why)
}

func (s *Space) commitClient(w *docstore.ClientWrite) (*crdt.Delta, error) {
	over, err := s.r.overlay()
	if err != nil {
		return nil, err
	}
	defer over.Snapshot.Close()
	return s.state.CommitClient(over, s.r.group.batch, w)
}

// noteClient puts what a transaction did into the group, and returns its dot: zero if it changed nothing.
func (s *Space) noteClient(delta *crdt.Delta) crdt.Dot {
	if delta == nil {
		return crdt.Dot{}
	}
	dot := crdt.Dot{Replica: delta.Origin, Time: delta.To}
	s.r.clock.Observe(dot.Time)
	s.claim(dot)
	part := s.r.group.part(s)
	part.local = append(part.local, delta)
	part.risen.Advance(dot)
	return dot
}

func clientTime(at time.Time) hlc.Time {
	if at.IsZero() {
		return 0
	}
	return max(1, hlc.FromWall(at))
}

// recall returns what is known of a client, and the outcome of t if that is settled. It is called with r.mu held.
func (s *Space) recall(t *ClientTransaction) (*docstore.ClientRecord, clientOutcome, error) {
	out := clientOutcome{ClientResult: ClientResult{Seq: t.Seq}}
	if why := checkClient(t); why != nil {
		out.Rejected, out.isSettled = why, true
		return nil, out, nil
	}
	over, err := s.r.overlay()
	if err != nil {
		return nil, out, err
	}
	defer over.Snapshot.Close()
	rec, ok, err := s.state.Client(over, t.Client)
	switch {
	case err != nil:
		return nil, out, s.noteCorrupt(err)
	case !ok:
		rec.Subject = t.Subject
	case rec.Subject != t.Subject:
		out.Rejected, out.isSettled = &ClientRejection{RejectClientTaken, "another user has used this client ID: draw a new one"}, true
		return nil, out, nil
	}
	if t.Seq > rec.Last {
		return &rec, out, nil
	}
	out.Duplicate, out.isSettled = true, true
	if why, ok := rec.Rejection(t.Seq); ok {
		out.Rejected = &ClientRejection{why.Code, why.Detail}
	}
	out.Receipt = s.clientReceipt(&rec, crdt.Dot{})
	out.in = s.pending()
	return nil, out, nil
}

// settleClient notes durably what became of a transaction. It is called with r.mu held.
func (s *Space) settleClient(t *ClientTransaction, rec *docstore.ClientRecord, dot crdt.Dot, why *ClientRejection) (clientOutcome, error) {
	out := clientOutcome{ClientResult: ClientResult{Seq: t.Seq}}
	rec.Forget(t.Floor)
	var refused *docstore.ClientRejection
	if why != nil {
		if len(rec.Rejected) >= docstore.MaxRejections {
			return out, ErrTooManyRejections
		}
		why = &ClientRejection{cut(why.Code, maxRejectCode), cut(why.Detail, maxRejectDetail)}
		refused = &docstore.ClientRejection{Code: why.Code, Detail: why.Detail}
		out.Rejected = why
	}
	g := s.r.group
	rec.Settle(t.Seq, dot, refused, s.state.Stable())
	rec.Used = s.r.cfg.Now().UnixMilli()
	s.state.PutClient(g.batch, t.Client, rec)
	g.part(s)
	out.Receipt = s.clientReceipt(rec, dot)
	out.in = []*group{g}
	return out, nil
}

func (s *Space) clientReceipt(rec *docstore.ClientRecord, dot crdt.Dot) ClientReceipt {
	return ClientReceipt{Vector: rec.Given, Cursor: Cursor{s.r.feed, s.state.Arrival()}, Dot: dot}
}

// pending returns the groups with something of the space that is not known to be durable. It is called with r.mu held.
func (s *Space) pending() (groups []*group) {
	for _, g := range []*group{s.r.last, s.r.group} {
		if g != nil && !g.isDone() && g.spaces[s] != nil {
			groups = append(groups, g)
		}
	}
	return groups
}

const (
	maxRejectCode   = 64
	maxRejectDetail = 512
)

// cut shortens text to n bytes, between characters.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

// checkClient refuses what cannot be settled.
func checkClient(t *ClientTransaction) *ClientRejection {
	var why string
	switch {
	case t.Client == 0:
		why = "a transaction without a client ID"
	case t.Seq == 0:
		why = "the numbers of transactions begin with 1"
	case len(t.Subject) > MaxSubjectBytes:
		why = fmt.Sprintf("the subject has %d bytes, at most %d are allowed", len(t.Subject), MaxSubjectBytes)
	default:
		return nil
	}
	return &ClientRejection{RejectBadRequest, why}
}

// checkClientOps checks what does not depend on the state.
func checkClientOps(ops []ClientOp) error {
	for i, o := range ops {
		err := errors.Join(crdt.CheckKey(o.Key), o.Path.Check())
		switch o.Kind {
		case ClientSet:
			if err == nil {
				err = crdt.CheckLeaves(o.Path, o.Leaves)
			}
			if err == nil && len(o.Leaves) == 0 {
				err = fmt.Errorf("%w: a set without a value", errClientOp)
			}
		case ClientRemove, ClientIncrement:
		default:
			err = errors.Join(err, fmt.Errorf("%w: operation of kind %d", errClientOp, o.Kind))
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return nil
}

var errClientOp = errors.New("invalid operation")

// rejectionOf returns the rejection that an error comes to, if it says something about the transaction and not about this node.
func rejectionOf(err error) (ClientRejection, bool) {
	var limit *crdt.LimitError
	var code string
	switch {
	case errors.Is(err, docstore.ErrCorrupt): // what is stored, not what came
		return ClientRejection{}, false
	case errors.Is(err, docstore.ErrTooManySiblings):
		code = RejectTooManySiblings
	case errors.Is(err, crdt.ErrCounterRange):
		code = RejectCounterRange
	case errors.As(err, &limit) && limit.Unit != "replicas": // the space has no room for one more
		code = RejectTooLarge
	case errors.Is(err, crdt.ErrKey), errors.Is(err, crdt.ErrPath), errors.Is(err, crdt.ErrValue), errors.Is(err, errClientOp):
		code = RejectBadRequest
	default:
		return ClientRejection{}, false
	}
	return ClientRejection{Code: code, Detail: err.Error()}, true
}
