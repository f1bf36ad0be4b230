package protocol

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// piecewiseLog gives each transaction, one a unit of time, by itself.
type piecewiseLog struct{ noSnapshots }

func (piecewiseLog) Delta(r crdt.ReplicaID, from, _, _ hlc.Time) (*Delta, error) {
	return delta(r, from, from+1), nil
}

func nextPiece(t *testing.T, s *Session) string {
	t.Helper()
	m, err := s.Next(piecewiseLog{})
	if err != nil {
		t.Fatal(err)
	}
	return show(m)
}

// Otherwise the same piece goes out again at once, is refused again, and so on as fast as the connection allows.
func TestOriginRefusedForItsClockWaitsAlsoWithMoreOfItToSend(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 9), dot(replicaB, 1))}, Vectors{})
	if got, want := nextPiece(t, s), show(delta(replicaA, 0, 1)); got != want {
		t.Fatalf("sent %s, want %s", got, want)
	}
	receive(t, s, &Refusal{Code: RefusedClock, Origin: replicaA, From: 0, To: 1})
	if got, want := nextPiece(t, s), show(delta(replicaB, 0, 1)); got != want {
		t.Fatalf("sent %s, want %s", got, want)
	}
	if got := nextPiece(t, s); got != "nothing" {
		t.Fatalf("sent %s of an origin that waits", got)
	}
	s.RetryHeld()
	if got, want := nextPiece(t, s), show(delta(replicaA, 0, 1)); got != want {
		t.Fatalf("sent %s, want %s", got, want)
	}
}
