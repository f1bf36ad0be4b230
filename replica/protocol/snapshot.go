package protocol

import (
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
)

// A peer that lacks what is stable here cannot be served by deltas, for what it lacks is forgotten. It takes a snapshot, and so does one that has nothing
// of what is much (State.Large):
//
//	S → E  SnapshotOffer {stable}
//	E → S  SnapshotRequest from, V            E's host decides: one snapshot at a time
//	S → E  SnapshotBegin 1 {vv, stable, horizon}
//	S → E  SnapshotPiece 1 ["", "m")          E merges, and its position moves in the same commit
//	S → E  SnapshotPiece 1 ["m", end)         E has all of vv now
//	E → S  Ack {what rose}
//
// If the connection breaks E asks again from its position.

// What SnapshotSource.Begin returns if there is no snapshot now.
var (
	ErrBusy = errors.New("this replica sends too many snapshots already")
	ErrHeld = errors.New("this replica holds writes back") // in a snapshot it would tell of them
)

// SnapshotSource gives the snapshots that a session sends. A session asks for one at a time.
type SnapshotSource interface {
	// Begin opens a snapshot of what is durable for a request. After ErrWait the session asks again at its next turn, and so it does after
	// ErrBusy, unless the peer can be served by deltas. After ErrHeld and ErrUnreadable it declines.
	Begin(*SnapshotRequest) (*SnapshotBegin, error)
	// Piece returns the next piece of the snapshot that was begun last.
	Piece() (*SnapshotPiece, error)
}

// snapshots is what a session knows of snapshots, in both directions.
type snapshots struct {
	offered   *SnapshotOffer   // that went out last
	preferred bool             // deltas could have stood for what it offered
	request   *SnapshotRequest // of the peer, to be answered
	serving   bool             // pieces go out
	unable    bool             // nothing is offered until RetryHeld: the store is damaged, or writes are held back
	state     uint64           // number of the state they come from
	until     Position         // they end here; zero: at the end

	offer    *SnapshotOffer   // of the peer, the last
	declined bool             // the peer serves no snapshot now
	ask      *SnapshotRequest // to be sent
	fetching bool             // a request went out, or is about to
	begun    *SnapshotBegin   // pieces of this state come in
	known    *KnownRanges     // of the last request
}

// Piece is a piece of a snapshot, and the state that it comes from.
type Piece struct {
	*SnapshotPiece
	Of     *SnapshotBegin
	Known  *KnownRanges // that the source takes into account, of the request
	AsksOn bool         // nothing comes after it, and it is not the last: once it is merged, ask for more
}

// AskSnapshot asks the peer for a snapshot. The host calls it for one session of a space at a time.
func (s *Session) AskSnapshot(r SnapshotRequest) {
	s.snap.ask, s.snap.fetching, s.snap.begun, s.snap.known = &r, true, nil, r.Known
}

// DropSnapshot ends what AskSnapshot began: pieces that still come are ignored.
func (s *Session) DropSnapshot() { s.snap.ask, s.snap.fetching, s.snap.begun = nil, false, nil }

// IsFetching reports whether a snapshot was asked for and has not ended.
func (s *Session) IsFetching() bool { return s.snap.fetching }

func (s *Session) receiveOffer(m *SnapshotOffer) Step {
	s.snap.offer, s.snap.declined = m, false
	return Step{Offered: true}
}

func (s *Session) receiveRequest(m *SnapshotRequest) {
	s.snap.request, s.snap.serving = m, false
}

// receiveBegin: what the peer serves a snapshot of it holds durably, so it also acknowledges.
func (s *Session) receiveBegin(m *SnapshotBegin) Step {
	if len(openOf(m, s.acked, s.firmness.peer)) > 0 {
		s.servable = false
	}
	step := s.acknowledged(m.VV)
	if !s.snap.fetching || s.snap.ask != nil || m.Round != 0 && s.snap.known.taken(m) == nil { // an answer to a former request
		return step
	}
	s.snap.begun = m
	step.Begun = m
	return step
}

func (s *Session) receivePiece(m *SnapshotPiece) Step {
	if s.snap.begun == nil || s.snap.begun.State != m.State {
		return Step{}
	}
	p := &Piece{SnapshotPiece: m, Of: s.snap.begun, Known: s.snap.known.taken(s.snap.begun)}
	p.AsksOn = !p.IsLast() && p.EndsAt(p.Known.End())
	return Step{Piece: p}
}

func (s *Session) receiveDeclined() Step {
	s.snap.declined = true
	s.DropSnapshot()
	return Step{Offered: true}
}

// nextRequest returns what is to be asked of the peer.
func (s *Session) nextRequest() Message {
	m := s.snap.ask
	if m == nil {
		return nil
	}
	s.snap.ask = nil
	return m
}

