package protocol

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// A node gets writes of B by way of C and is about to pass them on to B, who does not lack them. B waits for an
// acknowledgement, and nothing else will wake the sender.
func TestWhatThePeerTurnsOutToHaveIsAcknowledgedAtOnce(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	drain(t, s)
	s.Advance(State{VV: vector(dot(replicaB, 5))}, []crdt.Dot{dot(replicaB, 5)})
	receive(t, s, delta(replicaB, 0, 5))
	if got, want := next(t, s), show(&Ack{VV: vector(dot(replicaB, 5))}); got != want {
		t.Fatalf("sent %s, want %s", got, want)
	}
}
