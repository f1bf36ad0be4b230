package protocol

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

const (
	replicaA crdt.ReplicaID = 0xa
	replicaB crdt.ReplicaID = 0xb
	replicaC crdt.ReplicaID = 0xc
)

func dot(r crdt.ReplicaID, t hlc.Time) crdt.Dot { return crdt.Dot{Replica: r, Time: t} }

func vector(dots ...crdt.Dot) crdt.VersionVector { return crdt.NewVersionVector(dots...) }

func delta(r crdt.ReplicaID, from, to hlc.Time) *Delta {
	return &Delta{crdt.Delta{Origin: r, From: from, To: to}}
}

// wholeLog gives what is asked for in one delta.
type wholeLog struct{ noSnapshots }

func (wholeLog) Delta(r crdt.ReplicaID, from, to, _ hlc.Time) (*Delta, error) {
	return delta(r, from, to), nil
}

// noSnapshots is the part of a source that gives snapshots, for tests without them.
type noSnapshots struct{}

func (noSnapshots) Begin(*SnapshotRequest) (*SnapshotBegin, error) { return nil, ErrBusy }
func (noSnapshots) Piece() (*SnapshotPiece, error)                 { return nil, nil }

// sourceFunc gives what the function returns.
type sourceFunc func(r crdt.ReplicaID, from, to hlc.Time) (*Delta, error)

func (f sourceFunc) Delta(r crdt.ReplicaID, from, to, _ hlc.Time) (*Delta, error) {
	return f(r, from, to)
}

func (sourceFunc) Begin(*SnapshotRequest) (*SnapshotBegin, error) { return nil, ErrBusy }
func (sourceFunc) Piece() (*SnapshotPiece, error)                 { return nil, nil }

// opened returns a session that has exchanged vectors.
func opened(t *testing.T, local State, peer Vectors) *Session {
	t.Helper()
	s := NewSession(local)
	if got := next(t, s); !strings.HasPrefix(got, "vectors") {
		t.Fatalf("a session begins with %s, want vectors", got)
	}
	receive(t, s, &peer)
	return s
}

func receive(t *testing.T, s *Session, m Message) Step {
	t.Helper()
	step, err := s.Receive(m)
	if err != nil {
		t.Fatalf("receive %s: %v", show(m), err)
	}
	return step
}

func next(t *testing.T, s *Session) string {
	t.Helper()
	m, err := s.Next(wholeLog{})
	if err != nil {
		t.Fatalf("next: %v", err)
	}
	return show(m)
}

// drain returns everything that a session has to say now.
func drain(t *testing.T, s *Session) []string {
	t.Helper()
	var said []string
	for m := next(t, s); m != "nothing"; m = next(t, s) {
		said = append(said, m)
	}
	return said
}

// show writes a message as the transcripts do.
func show(m Message) string {
	switch m := m.(type) {
	case nil:
		return "nothing"
	case *Vectors:
		return "vectors " + showVector(m.VV)
	case *Delta:
		return fmt.Sprintf("delta %x (%d, %d]", uint64(m.Origin), m.From, m.To)
	case *Ack:
		return "ack " + showVector(m.VV)
	case *Level:
		return "level"
	case *SnapshotOffer:
		return "offer " + showVector(m.Stable)
	case *SnapshotRequest:
		return fmt.Sprintf("request from %v of %s", m.From, showVector(m.V))
	case *SnapshotBegin:
		return fmt.Sprintf("begin %d from %v at %s", m.State, m.From, showVector(m.VV))
	case *SnapshotPiece:
		return fmt.Sprintf("piece of %d from %v to %v", m.State, m.Lower, m.Upper)
	case *Refusal:
		return fmt.Sprintf("refusal %x (%d, %d] %s", uint64(m.Origin), m.From, m.To, m.Code)
	}
	return fmt.Sprintf("%T", m)
}

func showVector(vv crdt.VersionVector) string {
	var parts []string
	for d := range vv.All() {
		parts = append(parts, fmt.Sprintf("%x:%d", uint64(d.Replica), d.Time))
	}
	return "{" + strings.Join(parts, " ") + "}"
}

func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("it said %q, want %q", got, want)
	}
}

