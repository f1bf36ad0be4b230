package replica

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// removeStep is how many keys of a removed space are deleted at once, so that others need not wait.
const removeStep = 4096

// ErrRemoved ends what was waiting for a space that is removed.
var ErrRemoved = fmt.Errorf("%w: it was removed here", ErrNotFound)

// RemoveSpace removes this node's copy of a space; other nodes keep theirs. It is not kept again because a peer offers it, but if Space,
// CreateSpace or Join is called for it. Writes that no other node has are lost; Status tells what is pending. The private key of a space that was made here
// stays with Config.SpaceKeys.
//
// The space is gone when this returns, or, after an error of ctx, when the rest has been deleted, which goes on, also after a restart.
func (r *Replica) RemoveSpace(ctx context.Context, name string) error {
	r.mu.Lock()
	s := r.spaces[name]
	err := r.waitForRoom()
	if err == nil && (s == nil || r.spaces[name] != s) {
		err = fmt.Errorf("%w: there is no space %q", ErrNotFound, name)
	}
	if err != nil {
		r.mu.Unlock()
		return err
	}
	docstore.BeginRemoval(r.group.batch, name, s.number, s.trust == nil)
	if s.trust == nil {
		r.dropped[name] = struct{}{}
	}
	r.forget(s)
	r.byNumber[s.number] = nil // no other space gets it before all is deleted
	g := r.group
	r.mu.Unlock()
	close(s.removed)
	s.closeSessions(CloseUnknownSpace)
	r.poke()
	if err := g.wait(); err != nil {
		return fmt.Errorf("remove space %q: %w", name, err)
	}
	ended := make(chan error, 1)
	if !r.background(func() { ended <- r.finishRemoval(s.number) }) {
		return ErrClosed
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Space) closeSessions(code CloseCode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		go ses.stream.Close(code)
	}
}

// background runs fn until it returns; Close waits for it. It reports false if the replica is closed.
func (r *Replica) background(fn func()) bool {
	r.peers.mu.Lock() // see Close
	defer r.peers.mu.Unlock()
	if r.ctx.Err() != nil {
		return false
	}
	r.wg.Go(fn)
	return true
}

// loadRemovals finds what was removed, and which removals a crash or Close has interrupted.
func (r *Replica) loadRemovals(snap store.Snapshot) error {
	var err error
	if r.dropped, err = docstore.Dropped(snap); err != nil {
		return err
	}
	numbers, err := docstore.Removing(snap)
	for _, n := range numbers {
		r.byNumber[n] = nil
	}
	return err
}

func (r *Replica) resumeRemovals() {
	var numbers []uint32
	for n, s := range r.byNumber {
		if s == nil {
			numbers = append(numbers, n)
		}
	}
	for _, n := range numbers {
		r.wg.Go(func() {
			if err := r.finishRemoval(n); err != nil && r.ctx.Err() == nil {
				r.log.Error("what is left of a removed space cannot be deleted", "error", err)
			}
		})
	}
}

// finishRemoval deletes what is left of a space, some of it at a time. Nothing is written to the space any more.
func (r *Replica) finishRemoval(number uint32) error {
	for {
		if r.ctx.Err() != nil {
			return ErrClosed // the rest goes with the next opening
		}
		done, err := r.removeSome(number)
		if err != nil {
			return fmt.Errorf("remove space number %d: %w", number, err)
		}
		if done {
			r.mu.Lock()
			delete(r.byNumber, number)
			r.mu.Unlock()
			return nil
		}
	}
}

func (r *Replica) removeSome(number uint32) (done bool, err error) {
	r.mu.Lock()
	var g *group
	if err = r.waitForRoom(); err == nil {
		g = r.group
		done, err = r.removeStep(number)
	}
	r.mu.Unlock()
	if err != nil {
		return false, err
	}
	r.poke()
	return done, g.wait()
}

// removeStep is called with mu held.
func (r *Replica) removeStep(number uint32) (done bool, err error) {
	snap, err := r.store.Snapshot()
	if err != nil {
		return false, err
	}
	defer snap.Close()
	return docstore.RemoveStep(snap, r.group.batch, number, removeStep)
}