// nextSnapshot returns the next message of a snapshot for the peer.
func (s *Session) nextSnapshot(src SnapshotSource) (Message, error) {
	switch {
	case s.snap.request != nil && s.local.Rejoining: // who is being brought up itself serves nobody
		return s.decline("this replica takes a snapshot itself"), nil
	case s.snap.request != nil:
		return s.beginSnapshot(src)
	case s.snap.serving:
		m, err := src.Piece()
		if errors.Is(err, ErrUnreadable) {
			return s.declineForNow(ErrUnreadable), nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a piece of the snapshot: %w", err)
		}
		m.State = s.snap.state
		s.snap.serving = !m.EndsAt(s.snap.until)
		return m, nil
	case s.needsOffer():
		s.snap.offered = &SnapshotOffer{Stable: s.local.Stable.Clone()}
		if s.snap.preferred = s.isFirmAt(s.local.Stable); s.snap.preferred { // it has all of this before it
			s.snap.offered.Stable = Firm(s.local.VV, s.local.Open)
		}
		return s.snap.offered, nil
	case s.snap.preferred && s.canServe():
		s.snap.preferred = false
		if !s.snap.offered.Stable.LessOrEqual(s.FirmVector()) { // it is open where we are not: that needs no other
			s.snap.offered = &SnapshotOffer{Stable: s.local.Stable.Clone()}
			return s.snap.offered, nil
		}
	}
	return nil, nil
}

func (s *Session) beginSnapshot(src SnapshotSource) (Message, error) {
	m, err := src.Begin(s.snap.request)
	switch {
	case errors.Is(err, ErrUnreadable):
		return s.declineForNow(ErrUnreadable), nil
	case errors.Is(err, ErrHeld):
		return s.declineForNow(ErrHeld), nil
	case errors.Is(err, ErrBusy) && s.snap.preferred && s.isFirmAt(s.local.Stable): // deltas do as well, and wait for nobody
		s.servable = true
		return s.decline(ErrBusy.Error()), nil
	case errors.Is(err, ErrBusy), errors.Is(err, ErrWait):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("begin a snapshot: %w", err)
	}
	s.snap.state++
	m.State = s.snap.state
	s.snap.until = s.snap.request.Known.taken(m).End()
	s.snap.request, s.snap.serving = nil, true
	for _, r := range openOf(m, s.told, s.firmness.told) {
		s.unacked[r] = struct{}{}
	}
	s.told.Join(m.VV)
	return m, nil
}

// declineForNow ends a snapshot for what may last: of a store that is damaged, where what it lacks would count as removed, or while writes are held
// back. The peer may get one elsewhere meanwhile. It is offered again after RetryHeld. The peer is told why,
// which is one of the errors above and names nothing that is stored.
func (s *Session) declineForNow(why error) Message {
	s.snap.unable = true
	return s.decline(why.Error())
}

// decline ends what was offered, asked for or being sent.
func (s *Session) decline(why string) Message {
	s.snap.request, s.snap.offered, s.snap.preferred, s.snap.serving = nil, nil, false, false
	return &Refusal{Code: RefusedStable, Text: why}
}

// needsOffer reports whether the peer is to be told that it takes a snapshot. It is told once, and again when it has what it
// was told of.
func (s *Session) needsOffer() bool {
	if !s.met || s.muted || s.local.Rejoining || s.snap.unable || s.canServe() {
		return false
	}
	return s.snap.offered == nil || s.snap.offered.Stable.LessOrEqual(s.FirmVector())
}

// Candidate says of a session what matters for choosing from whose peer a snapshot is taken.
type Candidate struct {
	Peer     PeerID
	Met      bool // the session is open on both sides
	Fetching bool // the peer was asked
	Offers   bool // something that this replica lacks can be had from it by a snapshot only
	Declines bool // it serves none now, for it takes one itself
}

// OfferedStable returns what the peer said to have forgotten, with its last offer.
func (s *Session) OfferedStable() crdt.VersionVector {
	if s.snap.offer == nil {
		return crdt.VersionVector{}
	}
	return s.snap.offer.Stable
}

// Candidate describes this session. firm is what the replica holds whole by now, durably or not.
func (s *Session) Candidate(peer PeerID, firm crdt.VersionVector) Candidate {
	return Candidate{
		Peer: peer, Met: s.met, Fetching: s.snap.fetching, Declines: s.snap.declined,
		Offers: s.snap.offer != nil && !s.snap.declined && !s.snap.offer.Stable.LessOrEqual(firm),
	}
}

// ChooseSource says from which of the candidates a replica asks for a snapshot now: its index, -1 for none. A replica that is being
// brought up already goes on with source, so that what was done need not be done again; startOver says to give that up first, because
// source serves nobody now, or is lost: has not been seen for long, while others are there.
//
// Nobody may wait for ever for one that waits itself: if all are being brought up, those whose sources are gone or waiting give
// up, and may serve others then.
func ChooseSource(candidates []Candidate, rejoining bool, source PeerID, lost bool) (i int, startOver bool) {
	offering := -1
	for i, c := range candidates {
		switch {
		case c.Fetching:
			return -1, false
		case c.Offers && offering < 0:
			offering = i
		}
	}
	if !rejoining || len(candidates) == 0 {
		return offering, false
	}
	for i, c := range candidates {
		if c.Peer != source || !c.Met {
			continue
		}
		if !c.Declines {
			return i, false
		}
		lost = true
	}
	if !lost {
		return -1, false
	}
	return offering, true
}

// ContinuesFrom reports whether a state with the given vectors may continue a snapshot whose first piece came from a state at V:
// what the pieces so far were made of must not have been forgotten since, beyond what V says.
func ContinuesFrom(v, vv, stable crdt.VersionVector) bool {
	return v.Len() > 0 && stable.LessOrEqual(v) && v.LessOrEqual(vv)
}
