package replica

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
)

// WaitVector returns when the space holds durably what vv covers, or with the error of ctx. With the Vector of another
// node's Status it waits until this node has everything that the other one had then.
func (s *Space) WaitVector(ctx context.Context, vv crdt.VersionVector) error {
	for {
		s.mu.Lock()
		have, changed := s.durable.VV, s.changed
		s.mu.Unlock()
		if vv.LessOrEqual(have) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("writes of %d replicas have not all arrived: %w", vv.Beyond(have).Len(), ctx.Err())
		case <-s.r.ctx.Done():
			return ErrClosed
		}
	}
}
