package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// Bounds of one message of changes: large enough to be cheap, small enough for a page to stay responsive while it takes one.
const (
	maxBatchItems = 500
	maxBatchBytes = 256 << 10
)

// vectorEvery is how often at most a subscription is told a portable cursor, which may be long.
const vectorEvery = 30 * time.Second

// batch is what a subscription has to say at one time.
type batch struct {
	reset  string // not empty: begin anew, and why
	items  [][]byte
	bytes  int
	most   int // items that it may hold
	cursor replica.Cursor
	of     *progress
	level  bool   // worth telling: everything up to cursor was sent
	vector string // the same as a portable cursor; "" if it is not wanted now
}

// progress says how far catching up is: documents that were passed, of those that are known to lie ahead.
type progress struct {
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
}

func (b *batch) full() bool { return len(b.items) >= b.most || b.bytes >= maxBatchBytes }

func (b *batch) add(item []byte) {
	b.items = append(b.items, item)
	b.bytes += len(item)
}

func (b *batch) empty() bool { return b.reset == "" && len(b.items) == 0 && !b.level }

// subscription is one reader of a part of a space, at its own pace. All but wake, and what is marked, belongs to the goroutine that calls next.
type subscription struct {
	g      *Gateway
	h      *hub
	filter filter
	wake   func() // says that next may have something; called by others, must not block

	at    uint64 // everything up to here was taken; guarded by h.mu, like the next three
	told  uint64 // the reader knows that
	woken bool
	early bool // it has taken all that the hub has, which is not yet what was here when it began

	feed        *replica.Feed // from which it is read while it lags
	total       int64         // documents that the feed had ahead
	skipDeleted uint64        // deletions up to here are of no interest: the reader begins with nothing
	vector      *crdt.VersionVector
	began       uint64 // what was here then: it is not level before it has that
	level       bool   // it is
	wasLevel    bool   // and the reader was told, since it last was not
	toldAt      time.Time
	reset       string

	checkpoints bool
	vectorAt    time.Time
}

// subscribe begins a subscription after the cursor, or, if that cannot be served, after the vector; and if neither can, from the beginning, with
// a reset. Call close at the end.
func (g *Gateway) subscribe(space *replica.Space, f filter, since replica.Cursor, vector *crdt.VersionVector, wake func()) (*subscription, error) {
	s := &subscription{g: g, filter: f, wake: wake, vector: vector}
	h, err := g.follow(space, s)
	if err != nil {
		return nil, err
	}
	s.h, s.began = h, space.Cursor().Arrival
	if err := s.begin(since); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *subscription) close() {
	s.endFeed()
	s.h.leave(s)
}

func (s *subscription) endFeed() {
	if s.feed != nil {
		s.feed.Close()
		s.feed = nil
	}
}

// begin places the subscription at a cursor.
func (s *subscription) begin(since replica.Cursor) error {
	zero := since == replica.Cursor{}
	if zero && s.vector == nil {
		s.fromBeginning()
		return nil
	}
	if since.Feed == s.h.life && s.h.covers(since.Arrival) && since.Arrival <= s.h.space.Cursor().Arrival {
		s.moveTo(since.Arrival) // whatever the store has forgotten since, the ring has it
		return nil
	}
	if !zero {
		feed, err := s.h.space.Feed(since, s.matcher())
		if err == nil {
			s.feed = feed
			s.moveTo(since.Arrival)
			return nil
		}
		if !errors.Is(err, replica.ErrCursor) {
			return err
		}
	}
	return s.startOver("the cursor cannot be served here, or any more")
}

// startOver goes on from the portable cursor if there is one that serves, and else from the beginning.
func (s *subscription) startOver(why string) error {
	s.endFeed()
	if vv := s.vector; vv != nil {
		s.vector = nil // once: where it is read from then on is a cursor of its own
		feed, err := s.h.space.FeedVector(*vv, s.matcher())
		if err == nil {
			s.feed = feed
			s.moveTo(0)
			return nil
		}
		if !errors.Is(err, replica.ErrCursor) {
			return err
		}
		why = "neither the cursor nor the vector can be served here, or any more"
	}
	s.reset = why
	s.fromBeginning()
	return nil
}

// followAnew is for a hub that ended: if it was because the node had been behind some of its readers, and cannot tell what they have too much, the
// reader begins anew.
func (s *subscription) followAnew(why error) error {
	if !errors.Is(why, replica.ErrCursor) {
		return why
	}
	h, err := s.g.follow(s.h.space, s)
	if err != nil {
		return err
	}
	s.h.leave(s)
	s.h, s.began = h, h.space.Cursor().Arrival
	return s.startOver(why.Error())
}

