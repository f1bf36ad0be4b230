package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// begin is any time after zero.
const begin = time.Second

// relayer returns a session of replica B that has just learned that its peer gets the writes of A from elsewhere.
func relayer(t *testing.T) (s *Session, local State) {
	t.Helper()
	local = State{Self: replicaB, VV: vector(dot(replicaA, 1))}
	s = opened(t, local, Vectors{})
	expect(t, drain(t, s), "delta a (0, 1]")
	receive(t, s, &Refusal{Code: RefusedKnown, Origin: replicaA, From: 0, To: 1})
	receive(t, s, &Ack{VV: vector(dot(replicaA, 1))})
	drain(t, s)
	s.Tick(begin)
	return s, local
}

func advanceTo(s *Session, local *State, r crdt.ReplicaID, at hlc.Time) {
	local.VV = local.VV.Clone()
	local.VV.Advance(dot(r, at))
	s.Advance(*local, []crdt.Dot{dot(r, at)})
}

func TestRelayIsSentAtOnceAsLongAsNobodyElseIsKnownToBringIt(t *testing.T) {
	local := State{Self: replicaB}
	s := opened(t, local, Vectors{})
	drain(t, s)
	s.Tick(begin)
	advanceTo(s, &local, replicaA, 1)
	expect(t, drain(t, s), "ack {a:1}")
	s.Tick(begin + trialDelay)
	expect(t, drain(t, s), "delta a (0, 1]")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 1))})
	for at := hlc.Time(2); at <= 4; at++ {
		advanceTo(s, &local, replicaA, at)
		expect(t, drain(t, s), show(delta(replicaA, at-1, at)))
	}
}

func TestOriginThatThePeerHasBeforeItIsRelayedComesFromElsewhere(t *testing.T) {
	local := State{Self: replicaB}
	s := opened(t, local, Vectors{})
	s.Tick(begin)
	drain(t, s)
	advanceTo(s, &local, replicaA, 2)
	expect(t, drain(t, s), "ack {a:2}")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 1))})
	s.Tick(begin + trialDelay)
	expect(t, drain(t, s))
	s.Tick(begin + relayPatience)
	expect(t, drain(t, s), "delta a (1, 2]")
}

func TestWhatThePeerGetsFromElsewhereIsNotRelayed(t *testing.T) {
	s, local := relayer(t)
	for at := hlc.Time(2); at <= 5; at++ {
		advanceTo(s, &local, replicaA, at)
		expect(t, drain(t, s))
		receive(t, s, &Ack{VV: vector(dot(replicaA, at))})
	}
	if _, ok := s.Due(); !ok {
		t.Fatal("the acknowledgement is forgotten")
	}
	s.Tick(begin + ackPatience)
	expect(t, drain(t, s), "ack {a:5}") // one for the four
	if at, ok := s.Due(); ok {
		t.Errorf("it still waits, until %s", at)
	}
}

func TestSourceIsToldAtOnceOfAllThatItSent(t *testing.T) {
	local := State{Self: replicaB}
	s := opened(t, local, Vectors{})
	s.Tick(begin)
	drain(t, s)
	for at := hlc.Time(1); at <= 3; at++ {
		receive(t, s, delta(replicaA, at-1, at))
	}
	for at := hlc.Time(1); at <= 3; at++ { // the first is durable when all have come
		advanceTo(s, &local, replicaA, at)
		expect(t, drain(t, s), fmt.Sprintf("ack {a:%d}", at))
	}
	advanceTo(s, &local, replicaA, 4) // from another peer
	expect(t, drain(t, s))
}

func TestPatienceEndsAndThenRelaysGoOutAtOnceAgain(t *testing.T) {
	s, local := relayer(t)
	advanceTo(s, &local, replicaA, 2)
	expect(t, drain(t, s))
	s.Tick(begin + ackPatience)
	expect(t, drain(t, s), "ack {a:2}")
	s.Tick(begin + relayPatience - 1)
	expect(t, drain(t, s))
	if at, ok := s.Due(); !ok || at != begin+relayPatience {
		t.Fatalf("due at %s, %v", at, ok)
	}
	s.Tick(begin + relayPatience)
	expect(t, drain(t, s), "delta a (1, 2]")
	advanceTo(s, &local, replicaA, 3)
	expect(t, drain(t, s), "ack {a:3}") // the delta was a trial, and is not answered yet
	receive(t, s, &Ack{VV: vector(dot(replicaA, 2))})
	expect(t, drain(t, s), "delta a (2, 3]")
	advanceTo(s, &local, replicaA, 4)
	expect(t, drain(t, s), "delta a (3, 4]")
}

