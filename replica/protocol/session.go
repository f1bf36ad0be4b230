package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// State is what a session knows of its own replica: only what is durable. VV, Digest and Closed are of
// one moment. The session keeps the vectors and does not change them.
type State struct {
	Self   crdt.ReplicaID // the present ReplicaID, zero if none was drawn yet
	VV     crdt.VersionVector
	Stable crdt.VersionVector
	Digest crdt.Digest
	Closed bool // horizon <= VV
	// Ahead is what of the horizon lies beyond VV: writes that may show in part.
	Ahead crdt.VersionVector
	// Open are the replicas in Ahead, sorted, with what is held of them whole: see Firm.
	Open []crdt.Dot
	// Rejoining: a snapshot is being merged, and VV does not say yet what it brings.
	Rejoining bool
	// Large: a peer that has nothing of all this had better take a snapshot, which walks the documents in their order, than deltas, for
	// which each is looked up in the order of the log.
	Large bool
}

// ErrUnreadable says that a delta cannot be made because something stored is damaged. The session goes on, so that the peer can
// repair it; the origin is held back until RetryHeld.
var ErrUnreadable = errors.New("something stored cannot be read")

// Source gives the deltas that a session sends.
type Source interface {
	// Delta returns a delta of origin that begins at from or before it and ends after from, at most at to. It may end
	// earlier, so that frames stay small, but never within a transaction. It may be one that was made for
	// another peer, or received from one, if its Stable is at most at pruned. ErrWait keeps the origin back until Resume. The error is
	// ErrPruned if stable lies beyond pruned, which is at or before from: it has risen, and the session is about to be told.
	Delta(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*Delta, error)
	SnapshotSource
}

// ErrPruned says that the log of a range is not whole any more, so that no delta can be made of it.
var ErrPruned = errors.New("what the delta would be made of was pruned")

// Step is what the host does after Receive, in the order of the fields.
type Step struct {
	// Merge is a delta to merge and persist. When it is durable the host calls Advance on all sessions of
	// the space; if it cannot be merged, Refuse on this one.
	Merge *Delta
	// Begun is the state that the pieces of a snapshot are about to come from, and Piece is one to merge and persist.
	Begun *SnapshotBegin
	Piece *Piece
	// Offered: the peer said whether a snapshot can be had from it. Choose a source (ChooseSource).
	Offered bool
	// LostWrites: the peer holds more of our present ReplicaID than we do, so our store went back in time. Draw a fresh
	// ReplicaID before the next write.
	LostWrites bool
	// Acked: AckedVector has risen, or FirmVector has changed.
	Acked bool
	// Refused is what the peer would not merge, for the log and the status.
	Refused *Refusal
	// Members is what the peer tells of other members.
	Members []Member
	// Compared says how a comparison of digests ended.
	Compared Comparison
	// Lasting: it is Differs, as the one before was, and the vectors have not changed.
	Lasting bool
	// Clock is a question to be answered with TellClock, or an answer.
	Clock *Clock
}

// Comparison is the outcome of comparing the digests of two replicas.
type Comparison uint8

// The outcomes.
const (
	NotCompared Comparison = iota // the vectors differ: the replicas were not level at one moment
	Equal
	// Differs: equal vectors and other digests, while one of the two is not closed. It is normal for a while.
	Differs
	// Mismatch: both replicas are closed, their vectors equal and their digests not: a bug or damage.
	Mismatch
)