func (s *subscription) fromBeginning() {
	// What is deleted by now the reader cannot have got since it began; what is deleted from now on it may have.
	s.skipDeleted = s.h.space.Cursor().Arrival
	s.moveTo(0)
}

func (s *subscription) moveTo(arrival uint64) {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.at, s.told = arrival, arrival
	s.level, s.wasLevel = false, false
}

func (s *subscription) matcher() func(string) bool {
	if s.filter.all() {
		return nil
	}
	return s.filter.match
}

// next returns what there is to say now, without waiting for more; an empty batch says that wake will be called. At most so many
// items are in it. After an error the subscription is over.
func (s *subscription) next(ctx context.Context, most int) (batch, error) {
	b := batch{most: min(most, maxBatchItems)}
	for {
		if s.feed != nil || !s.h.covers(s.at) {
			if err := s.catchUp(ctx, &b); err != nil {
				return b, err
			}
			if b.full() {
				break
			}
			if s.feed != nil {
				continue // the ring has run away meanwhile
			}
		}
		ok, err := s.h.take(s, &b)
		if err != nil {
			if err = s.followAnew(err); err != nil {
				return b, err
			}
			continue
		}
		if ok {
			break
		}
	}
	s.finish(&b)
	return b, nil
}

// catchUp reads from the store, and leaves that to the ring once it can. The ring takes over where the feed is; what the two have in common
// comes once.
func (s *subscription) catchUp(ctx context.Context, b *batch) error {
	if b.reset == "" {
		b.reset, s.reset = s.reset, ""
	}
	if err := s.openFeed(ctx); err != nil {
		return s.catchUpAnew(b, err)
	}
	select {
	case s.g.readers <- struct{}{}: // a few at a time, so that many that come back at once do not take all memory
		defer func() { <-s.g.readers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for c, err := range s.feed.Read(ctx) {
		if err != nil {
			return s.catchUpAnew(b, err)
		}
		if c.Document == nil && c.Cursor.Arrival <= s.skipDeleted {
			continue
		}
		if b.add(appendItem(nil, c)); b.full() {
			break
		}
	}
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.at, s.level, s.wasLevel = s.feed.Cursor().Arrival, false, false
	if done := s.feed.Passed(); len(b.items) > 0 {
		b.of = &progress{Done: done, Total: max(s.total, done)}
	}
	if s.at >= s.h.start {
		s.endFeed()
	}
	return nil
}

// catchUpAnew is for a feed that broke off: if the store has forgotten what comes next, the reader begins anew.
func (s *subscription) catchUpAnew(b *batch, err error) error {
	b.items, b.bytes = nil, 0 // they come again
	if errors.Is(err, replica.ErrCursor) {
		return s.startOver("what was deleted meanwhile was forgotten before it was read")
	}
	return err
}

func (s *subscription) openFeed(ctx context.Context) (err error) {
	if s.feed == nil {
		s.h.mu.Lock()
		at := replica.Cursor{Feed: s.h.life, Arrival: s.at}
		s.h.mu.Unlock()
		if at.Arrival == 0 {
			at = replica.Cursor{}
		}
		if s.feed, err = s.h.space.Feed(at, s.matcher()); err != nil {
			return err
		}
		s.total = 0
	}
	if s.total > 0 {
		return nil
	}
	n, err := s.feed.Ahead(ctx, replica.MaxCounted)
	if n == replica.MaxCounted {
		n = max(n, s.h.space.Summary().Documents)
	}
	s.total = n
	return err
}

// finish says where the reader is after the batch.
func (s *subscription) finish(b *batch) {
	if b.reset == "" {
		b.reset, s.reset = s.reset, ""
	}
	now := s.g.cfg.Now()
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	b.cursor = replica.Cursor{Feed: s.h.life, Arrival: s.at}
	if b.cursor.Arrival == 0 {
		b.cursor = replica.Cursor{}
	}
	vector := ""
	if s.level && s.checkpoints && (s.vectorAt.IsZero() || now.Sub(s.vectorAt).Abs() >= vectorEvery) {
		vector = s.portable()
	}
	switch {
	case s.level && !s.wasLevel, vector != "":
		b.level = true
	case s.level && len(b.items) == 0 && s.told < s.at:
		if b.level = now.Sub(s.toldAt).Abs() >= levelDelay; !b.level {
			s.h.expectStale()
		}
	}
	if b.level {
		s.wasLevel, s.toldAt = true, now
		if b.vector = vector; vector != "" {
			s.vectorAt = now
		}
	}
	if b.level || len(b.items) > 0 {
		s.told = s.at
	}
}

// portable returns a vector of which the reader has everything; "" if there is none at the moment. It is called with h.mu held.
func (s *subscription) portable() string {
	at, vv, ok := s.h.space.Checkpoint()
	if !ok || at.Arrival > s.at {
		return ""
	}
	return formatVector(vv)
}
