package quicnet

import (
	"context"
	"sync/atomic"
	"time"
)

// Frames larger than largeFrame are read one after the other, largeTurns at once of all streams. A turn lasts until the stream is asked for
// its next frame, which is when this one has been dealt with. A crowd of peers that send the largest frames there may be would otherwise cost the crowd's number times that. All that
// is sent in bulk is smaller; only a transaction that is as large itself is not.
//
// It is a turn, not a lock: who sends slowly keeps the others waiting for largePatience and no longer. Then they go on beside him, and
// what each may cost is bounded by the frame.
const (
	largeFrame    = 2 << 20
	largeTurns    = 1
	largePatience = 10 * time.Second
)

// turn is that of one stream.
type turn struct {
	turns chan struct{} // the transport's; holds one for each that is taken
	taken atomic.Bool
}

// take waits for the turn, for largePatience at most, or until ctx ends.
func (t *turn) take(ctx context.Context) {
	late := time.NewTimer(largePatience)
	defer late.Stop()
	select {
	case t.turns <- struct{}{}:
		t.taken.Store(true)
	case <-late.C:
	case <-ctx.Done():
	}
}

// end gives the turn to another, if it was taken.
func (t *turn) end() {
	if t.taken.CompareAndSwap(true, false) {
		<-t.turns
	}
}
