package replica_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func TestWaitVectorWaitsForWhatThePeerHad(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	for i := range 50 {
		set(t, p.sa, "a", "x", i)
	}
	st, err := p.sa.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.sb.WaitVector(ctx, st.Vector); err != nil {
		t.Fatal(err)
	}
	if got := show(t, p.sb, "a"); got != "map[x:49]" {
		t.Fatal(got)
	}
	ahead := st.Vector.Clone()
	ahead.Advance(crdt.Dot{Replica: 1, Time: 1})
	ended, end := context.WithCancel(t.Context())
	end()
	if err := p.sb.WaitVector(ended, ahead); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}