func TestNothingComesBeforeVectors(t *testing.T) {
	for _, m := range []Message{delta(replicaA, 0, 1), &Ack{}, &Level{}, &Refusal{}} {
		if _, err := NewSession(State{}).Receive(m); err == nil {
			t.Errorf("%s was taken before vectors", show(m))
		}
	}
}

func TestVectorsComeOnce(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	if _, err := s.Receive(&Vectors{}); err == nil {
		t.Error("vectors were taken twice")
	}
}

func TestNothingIsServedBeforeThePeersVectors(t *testing.T) {
	s := NewSession(State{VV: vector(dot(replicaA, 3))})
	expect(t, drain(t, s), "vectors {a:3}")
}

func TestServesWhatThePeerLacks(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 3), dot(replicaB, 2), dot(replicaC, 5))},
		Vectors{VV: vector(dot(replicaA, 1), dot(replicaB, 2))})
	expect(t, drain(t, s), "delta a (1, 3]", "delta c (0, 5]")
}

func TestLongRangeIsServedInPieces(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 5))}, Vectors{})
	pieces := sourceFunc(func(r crdt.ReplicaID, from, to hlc.Time) (*Delta, error) {
		return delta(r, from, min(from+2, to)), nil
	})
	var said []string
	for {
		m, err := s.Next(pieces)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			break
		}
		said = append(said, show(m))
	}
	expect(t, said, "delta a (0, 2]", "delta a (2, 4]", "delta a (4, 5]")
}

func TestRelayedDeltaMayBeginEarlier(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 3))}, Vectors{VV: vector(dot(replicaA, 2))})
	m, err := s.Next(sourceFunc(func(crdt.ReplicaID, hlc.Time, hlc.Time) (*Delta, error) { return delta(replicaA, 1, 3), nil }))
	if err != nil || show(m) != "delta a (1, 3]" {
		t.Errorf("got %s, %v", show(m), err)
	}
	expect(t, drain(t, s))
}

func TestSourceMustKeepToWhatWasAskedFor(t *testing.T) {
	for name, d := range map[string]*Delta{
		"another origin":      delta(replicaB, 1, 3),
		"begins too late":     delta(replicaA, 2, 3),
		"brings nothing":      delta(replicaA, 0, 1),
		"is not durable here": delta(replicaA, 1, 4),
	} {
		s := opened(t, State{VV: vector(dot(replicaA, 3))}, Vectors{VV: vector(dot(replicaA, 1))})
		if m, err := s.Next(sourceFunc(func(crdt.ReplicaID, hlc.Time, hlc.Time) (*Delta, error) { return d, nil })); err == nil {
			t.Errorf("%s: %s was sent", name, show(m))
		}
	}
}

func TestErrorOfTheSourceIsReturned(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 3))}, Vectors{})
	broken := errors.New("broken")
	if _, err := s.Next(sourceFunc(func(crdt.ReplicaID, hlc.Time, hlc.Time) (*Delta, error) { return nil, broken })); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestNothingIsServedToAPeerBelowStable(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 3)), Stable: vector(dot(replicaA, 2))}
	s := opened(t, local, Vectors{VV: vector(dot(replicaA, 1))})
	expect(t, drain(t, s), "offer {a:2}")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 2))}) // it got that from elsewhere
	s.Advance(local, []crdt.Dot{dot(replicaA, 3)})
	expect(t, drain(t, s), "delta a (2, 3]")
}

func TestMergedDeltaIsAcknowledgedOnceItIsDurable(t *testing.T) {
	s := opened(t, State{}, Vectors{VV: vector(dot(replicaB, 2))})
	step := receive(t, s, delta(replicaB, 0, 2))
	if step.Merge == nil {
		t.Fatal("the delta is not merged")
	}
	expect(t, drain(t, s))
	s.Advance(State{VV: vector(dot(replicaB, 2))}, []crdt.Dot{dot(replicaB, 2)})
	expect(t, drain(t, s), "ack {b:2}", "level")
}

func TestSentDeltaNeedsNoAck(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	expect(t, drain(t, s), "level")
	s.Advance(State{VV: vector(dot(replicaA, 1))}, []crdt.Dot{dot(replicaA, 1)})
	expect(t, drain(t, s), "delta a (0, 1]")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 1))})
	expect(t, drain(t, s))
}