func TestTrialIsASingleDeltaUntilItIsAnswered(t *testing.T) {
	s := NewSession(State{Self: replicaB, VV: vector(dot(replicaA, 9))})
	s.Tick(begin)
	drain(t, s)
	receive(t, s, &Vectors{})
	if got := nextPiece(t, s); got != "nothing" {
		t.Fatalf("sent %s at once", got)
	}
	s.Tick(begin + trialDelay)
	for _, want := range []string{show(delta(replicaA, 0, 1)), "nothing"} {
		if got := nextPiece(t, s); got != want {
			t.Fatalf("sent %s, want %s", got, want)
		}
	}
	receive(t, s, &Ack{VV: vector(dot(replicaA, 1))})
	for at := hlc.Time(1); at < 9; at++ {
		if got, want := nextPiece(t, s), show(delta(replicaA, at, at+1)); got != want {
			t.Fatalf("sent %s, want %s", got, want)
		}
	}
}

func TestPatienceBeginsAnewWithEachStepOfThePeer(t *testing.T) {
	s, local := relayer(t)
	advanceTo(s, &local, replicaA, 9)
	expect(t, drain(t, s))
	s.Tick(begin + relayPatience - 1)
	receive(t, s, &Ack{VV: vector(dot(replicaA, 5))})
	s.Tick(begin + relayPatience)
	expect(t, drain(t, s), "ack {a:9}")
	s.Tick(begin + 2*relayPatience - 1)
	expect(t, drain(t, s), "delta a (5, 9]")
}

func TestPatienceGrowsWhereItWasTooShort(t *testing.T) {
	s, local := relayer(t)
	now := begin
	for at := hlc.Time(2); at < 9; at++ {
		advanceTo(s, &local, replicaA, at)
		due, ok := s.Due()
		for ok && !isBehind(s, replicaA) {
			s.Tick(due)
			due, ok = s.Due()
		}
		if wait := s.relay.now - now; wait < relayPatience<<min(at-2, 3) || wait > maxRelayPatience {
			t.Errorf("write %d waited %s", at, wait)
		}
		now = s.relay.now
		drain(t, s)
		receive(t, s, &Refusal{Code: RefusedKnown, Origin: replicaA, From: at - 1, To: at})
		receive(t, s, &Ack{VV: vector(dot(replicaA, at))})
	}
}

func TestDeltaOfThePeerSaysThatItHasASource(t *testing.T) {
	local := State{Self: replicaB, VV: vector(dot(replicaA, 1))}
	s := opened(t, local, Vectors{})
	drain(t, s)
	s.Tick(begin)
	receive(t, s, delta(replicaA, 0, 1)) // it crossed ours
	advanceTo(s, &local, replicaA, 2)
	expect(t, drain(t, s), "ack {a:2}") // the peer waits for the word on what it sent
	receive(t, s, &Ack{VV: vector(dot(replicaA, 2))})
	expect(t, drain(t, s), "level")
}

func TestOwnWritesAlwaysGoOutAtOnce(t *testing.T) {
	local := State{Self: replicaA, VV: vector(dot(replicaA, 1))}
	s := NewSession(local)
	s.Tick(begin)
	drain(t, s)
	receive(t, s, &Vectors{})
	expect(t, drain(t, s), "delta a (0, 1]")
	receive(t, s, &Refusal{Code: RefusedKnown, Origin: replicaA, From: 0, To: 1})
	advanceTo(s, &local, replicaA, 2)
	expect(t, drain(t, s), "delta a (1, 2]")
}

func TestSurplusIsSaidOnceAndNotToTheAuthor(t *testing.T) {
	s := opened(t, State{Self: replicaB, VV: vector(dot(replicaA, 3), dot(replicaC, 3))}, Vectors{Self: replicaC, VV: vector(dot(replicaA, 3), dot(replicaC, 3))})
	drain(t, s)
	s.Surplus(delta(replicaA, 1, 2))
	s.Surplus(delta(replicaA, 2, 3))
	s.Surplus(delta(replicaC, 2, 3))
	expect(t, drain(t, s), "refusal a (2, 3] known")
}

// A peer may name as many origins as it likes.
func TestWhatIsRememberedOfOriginsIsBounded(t *testing.T) {
	s := opened(t, State{Self: replicaB}, Vectors{})
	for r := crdt.ReplicaID(1); r <= 2*maxJudged; r++ {
		receive(t, s, delta(r, 0, 1))
		receive(t, s, &Refusal{Code: RefusedKnown, Origin: r})
		s.Surplus(delta(r, 0, 1))
	}
	if n := max(len(s.relay.origins), len(s.relay.surplus)); n > maxJudged {
		t.Errorf("it remembers %d origins", n)
	}
}

func isBehind(s *Session, r crdt.ReplicaID) bool {
	_, ok := s.behind[r]
	return ok
}