// Session is the sync state machine of one space between two replicas, for the length of one connection. Both
// sides run one, and both directions go on at once.
//
// The host pulls: whenever the connection can take more, it calls Next and sends what that returns, until
// Next returns nil. So a slow peer holds no queue; what it misses stays in the log. Every method is
// called by one goroutine at a time.
type Session struct {
	local State
	peer  Vectors // as the peer introduced itself

	opening // how the session is opened
	repairs
	firmness firmness
	met      bool               // the peer's vector is known
	told     crdt.VersionVector // what the peer knows that we hold
	acked    crdt.VersionVector // what the peer said that it holds durably
	sent     crdt.VersionVector // acked, and what was sent in this session

	refusals []*Refusal                  // to send; one an origin, at most maxRefusals
	unacked  map[crdt.ReplicaID]struct{} // entries of local.VV that the peer may not know of
	behind   map[crdt.ReplicaID]struct{} // origins of which the peer may lack something
	last     crdt.ReplicaID              // the origin of which a delta was sent last
	held     map[crdt.ReplicaID]struct{} // origins that the peer refused for their clock, or that cannot be read here
	waiting  map[crdt.ReplicaID]struct{} // origins that the Source keeps back
	compare  bool                        // send a Level once there is nothing else to send
	relay    relays                      // what the peer gets from elsewhere
	muted    bool                        // see Mute
	differed [16]byte                    // hash of the vector at which the last comparison found a difference, or zero
	clocks   clocks
	snap     snapshots
	servable bool   // see canServe
	gossip   gossip // of other members
}

// maxRefusals bounds the origins whose refusals wait to be sent, against a peer that makes origins up. The sender of a delta
// that was refused without a word takes it for received until that origin has a gap, or until the next session: so
// the bound lies far above the origins that an honest peer has refused at once.
const maxRefusals = 1024

// NewSession returns the session of a connection that was just made.
func NewSession(local State) *Session {
	return &Session{
		local:   local,
		unacked: make(map[crdt.ReplicaID]struct{}),
		behind:  make(map[crdt.ReplicaID]struct{}),
		held:    make(map[crdt.ReplicaID]struct{}),
		waiting: make(map[crdt.ReplicaID]struct{}),
		compare: true,
		opening: opening{whole: wholeVector, leaf: leafEntries},
		relay:   newRelays(),

		firmness: newFirmness(),
	}
}

// Receive takes one message of the peer. An error means that the peer broke the protocol: end the session.
func (s *Session) Receive(m Message) (Step, error) {
	if !s.heard && !opens(m) {
		return Step{}, fmt.Errorf("a %T came before the vectors that open a session", m)
	}
	if isClaim(m) {
		s.claimsHeard++
	}
	switch m := m.(type) {
	case *Vectors:
		return s.receiveVectors(m)
	case *Opening:
		return s.receiveOpening(m)
	case *Branches:
		return s.receiveBranches(m)
	case *Delta:
		return s.receiveDelta(m), s.checkAcked()
	case *Ack:
		return s.receiveAck(m), s.checkAcked()
	case *Level:
		return s.receiveLevel(m), nil
	case *Refusal:
		return s.receiveRefusal(m), nil
	case *RepairOpen:
		s.receiveRepairOpen(m)
		return Step{}, nil
	case *RangeDigests:
		return Step{}, s.receiveRangeDigests(m)
	case *RangeAnswer:
		return Step{}, s.receiveRangeAnswer(m)
	case *RangeCells:
		return Step{}, s.receiveRangeCells(m)
	case *Clock:
		return Step{Clock: m}, nil
	case *SnapshotOffer:
		return s.receiveOffer(m), nil
	case *SnapshotRequest:
		s.receiveRequest(m)
		return Step{}, nil
	case *SnapshotBegin:
		return s.receiveBegin(m), nil
	case *SnapshotPiece:
		return s.receivePiece(m), nil
	case *Members:
		return s.receiveMembers(m), nil
	}
	return Step{}, fmt.Errorf("unknown message %T", m)
}

// receiveDelta: who sends a delta holds it durably, so it also acknowledges.
func (s *Session) receiveDelta(m *Delta) Step {
	end := crdt.Dot{Replica: m.Origin, Time: m.To}
	s.sent.Advance(end)
	acked := s.acked.Advance(end)
	s.comesFrom(end)
	return Step{Merge: m, Acked: acked}
}

// checkAcked bounds what is remembered of a peer that makes replicas up: no space has more of them.
func (s *Session) checkAcked() error {
	if n := s.acked.Len(); n > codec.MaxVectorEntries {
		return &crdt.LimitError{What: "what the peer says that it holds", Size: n, Limit: codec.MaxVectorEntries, Unit: "replicas"}
	}
	return nil
}