func TestReceivedDeltaAcknowledgesWhatItBrings(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	if step := receive(t, s, delta(replicaB, 0, 2)); !step.Acked {
		t.Error("the vector of the peer is not said to have risen")
	}
	if got := s.AckedVector(); got.Get(replicaB) != 2 {
		t.Errorf("the peer is thought to hold %s", showVector(got))
	}
	s.Advance(State{VV: vector(dot(replicaB, 2))}, []crdt.Dot{dot(replicaB, 2)})
	expect(t, drain(t, s), "ack {b:2}", "level") // and not the delta itself
}

func TestAnotherPeersDeltaIsPassedOn(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	drain(t, s)
	s.Advance(State{VV: vector(dot(replicaC, 4))}, []crdt.Dot{dot(replicaC, 4)})
	expect(t, drain(t, s), "delta c (0, 4]")
}

func TestGapGoesBackToWhatIsAcknowledged(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 3))}, Vectors{VV: vector(dot(replicaA, 1))})
	expect(t, drain(t, s), "delta a (1, 3]")
	s.Advance(State{VV: vector(dot(replicaA, 4))}, []crdt.Dot{dot(replicaA, 4)})
	expect(t, drain(t, s), "delta a (3, 4]")
	step := receive(t, s, &Refusal{Code: RefusedGap, Origin: replicaA, From: 3, To: 4}) // the first was lost
	if step.Refused == nil {
		t.Error("the refusal is not reported")
	}
	expect(t, drain(t, s), "delta a (1, 4]")
}

func TestOriginRefusedForItsClockWaits(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 3), dot(replicaB, 1))}
	s := opened(t, local, Vectors{})
	expect(t, drain(t, s), "delta a (0, 3]", "delta b (0, 1]")
	receive(t, s, &Refusal{Code: RefusedClock, Origin: replicaA, To: 3})
	expect(t, drain(t, s))

	local.VV = vector(dot(replicaA, 4), dot(replicaB, 2))
	s.Advance(local, []crdt.Dot{dot(replicaA, 4), dot(replicaB, 2)})
	expect(t, drain(t, s), "ack {a:4}", "delta b (1, 2]") // of a only that it is here
	receive(t, s, &Refusal{Code: RefusedGap, Origin: replicaA, From: 2, To: 3})
	expect(t, drain(t, s))
	if held := s.Held(); len(held) != 1 || held[0] != replicaA {
		t.Errorf("held are %v", held)
	}

	s.RetryHeld()
	expect(t, drain(t, s), "delta a (0, 4]")
	if held := s.Held(); len(held) != 0 {
		t.Errorf("held are still %v", held)
	}
}

