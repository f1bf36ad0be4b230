package protocol

import (
	"strings"
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

func TestOriginThatWritesAllTheTimeHoldsUpNoOther(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 3), dot(replicaB, 3), dot(replicaC, 1))}
	s := opened(t, local, Vectors{})
	var sent []string
	for range 7 {
		sent = append(sent, nextPiece(t, s))
		a := dot(replicaA, local.VV.Get(replicaA)+1) // more than the connection takes
		local.VV = local.VV.Clone()
		local.VV.Advance(a)
		s.Advance(local, []crdt.Dot{a})
	}
	all := strings.Join(sent, "\n")
	for _, want := range []*Delta{delta(replicaB, 2, 3), delta(replicaC, 0, 1), delta(replicaA, 2, 3)} {
		if !strings.Contains(all, show(want)) {
			t.Errorf("%s was not sent:\n%s", show(want), all)
		}
	}
}