func (s *Session) receiveAck(m *Ack) Step {
	firm := false
	for d := range m.VV.All() {
		firm = s.hearFirm(d, m.Open) || firm
	}
	step := s.acknowledged(m.VV)
	step.Acked = step.Acked || firm
	return step
}

// acknowledged notes what the peer holds.
func (s *Session) acknowledged(vv crdt.VersionVector) Step {
	risen := vv.Beyond(s.acked)
	s.acked.Join(risen)
	for d := range risen.All() {
		s.noteProgress(d.Replica, s.sent.Advance(d))
	}
	return Step{Acked: risen.Len() > 0}
}

// receiveLevel also notices a difference that lasts.
func (s *Session) receiveLevel(m *Level) Step {
	step := Step{Compared: s.compareWith(m)}
	if step.Compared != Differs {
		s.differed = [16]byte{}
		return step
	}
	step.Lasting = s.differed == m.VectorHash
	s.differed = m.VectorHash
	return step
}

func (s *Session) compareWith(m *Level) Comparison {
	switch {
	case m.VectorHash != crdt.VectorHash(s.local.VV):
		return NotCompared
	case m.Digest == s.local.Digest:
		return Equal
	case m.Closed && s.local.Closed:
		return Mismatch
	}
	return Differs
}

// receiveRefusal goes back to what the peer acknowledged. An origin refused for its clock waits for RetryHeld;
// the gaps that the frames already under way run into then mean nothing.
func (s *Session) receiveRefusal(m *Refusal) Step {
	if m.Code == RefusedKnown {
		s.receiveKnown(m)
		return Step{}
	}
	if m.Code == RefusedStable {
		return s.receiveDeclined()
	}
	s.servable = false
	if s.sent.Get(m.Origin) > s.acked.Get(m.Origin) {
		s.sent.Remove(m.Origin)
		s.sent.Advance(crdt.Dot{Replica: m.Origin, Time: s.acked.Get(m.Origin)})
	}
	if m.Code == RefusedOpen && s.local.VV.Get(m.Origin) > 0 { // else it cannot have been sent
		s.firmness.peer[m.Origin] = m.From
	}
	if m.Code == RefusedClock && s.local.VV.Get(m.Origin) > 0 { // else it cannot have been sent
		s.held[m.Origin] = struct{}{}
		delete(s.behind, m.Origin)
	}
	s.markBehind(m.Origin)
	return Step{Refused: m, Acked: m.Code == RefusedOpen}
}

func (s *Session) markBehind(r crdt.ReplicaID) {
	if s.lacks(r) && !s.postpone(r) {
		s.behind[r] = struct{}{}
	}
}

// lacks reports whether there is something of an origin that the peer may lack, was not sent, and would take.
func (s *Session) lacks(r crdt.ReplicaID) bool {
	_, held := s.held[r]
	_, waits := s.waiting[r]
	return !held && !waits && s.met && s.local.VV.Get(r) > s.sent.Get(r)
}

// Refuse tells the peer that its delta was not merged. Of several refusals of one origin that wait to be sent one will do: the
// peer goes back to what is acknowledged, and if one of them is for the clock, it also waits.
func (s *Session) Refuse(d *Delta, code RefusalCode, text string) {
	s.refuse(&Refusal{
		Code: code, Origin: d.Origin, From: d.From, To: d.To,
		Text: text[:min(len(text), MaxRefusalText)],
	})
}

func (s *Session) refuse(refusal *Refusal) {
	for i, r := range s.refusals {
		if r.Origin == refusal.Origin {
			if r.Code != RefusedClock {
				s.refusals[i] = refusal
			}
			return
		}
	}
	if len(s.refusals) < maxRefusals {
		s.refusals = append(s.refusals, refusal)
	}
}

// RetryHeld lets the origins that the peer refused for their clock be sent again, and a snapshot that was declined be offered. The host calls it now
// and then.
func (s *Session) RetryHeld() {
	s.snap.unable = false
	for _, r := range sortedIDs(s.held) {
		delete(s.held, r)
		s.markBehind(r)
	}
}

