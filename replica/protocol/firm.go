package protocol

import (
	"cmp"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// What a replica holds and what it holds whole are not the same while it is open. S, which has all of a up to 9, tells E of (1, 8] alone,
// and leaves out a cell in which a:3 removed something and a:9 wrote anew, for the delta of (8, 9] has it:
//
//	S → E  Delta a (1, 8], horizon a:9      E: vv {a:8}, open at a, and firm up to a:1 only: what a:3 removed is alive there
//	X → E  Delta a (8, 9], stable a:3       X had pruned the removal: its cell has a:9 and does not say what a:3 removed
//
// So E refuses the delta of X as RefusedOpen, and gets one of S, whose cell does say it. All that goes by what others hold for sure goes
// by firm: whether a peer is served by deltas, what is stable, and between whom a repair may be. Whether a delta that comes along has what is
// missing its receiver alone knows: deltas of others may have come while it was under way.
//
// firm is vv but for the replicas at which one is open, which are told of as differences; there are hardly ever any.

// Firm returns vv with the entries of the replicas in open lowered to the times there, which may be zero.
func Firm(vv crdt.VersionVector, open []crdt.Dot) crdt.VersionVector {
	if len(open) == 0 {
		return vv
	}
	firm := vv.Clone()
	for _, d := range open {
		if firm.Get(d.Replica) > d.Time {
			firm.Remove(d.Replica)
			firm.Advance(d)
		}
	}
	return firm
}

// openAt looks for a replica among sorted entries.
func openAt(open []crdt.Dot, r crdt.ReplicaID) (hlc.Time, bool) {
	i, ok := slices.BinarySearchFunc(open, r, func(d crdt.Dot, r crdt.ReplicaID) int { return cmp.Compare(d.Replica, r) })
	if !ok {
		return 0, false
	}
	return open[i].Time, true
}

// firmness is what the two sides have told each other of where they are open.
type firmness struct {
	told map[crdt.ReplicaID]hlc.Time // at which the peer was told that we are, and what is firm there
	peer map[crdt.ReplicaID]hlc.Time // at which the peer said that it is
}

func newFirmness() firmness {
	return firmness{told: make(map[crdt.ReplicaID]hlc.Time), peer: make(map[crdt.ReplicaID]hlc.Time)}
}

// firm returns what we hold whole of a replica.
func (s *State) firm(r crdt.ReplicaID) hlc.Time {
	if t, ok := openAt(s.Open, r); ok {
		return t
	}
	return s.VV.Get(r)
}

// holdsFirmly reports whether what we hold whole covers vv.
func (s *State) holdsFirmly(vv crdt.VersionVector) bool {
	for _, d := range s.Open {
		if vv.Get(d.Replica) > d.Time {
			return false
		}
	}
	return vv.LessOrEqual(s.VV)
}

// FirmVector returns what the peer holds durably and whole, as far as it has said: of AckedVector what stability may go by. It must not
// be changed.
func (s *Session) FirmVector() crdt.VersionVector {
	if len(s.firmness.peer) == 0 {
		return s.acked
	}
	open := make([]crdt.Dot, 0, len(s.firmness.peer))
	for r, t := range s.firmness.peer {
		open = append(open, crdt.Dot{Replica: r, Time: t})
	}
	return Firm(s.acked, open)
}

// hearOpen notes where the peer is open as the session begins.
func (s *Session) hearOpen(open []crdt.Dot) {
	for _, d := range open {
		s.firmness.peer[d.Replica] = d.Time
	}
}

// hearFirm notes what an acknowledgement says of one replica, and reports whether that is something new.
func (s *Session) hearFirm(d crdt.Dot, open []crdt.Dot) bool {
	if d.Time < s.acked.Get(d.Replica) { // it came late
		return false
	}
	had, wasOpen := s.firmness.peer[d.Replica]
	t, isOpen := openAt(open, d.Replica)
	if isOpen {
		s.firmness.peer[d.Replica] = t
	} else {
		delete(s.firmness.peer, d.Replica)
	}
	changed := isOpen != wasOpen || t != had
	s.servable = s.servable && !(changed && isOpen)
	return changed
}

// servesUpTo returns up to where a delta's encoder may have pruned its origin, if the delta begins for the peer at from.
func (s *Session) servesUpTo(r crdt.ReplicaID, from hlc.Time) hlc.Time {
	if t, ok := s.firmness.peer[r]; ok {
		return min(t, from)
	}
	return from
}

// isFirmAt reports whether the peer has all of a vector whole, once it has what was sent.
func (s *Session) isFirmAt(vv crdt.VersionVector) bool {
	for r, t := range s.firmness.peer {
		if vv.Get(r) > t {
			return false
		}
	}
	return vv.LessOrEqual(s.sent)
}

// openOf notes, in what is known of where one side is open, what a SnapshotBegin of it says of replicas of which it brings more than have,
// what it had said before: there an Ack will say more. It returns those replicas.
func openOf(m *SnapshotBegin, have crdt.VersionVector, open map[crdt.ReplicaID]hlc.Time) (noted []crdt.ReplicaID) {
	for d := range m.Horizon.Beyond(m.VV).All() {
		r := d.Replica
		if _, isOpen := open[r]; !isOpen && m.VV.Get(r) > have.Get(r) {
			open[r] = max(have.Get(r), m.Stable.Get(r))
		}
		noted = append(noted, r)
	}
	return noted
}

// owesFirm reports whether the peer takes more or less of a replica for what we hold whole than we do, or once it hears that we hold all
// of told.
func (s *Session) owesFirm(r crdt.ReplicaID) bool {
	believed, ok := s.firmness.told[r]
	if !ok {
		believed = s.told.Get(r)
	}
	return believed != s.local.firm(r)
}

// acknowledge makes an Ack of replicas whose entry rose, or at which we are open, and notes that it goes out; nil if there are none.
func (s *Session) acknowledge(dots []crdt.Dot) *Ack {
	if len(dots) == 0 {
		return nil
	}
	ack := &Ack{VV: crdt.NewVersionVector(dots...)}
	for d := range ack.VV.All() {
		if t, isOpen := openAt(s.local.Open, d.Replica); isOpen {
			ack.Open = append(ack.Open, crdt.Dot{Replica: d.Replica, Time: t})
			s.firmness.told[d.Replica] = t
		} else {
			delete(s.firmness.told, d.Replica)
		}
	}
	return ack
}

// ackBefore returns what is to be acknowledged before a delta of a replica at which we are open is sent: the delta alone would say that we
// hold all of it whole.
func (s *Session) ackBefore(r crdt.ReplicaID) *Ack {
	_, isOpen := openAt(s.local.Open, r)
	if d := (crdt.Dot{Replica: r, Time: s.local.VV.Get(r)}); isOpen && (s.told.Advance(d) || s.owesFirm(r)) {
		delete(s.unacked, r)
		return s.acknowledge([]crdt.Dot{d})
	}
	return nil
}

// RefuseOpen tells the peer that its delta was not merged because its encoder had pruned more of the origin than is firm here. What was merged
// last, and is not durable yet, may have made more firm; the peer goes by what is told, so it is told of what a crash does not take back.
func (s *Session) RefuseOpen(d *Delta, firm hlc.Time, text string) {
	firm = min(firm, s.local.firm(d.Origin))
	s.refuse(&Refusal{Code: RefusedOpen, Origin: d.Origin, From: firm, To: d.To, Text: text[:min(len(text), MaxRefusalText)]})
}
