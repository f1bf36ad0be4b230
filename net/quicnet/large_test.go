package quicnet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestLargeFramesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := make(chan struct{}, largeTurns)
		waits := func(ctx context.Context, s *turn) time.Duration {
			began := time.Now()
			s.take(ctx)
			return time.Since(began)
		}
		a, b, c := &turn{turns: turns}, &turn{turns: turns}, &turn{turns: turns}
		if waits(t.Context(), a) != 0 {
			t.Error("the first waited")
		}
		time.AfterFunc(time.Second, a.end)
		if got := waits(t.Context(), b); got != time.Second {
			t.Errorf("a turn that was free after a second came after %s", got)
		}
		if got := waits(t.Context(), c); got != largePatience {
			t.Errorf("who got no turn went on after %s", got)
		}
		c.end() // it has none
		a.end()
		if got := waits(t.Context(), a); got != largePatience {
			t.Errorf("a turn that nobody gave back came after %s", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := waits(ctx, c); got != 0 {
			t.Errorf("a stream that has ended waited for %s", got)
		}
		b.end()
		if len(turns) != 0 {
			t.Error("a turn is not free in the end")
		}
	})
}