// Advance tells the session that more of its own replica is durable: the new state, and the entries of the
// vector that rose.
func (s *Session) Advance(local State, risen []crdt.Dot) {
	s.servable = s.servable && s.isFirmAt(local.Stable)
	moved := !slices.Equal(s.local.Open, local.Open)
	s.local = local
	for _, d := range risen {
		s.unacked[d.Replica] = struct{}{}
		s.markBehind(d.Replica)
	}
	if !moved {
		return
	}
	for r := range s.firmness.told { // what is held whole rises without more being held when a snapshot is through
		if s.owesFirm(r) {
			s.unacked[r] = struct{}{}
		}
	}
}

// CompareDigests asks for a comparison once nothing else is to be sent.
func (s *Session) CompareDigests() { s.compare = true }

// AckedVector returns what the peer holds durably, as far as it has said. It must not be changed.
func (s *Session) AckedVector() crdt.VersionVector { return s.acked }

// PeerVectors returns what the peer opened the session with; ok is false before that is known. Of long vectors Stable is not
// told unless it equals our own: it is empty then.
func (s *Session) PeerVectors() (v Vectors, ok bool) { return s.peer, s.met }

// Held returns the origins that the peer refused for their clock, or whose log cannot be read here, sorted.
func (s *Session) Held() []crdt.ReplicaID { return sortedIDs(s.held) }

// IsLevel reports whether the peer has acknowledged everything that this replica holds, and this replica
// everything that the peer has told of.
func (s *Session) IsLevel() bool {
	return s.met && s.local.VV.Equal(s.acked)
}

// Next returns the next message to send, nil if there is nothing to send now. Deltas come from src, one frame a call.
func (s *Session) Next(src Source) (Message, error) {
	m, err := s.next(src)
	if isClaim(m) {
		s.claims++
	}
	return m, err
}

func (s *Session) next(src Source) (Message, error) {
	switch {
	case !s.introduced:
		return s.introduce(), nil
	case len(s.refusals) > 0:
		m := s.refusals[0]
		s.refusals = s.refusals[1:]
		return m, nil
	}
	if m := s.nextClock(); m != nil {
		return m, nil
	}
	if m := s.nextBranches(); m != nil {
		return m, nil
	}
	if s.tellsCells() {
		return s.nextRepair(), nil
	}
	if m := s.nextSurplus(); m != nil {
		return m, nil
	}
	if m := s.nextRequest(); m != nil {
		return m, nil
	}
	if m := s.nextAck(); m != nil {
		return m, nil
	}
	if m, err := s.nextSnapshot(src); m != nil || err != nil {
		return m, err
	}
	if m, err := s.nextDelta(src); m != nil || err != nil {
		return m, err
	}
	if m := s.nextAck(); m != nil { // the peer may hold by now what was to be sent, and then was not told of it
		return m, nil
	}
	if m := s.nextRepair(); m != nil {
		return m, nil
	}
	if m := s.nextMembers(); m != nil {
		return m, nil
	}
	if s.compare && s.met && s.IsLevel() {
		s.compare = false
		return &Level{VectorHash: crdt.VectorHash(s.local.VV), Digest: s.local.Digest, Closed: s.local.Closed}, nil
	}
	return nil, nil
}

// nextAck leaves out what the peer knows from deltas that went to it: those say that we hold them.
// Entries that are about to be sent as deltas are left out too, unless deltas cannot be sent: of two sides that are both below the
// other's stable vector each would wait for the other's word.
func (s *Session) nextAck() Message {
	if len(s.unacked) == 0 {
		return nil
	}
	served := s.canServe()
	var risen []crdt.Dot
	waits := false
	for r := range s.unacked {
		if s.local.VV.Get(r) < s.told.Get(r) { // a snapshot that is newer told of it
			continue
		}
		if _, soon := s.behind[r]; soon && served && !s.muted {
			continue
		}
		if s.ackWaits(r) {
			waits = true
			continue
		}
		d := crdt.Dot{Replica: r, Time: s.local.VV.Get(r)}
		delete(s.unacked, r)
		s.noteTold(r)
		if s.told.Advance(d) || s.owesFirm(r) {
			risen = append(risen, d)
		}
	}
	s.relay.acksWait = s.relay.acksWait && waits
	if ack := s.acknowledge(risen); ack != nil {
		return ack
	}
	return nil
}

