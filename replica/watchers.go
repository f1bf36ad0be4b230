package replica

import (
	"fmt"
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// watchPatience is how long pruning waits for a watcher that takes nothing.
const watchPatience = time.Minute

// watcher is a reader of the feed that is on its way. What it has not read yet is not pruned for as long as it goes on.
type watcher struct {
	at     uint64    // it has read the feed up to here; guarded by Space.mu
	moved  time.Time // the same
	floor  uint64    // what was forgotten before it began
	breach uint64    // where the feed was broken before it began
}

func (s *Space) beginWatch(at uint64) *watcher {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watcher{at: at, moved: s.r.cfg.Now(), floor: s.durable.floor, breach: s.durable.breach}
	s.watchers[w] = struct{}{}
	return w
}

func (s *Space) moveWatch(w *watcher, at uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.at, w.moved = at, s.r.cfg.Now()
}

func (s *Space) endWatch(w *watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.watchers, w)
}

// isWatchedBefore reports whether a watcher is on its way that has not read the feed up to arrival.
func (s *Space) isWatchedBefore(arrival uint64, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		if w.at < arrival && now.Sub(w.moved).Abs() < watchPatience {
			return true
		}
	}
	return false
}

// check reports whether the feed has forgotten something that a watcher who has read up to at may have to hear of.
func (w *watcher) check(snap store.Snapshot, s *Space, at uint64) error {
	floor, breach, err := docstore.Floors(snap, s.number)
	switch {
	case err != nil:
		return err
	case breach > w.breach:
		return fmt.Errorf("%w: this node was behind some of its readers, and nobody remembers what was deleted since then", ErrCursor)
	case at > 0 && floor > w.floor && at < floor: // at 0 it has read nothing yet
		return fmt.Errorf("%w: deletions after %s were forgotten, while nothing was read for %s", ErrCursor, Cursor{s.r.feed, at}, watchPatience)
	}
	return nil
}
