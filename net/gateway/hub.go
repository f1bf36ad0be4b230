package gateway

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// Bounds of what a hub keeps for those that follow its space closely. Who is further behind reads the store.
const (
	ringItems = 4096
	ringBytes = 16 << 20
)

const (
	// hubLinger is how long a hub stays after its last subscription: one who polls comes back soon, and finds the ring.
	hubLinger = time.Minute
	// levelDelay is how long a subscription may not know that the space went on without an item for it.
	levelDelay = time.Second
	// notifyEvery bounds the items that wait in the ring for one read of the feed to end.
	notifyEvery = 64
)

// ringItem is a change, encoded.
type ringItem struct {
	key     string
	arrival uint64
	deleted bool
	json    []byte
}

// hub follows one space and encodes each of its changes, once for all subscriptions. A subscription takes from the ring at its own pace; none has
// a queue.
type hub struct {
	g     *Gateway
	space *replica.Space
	life  uint64 // of the cursors of the space
	stop  context.CancelFunc

	mu      sync.Mutex
	ring    [ringItems]*ringItem // a circle, in the order of arrivals
	first   int
	len     int
	bytes   int
	start   uint64 // the ring holds every change after it ...
	at      uint64 // ... up to here
	subs    map[*subscription]struct{}
	linger  *time.Timer // set while there is no subscription
	stale   *time.Timer // set while some do not know that the space went on
	err     error       // why it ended
	stopped bool
}

// follow returns the hub of a space, with the subscription counted in, until it is closed.
func (g *Gateway) follow(space *replica.Space, s *subscription) (*hub, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return nil, context.Cause(g.ctx)
	}
	if h := g.hubs[space]; h != nil && h.join(s) {
		return h, nil
	}
	at := space.Cursor()
	feed, err := space.Feed(at, nil)
	if err != nil {
		return nil, fmt.Errorf("follow the space %q: %w", space.Name(), err)
	}
	ctx, stop := context.WithCancel(g.ctx)
	h := &hub{g: g, space: space, life: at.Feed, stop: stop, start: at.Arrival, at: at.Arrival, subs: map[*subscription]struct{}{s: {}}}
	g.hubs[space] = h
	g.live.Go(func() { h.run(ctx, feed) })
	return h, nil
}

// join counts a subscription in; it reports false if the hub has ended.
func (h *hub) join(s *subscription) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil || h.stopped {
		return false
	}
	if h.linger != nil {
		h.linger.Stop()
		h.linger = nil
	}
	h.subs[s] = struct{}{}
	return true
}

func (h *hub) leave(s *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.subs, s)
	if len(h.subs) == 0 && h.linger == nil && h.err == nil {
		h.linger = time.AfterFunc(hubLinger, h.retire)
	}
}

// retire ends the hub unless somebody has come back.
func (h *hub) retire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		h.stopped = true
		h.stop()
	}
}

func (h *hub) run(ctx context.Context, feed *replica.Feed) {
	defer feed.Close()
	err := h.encodeAll(ctx, feed)
	h.g.mu.Lock()
	if h.g.hubs[h.space] == h {
		delete(h.g.hubs, h.space)
	}
	h.g.mu.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	for _, t := range []*time.Timer{h.linger, h.stale} {
		if t != nil {
			t.Stop()
		}
	}
	for s := range h.subs {
		s.wake()
	}
	h.stop()
}

func (h *hub) encodeAll(ctx context.Context, feed *replica.Feed) error {
	var scratch []byte
	for {
		fresh := 0
		for c, err := range feed.Read(ctx) {
			if err != nil {
				return err
			}
			scratch = appendItem(scratch[:0], c)
			h.g.encoded.Add(1)
			h.add(&ringItem{key: c.Key, arrival: c.Cursor.Arrival, deleted: c.Document == nil, json: slices.Clone(scratch)})
			if cap(scratch) > 1<<20 {
				scratch = nil // one large document is no reason to keep so much
			}
			if fresh++; fresh == notifyEvery {
				h.notify(feed.Cursor().Arrival, fresh)
				fresh = 0
			}
		}
		h.notify(feed.Cursor().Arrival, fresh)
		if err := feed.Wait(ctx); err != nil {
			return err
		}
	}
}

func (h *hub) add(it *ringItem) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.len == ringItems || h.len > 0 && h.bytes+len(it.json) > ringBytes {
		old := h.ring[h.first]
		h.ring[h.first] = nil
		h.first = (h.first + 1) % ringItems
		h.len--
		h.bytes -= len(old.json)
		h.start = old.arrival
	}
	h.ring[(h.first+h.len)%ringItems] = it
	h.len++
	h.bytes += len(it.json)
	h.at = it.arrival
}

func (h *hub) item(i int) *ringItem { return h.ring[(h.first+i)%ringItems] }

// notify wakes the subscriptions that the last fresh items are for, and, a little later, the others: they have nothing to send but
// where they are.
func (h *hub) notify(at uint64, fresh int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = max(h.at, at)
	others := false
	for s := range h.subs {
		if s.woken {
			continue
		}
		s.woken = s.early
		for i := h.len - min(fresh, h.len); i < h.len && !s.woken; i++ {
			s.woken = s.filter.match(h.item(i).key)
		}
		if s.woken {
			s.wake()
		}
		others = others || !s.woken
	}
	if others {
		h.expectStale()
	}
}

// expectStale is called with mu held.
func (h *hub) expectStale() {
	if h.stale == nil && h.err == nil {
		h.stale = time.AfterFunc(levelDelay, h.wakeStale)
	}
}

func (h *hub) wakeStale() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stale = nil
	for s := range h.subs {
		if s.told < h.at {
			s.wake()
		}
	}
}

// covers reports whether the ring has everything after an arrival.
func (h *hub) covers(at uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return at >= h.start
}

// take gives what the ring has for a subscription, within the bounds of a batch. It reports false if the ring does not reach
// back to where the subscription is.
func (h *hub) take(s *subscription, b *batch) (ok bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s.woken = false
	if s.at < h.start {
		return false, nil
	}
	i := sort.Search(h.len, func(i int) bool { return h.item(i).arrival > s.at })
	for ; i < h.len && !b.full(); i++ {
		it := h.item(i)
		if s.filter.match(it.key) && !(it.deleted && it.arrival <= s.skipDeleted) {
			b.add(it.json)
		}
		s.at = it.arrival
	}
	s.level, s.early = false, false
	if i == h.len {
		s.at = max(s.at, h.at)
		s.level = s.at >= s.began
		s.early = !s.level
		if len(b.items) == 0 {
			err = h.err
		}
	}
	return true, err
}