// canServe reports whether the peer is to be served by deltas: it has all that is stable here, whole. If not, what it lacks is forgotten in
// part, and a snapshot brings it. So does one what would take too long by deltas.
func (s *Session) canServe() bool {
	s.servable = s.servable || s.isFirmAt(s.local.Stable) && !s.prefersSnapshot()
	return s.servable
}

// prefersSnapshot reports whether there is much here, and the peer has nothing of it but what it wrote itself.
func (s *Session) prefersSnapshot() bool {
	if !s.local.Large || s.snap.unable {
		return false
	}
	lacks := false
	for d := range s.local.VV.All() {
		if d.Replica == s.peer.Self {
			continue
		}
		if s.sent.Get(d.Replica) > 0 {
			return false
		}
		lacks = true
	}
	return lacks
}

// nextDelta looks at sent, not at acked: what is under way comes before the delta does, in order, and if it is refused, so is
// what follows of its origin, and sent goes back. The delta alone needs less: that its encoder's stable vector was, at its origin, at or
// below what the peer holds whole of that, which Source sees to and the peer checks.
func (s *Session) nextDelta(src Source) (Message, error) {
	if !s.met || s.muted || len(s.behind) == 0 || !s.canServe() {
		return nil, nil
	}
	for len(s.behind) > 0 {
		r := following(s.behind, s.last)
		from, to := s.sent.Get(r), s.local.VV.Get(r)
		if from >= to {
			delete(s.behind, r)
			continue
		}
		if ack := s.ackBefore(r); ack != nil {
			return ack, nil
		}
		d, err := src.Delta(r, from, to, s.servesUpTo(r, from))
		switch {
		case errors.Is(err, ErrPruned):
			return nil, nil
		case errors.Is(err, ErrWait):
			s.wait(r)
			continue
		case errors.Is(err, ErrUnreadable):
			s.held[r] = struct{}{}
			delete(s.behind, r)
			continue
		case err != nil:
			return nil, fmt.Errorf("read the log of %s after %s: %w", r, from, err)
		}
		if d.Origin != r || d.From > from || d.To <= from || d.To > to {
			return nil, fmt.Errorf("the log of %s gave (%s, %s] of %s where something of (%s, %s] was asked for", r, d.From, d.To, d.Origin, from, to)
		}
		if d.Stable > s.servesUpTo(r, from) {
			return nil, fmt.Errorf("the log of %s gave a delta pruned up to %s, and the peer has up to %s whole", r, d.Stable, s.servesUpTo(r, from))
		}
		s.last = r
		end := crdt.Dot{Replica: r, Time: d.To}
		s.sent.Advance(end)
		s.told.Advance(end)
		if d.To >= to {
			delete(s.behind, r)
		}
		s.noteSent(r, d.To)
		return d, nil
	}
	return nil, nil
}

// following returns the smallest ID that is greater than last, or else the smallest: origins take turns, so that one
// that writes more than the connection takes does not hold up the others. What is sent next never depends on the
// order of a map.
func following[V any](ids map[crdt.ReplicaID]V, last crdt.ReplicaID) crdt.ReplicaID {
	var least, next crdt.ReplicaID // zero is no replica
	for r := range ids {
		if least == 0 || r < least {
			least = r
		}
		if r > last && (next == 0 || r < next) {
			next = r
		}
	}
	if next == 0 {
		return least
	}
	return next
}

func sortedIDs(ids map[crdt.ReplicaID]struct{}) []crdt.ReplicaID {
	out := make([]crdt.ReplicaID, 0, len(ids))
	for r := range ids {
		out = append(out, r)
	}
	slices.Sort(out)
	return out
}