// A peer with a slow clock refuses every origin that wrote of late, all at once if it has not been read meanwhile. The sender
// takes each delta whose refusal is dropped for received.
func TestEveryRefusedOriginIsToldOf(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	drain(t, s)
	for r := crdt.ReplicaID(1); r <= 300; r++ {
		s.Refuse(delta(r, 0, 1), RefusedClock, "ahead")
		s.Refuse(delta(r, 1, 2), RefusedGap, "gap")
	}
	told := drain(t, s)
	if len(told) != 300 {
		t.Fatalf("%d refusals were sent for 300 origins", len(told))
	}
	for _, m := range told {
		if !strings.HasSuffix(m, RefusedClock.String()) {
			t.Fatalf("%s: the clock's refusal must not be replaced by the gap that follows from it", m)
		}
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	drain(t, s)
	for r := crdt.ReplicaID(1); r <= 2*maxRefusals; r++ {
		s.Refuse(delta(r, 0, 1), RefusedGap, strings.Repeat("x", 2*MaxRefusalText))
	}
	if len(s.refusals) != maxRefusals {
		t.Errorf("%d refusals wait, want %d", len(s.refusals), maxRefusals)
	}
	m, _ := s.Next(wholeLog{})
	if text := m.(*Refusal).Text; len(text) != MaxRefusalText {
		t.Errorf("the text has %d bytes, want %d", len(text), MaxRefusalText)
	}
}

func TestPeerThatKnowsMoreOfUsProvesALoss(t *testing.T) {
	for name, c := range map[string]struct {
		self crdt.ReplicaID
		peer crdt.VersionVector
		want bool
	}{
		"it knows more":          {replicaA, vector(dot(replicaA, 4)), true},
		"it knows as much":       {replicaA, vector(dot(replicaA, 3)), false},
		"it knows less":          {replicaA, vector(dot(replicaA, 2)), false},
		"more of somebody else":  {replicaA, vector(dot(replicaB, 9)), false},
		"we have no ID at all":   {0, vector(dot(replicaA, 4)), false},
		"we have another ID now": {replicaB, vector(dot(replicaA, 4)), false},
	} {
		s := NewSession(State{Self: c.self, VV: vector(dot(replicaA, 3))})
		if step := receive(t, s, &Vectors{VV: c.peer}); step.LostWrites != c.want {
			t.Errorf("%s: LostWrites is %v", name, step.LostWrites)
		}
	}
}

func TestDigestsAreComparedOnlyAtEqualVectors(t *testing.T) {
	here := State{VV: vector(dot(replicaA, 3)), Digest: crdt.Digest{Lo: 1}, Closed: true}
	hash := crdt.VectorHash(here.VV)
	for name, c := range map[string]struct {
		level Level
		want  Comparison
	}{
		"other vector":          {Level{crdt.VectorHash(vector(dot(replicaA, 4))), crdt.Digest{Lo: 2}, true}, NotCompared},
		"the same":              {Level{hash, here.Digest, true}, Equal},
		"the same, peer open":   {Level{hash, here.Digest, false}, Equal},
		"differ, peer open":     {Level{hash, crdt.Digest{Lo: 2}, false}, Differs},
		"differ, both closed":   {Level{hash, crdt.Digest{Lo: 2}, true}, Mismatch},
		"differ in the high 64": {Level{hash, crdt.Digest{Hi: 1, Lo: 1}, true}, Mismatch},
	} {
		s := opened(t, here, Vectors{VV: here.VV})
		if step := receive(t, s, &c.level); step.Compared != c.want {
			t.Errorf("%s: got %d, want %d", name, step.Compared, c.want)
		}
	}
	here.Closed = false
	s := opened(t, here, Vectors{VV: here.VV})
	if step := receive(t, s, &Level{hash, crdt.Digest{Lo: 2}, true}); step.Compared != Differs {
		t.Errorf("differ, we are open: got %d, want %d", step.Compared, Differs)
	}
}

func TestLevelIsSaidOnceUntilAskedAgain(t *testing.T) {
	vv := vector(dot(replicaA, 3))
	s := opened(t, State{VV: vv}, Vectors{VV: vv})
	expect(t, drain(t, s), "level")
	expect(t, drain(t, s))
	s.CompareDigests()
	expect(t, drain(t, s), "level")
}

func TestLevelIsNotSaidWhileThePeerLacksSomething(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 3))}, Vectors{})
	expect(t, drain(t, s), "delta a (0, 3]")
	if s.IsLevel() {
		t.Error("level before the peer has acknowledged")
	}
	receive(t, s, &Ack{VV: vector(dot(replicaA, 3))})
	expect(t, drain(t, s), "level")
}

func TestMessagesDoNotChangeWithTheReplica(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 3))}
	s := NewSession(local)
	m, err := s.Next(wholeLog{})
	if err != nil {
		t.Fatal(err)
	}
	before := show(m)
	receive(t, s, &Vectors{})
	local.VV = local.VV.Clone()
	local.VV.Advance(dot(replicaA, 4))
	s.Advance(local, []crdt.Dot{dot(replicaA, 4)})
	drain(t, s)
	if after := show(m); after != before {
		t.Errorf("vectors on their way changed from %s to %s", before, after)
	}
}

func TestPeersVectorsDoNotChangeWithTheSession(t *testing.T) {
	peer := &Vectors{VV: vector(dot(replicaA, 1))}
	s := NewSession(State{VV: vector(dot(replicaA, 3))})
	receive(t, s, peer)
	drain(t, s)
	receive(t, s, &Ack{VV: vector(dot(replicaA, 3))})
	if got := showVector(peer.VV); got != "{a:1}" {
		t.Errorf("the message that came became %s", got)
	}
	if v, ok := s.PeerVectors(); !ok || showVector(v.VV) != "{a:1}" {
		t.Errorf("PeerVectors is %v, %v", v, ok)
	}
}
