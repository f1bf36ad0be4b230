package protocol

import (
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// In a mesh every peer hears of a write from many sides. So that its bytes come to each peer about once, a session judges, for each origin,
// whether its peer needs the origin's writes from this replica or gets them from elsewhere.
//
//   - It gets them from elsewhere if it sends deltas of that origin itself, says that it had one already (RefusedKnown), or acknowledges
//     what was not sent to it. Then it is told only that the writes are here, and has some patience's time to say the same.
//   - It needs them if it acknowledges what was sent and nothing more. Then it is sent them at once, as in a chain or a star.
//   - As long as that is not known, or when the patience is over, a single delta goes out as a trial, at first after a moment in which it
//     most often turns out to be needless, and the answer to it decides.
//
// So each origin comes to have a tree of its own over the mesh, which heals by itself: push and lazy push of Plumtree (Leitão, Pereira,
// Rodrigues, Epidemic Broadcast Trees, SRDS 2007), where the acknowledgements are its IHAVE and RefusedKnown its PRUNE; in place of its
// GRAFT the sender's patience ends. A node's own writes always go out at once: who is connected with their author needs nobody in between.

const (
	// relayPatience is how long a peer may be without what it should get from elsewhere. It doubles, up to the greatest, each
	// time that it turns out too short: where the ways to the peer differ by more than that.
	relayPatience    = 200 * time.Millisecond
	maxRelayPatience = 2 * time.Second
	// trialDelay is how long the first writes of an origin wait, the moment in which a peer that has them says so.
	trialDelay = 25 * time.Millisecond
	// ackPatience is how long an acknowledgement waits for others to go with, if nobody waits for it: the peer is no source of these
	// writes, and will not send them within relayPatience.
	ackPatience = 100 * time.Millisecond
	// maxJudged bounds the origins of which something is known. One beyond it is relayed at once, which costs bytes only.
	maxJudged = 4096
)

// relays is the part of a session that says which writes of others are not sent at once.
type relays struct {
	now      time.Duration
	patience time.Duration
	next     time.Duration // no origin is due before; zero: none waits
	origins  map[crdt.ReplicaID]*relayed
	surplus  map[crdt.ReplicaID]*Refusal // to say: origins of which the peer sent what was here
	acksWait bool
	acksDue  time.Duration // when the acknowledgements that wait go out
}

// relayed is what is known of one origin.
type relayed struct {
	verdict verdict
	tried   hlc.Time      // the end of the delta that was sent as a trial and not answered yet; zero: none
	waits   bool          // the peer may lack something, which is not sent before due
	due     time.Duration //
	hasty   bool          // the trial was sent because the patience was over
	prompt  bool          // the next acknowledgement goes out at once
	owed    hlc.Time      // so do all until this is acknowledged: the peer has sent it, and waits for the word
}

type verdict uint8

const (
	unknown verdict = iota
	needed
	elsewhere
)

func newRelays() relays {
	return relays{
		patience: relayPatience,
		origins:  make(map[crdt.ReplicaID]*relayed),
		surplus:  make(map[crdt.ReplicaID]*Refusal),
	}
}

// Tick tells the session what time it is, counted from any moment on a clock that never goes back, and reports whether there is
// something to send because of that. The host calls it before Next, and no later than at Due; without it nothing waits.
func (s *Session) Tick(now time.Duration) bool {
	s.relay.now = max(now, s.relay.now)
	ready := s.relay.acksWait && s.relay.acksDue <= s.relay.now
	if s.relay.next == 0 || s.relay.next > s.relay.now {
		return ready
	}
	s.relay.next = 0
	for r, o := range s.relay.origins {
		if o.waits && o.due > s.relay.now {
			s.waitUntil(o, o.due)
		}
		if !o.waits || o.due > s.relay.now {
			continue
		}
		o.waits, o.hasty = false, o.verdict == elsewhere
		o.verdict, o.tried = unknown, 0
		if s.lacks(r) {
			s.behind[r] = struct{}{}
			ready = true
		}
	}
	return ready
}

// Due returns the time at which the session may have something to send although nothing happens; ok is false if there is none.
func (s *Session) Due() (at time.Duration, ok bool) {
	if s.relay.acksWait {
		at, ok = s.relay.acksDue, true
	}
	if s.relay.next == 0 {
		return at, ok
	}
	for _, o := range s.relay.origins {
		if o.waits && (!ok || o.due < at) {
			at, ok = o.due, true
		}
	}
	return at, ok
}

// waitUntil sends nothing of an origin before that time.
func (s *Session) waitUntil(o *relayed, due time.Duration) {
	o.waits, o.due = true, due
	if s.relay.next == 0 || due < s.relay.next {
		s.relay.next = due
	}
}

// Surplus tells the session that a delta which it gave out to be merged was here already, so that the peer need not send
// what others do.
func (s *Session) Surplus(d *Delta) {
	if len(s.relay.surplus) < maxRefusals && !d.Origin.IsLaneOf(s.peer.Self) { // its own it sends in any case
		s.relay.surplus[d.Origin] = &Refusal{Code: RefusedKnown, Origin: d.Origin, From: d.From, To: d.To}
	}
}

// nextSurplus returns what is to be said of deltas that were here already.
func (s *Session) nextSurplus() Message {
	if len(s.relay.surplus) == 0 {
		return nil
	}
	r := following(s.relay.surplus, 0)
	m := s.relay.surplus[r]
	delete(s.relay.surplus, r)
	return m
}

// relayOf returns what is known of an origin; nil if it is this replica, or one too many.
func (s *Session) relayOf(r crdt.ReplicaID) *relayed {
	o := s.relay.origins[r]
	if o == nil && r.IsLaneOf(s.local.Self) {
		return nil
	}
	if o == nil && len(s.relay.origins) < maxJudged {
		o = &relayed{}
		s.relay.origins[r] = o
	}
	return o
}

// comesFromElsewhere notes that the peer has a source of the origin's writes beside this replica.
func (s *Session) comesFromElsewhere(r crdt.ReplicaID) {
	o := s.relayOf(r)
	if o == nil {
		return
	}
	if o.verdict != elsewhere {
		o.verdict, o.prompt = elsewhere, true // for the peer is in the same position
	}
	o.tried = 0
	if _, ok := s.behind[r]; ok {
		delete(s.behind, r)
		s.markBehind(r)
	}
	s.beginPatience(r, o)
}

// beginPatience gives the peer time for what it lacks of an origin that it gets from elsewhere.
func (s *Session) beginPatience(r crdt.ReplicaID, o *relayed) {
	if o.waits = s.lacks(r); o.waits {
		s.waitUntil(o, s.relay.now+s.relay.patience)
	}
}

// receiveKnown: the peer had what was sent to it. If that was sent because the patience was over, it was too short.
func (s *Session) receiveKnown(m *Refusal) {
	o := s.relay.origins[m.Origin]
	if o == nil {
		return // nothing was sent
	}
	if o.hasty {
		s.relay.patience = min(2*s.relay.patience, maxRelayPatience)
		o.hasty = false
	}
	s.comesFromElsewhere(m.Origin)
	o.prompt = false // what was sent has told it
}

// comesFrom notes a delta that the peer sent: it waits for the acknowledgement, and has a source of the origin's writes, or is it.
func (s *Session) comesFrom(end crdt.Dot) {
	s.comesFromElsewhere(end.Replica)
	if o := s.relay.origins[end.Replica]; o != nil {
		o.owed = max(o.owed, end.Time)
	}
}

// noteProgress judges by an acknowledgement that has just come; beyond says that it is of more than was sent.
func (s *Session) noteProgress(r crdt.ReplicaID, beyond bool) {
	o := s.relay.origins[r]
	switch {
	case beyond:
		s.comesFromElsewhere(r)
	case o == nil:
	case o.verdict == elsewhere:
		s.beginPatience(r, o)
	case o.tried > 0 && s.acked.Get(r) >= o.tried:
		o.verdict, o.tried, o.waits, o.hasty = needed, 0, false, false
		s.markBehind(r)
	}
}

// postpone reports whether the origin's writes, which the peer lacks, are not to be sent yet.
func (s *Session) postpone(r crdt.ReplicaID) bool {
	o := s.relayOf(r)
	if o == nil || o.verdict == needed || s.relay.now == 0 {
		return false
	}
	if !o.waits {
		wait := s.relay.patience
		if o.verdict == unknown {
			wait = trialDelay
		}
		s.waitUntil(o, s.relay.now+wait)
	}
	return true
}

// noteSent notes a delta that was sent. A trial is not followed by another before there is an answer, or the patience is over.
func (s *Session) noteSent(r crdt.ReplicaID, end hlc.Time) {
	o := s.relayOf(r)
	if o == nil || o.verdict != unknown || s.relay.now == 0 {
		return
	}
	delete(s.behind, r)
	o.tried = end
	s.waitUntil(o, s.relay.now+s.relay.patience)
}

// ackWaits reports whether the acknowledgement of an origin may wait for others to go with.
func (s *Session) ackWaits(r crdt.ReplicaID) bool {
	o := s.relay.origins[r]
	if o == nil || o.prompt || o.owed > s.told.Get(r) || o.verdict != elsewhere {
		return false
	}
	if !s.relay.acksWait {
		s.relay.acksWait, s.relay.acksDue = true, s.relay.now+ackPatience
	}
	return s.relay.now < s.relay.acksDue
}

// noteTold notes that an acknowledgement of an origin goes out.
func (s *Session) noteTold(r crdt.ReplicaID) {
	if o := s.relay.origins[r]; o != nil {
		o.prompt = false
	}
}
