package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Feed reads the changes of a space at its caller's pace, who is told when nothing is left; Watch is a loop over one. It is for one
// goroutine. While it is open, and taken from, what it has not come to is not forgotten.
type Feed struct {
	s      *Space
	w      *watcher
	at     uint64
	passed int64
	level  bool
	match  func(key string) bool // nil: all
	has    *crdt.VersionVector   // what the reader has; nil once all that this covers was passed
	lacks  []uint64              // of what was here at upTo, the arrivals after at that the reader does not have
	upTo   uint64                // the newest arrival when lacks was made; 0 if it was not
}

// maxLacked bounds the documents for which FeedVector keeps a number each. A reader that lacks more reads the whole feed.
const maxLacked = 100_000

// Feed opens a feed after the cursor. If match is not nil, documents for whose keys it returns false are passed over, without
// being read. The error is that of Watch. Close it.
func (s *Space) Feed(since Cursor, match func(key string) bool) (*Feed, error) {
	if !s.serves(since) {
		return nil, fmt.Errorf("%w: %s is not of this store, or documents that were deleted since are forgotten", ErrCursor, since)
	}
	f := &Feed{s: s, w: s.beginWatch(since.Arrival), at: since.Arrival, match: match}
	s.r.meter.watchers.Add(1)
	return f, nil
}

// FeedVector is Feed for a reader that has what vv covers, by whichever node's word: it passes over, until it is level for the first time, the
// documents that hold nothing beyond vv. These cost nothing, as long as the reader lacks at most 100,000 others. Its cursors are those of
// Feed. If the reader has more than this replica, and that is brought up by a snapshot later, all who read the feed get ErrCursor then, for
// it cannot tell them what was deleted meanwhile. The error, also of Read, is ErrCursor if something beyond vv may be forgotten here already: that comes Config.PruneDelay after
// all members had it.
func (s *Space) FeedVector(vv crdt.VersionVector, match func(key string) bool) (*Feed, error) {
	f, err := s.Feed(Cursor{}, match)
	if err != nil {
		return nil, err
	}
	vv = vv.Clone()
	f.has = &vv
	if err := s.noteReader(vv); err != nil {
		f.Close()
		return nil, err
	}
	if err := s.view(context.Background(), f.beginVector); err != nil { // after Feed has begun to hold back what is to be forgotten
		f.Close()
		return nil, err
	}
	return f, nil
}

// noteReader returns when it is durable that somebody who has more than this replica reads here.
func (s *Space) noteReader(vv crdt.VersionVector) error {
	if vv.LessOrEqual(s.durableNow().VV) {
		return nil
	}
	r := s.r
	r.mu.Lock()
	err := r.waitForRoom()
	if err == nil {
		err = s.checkHere()
	}
	if err != nil {
		r.mu.Unlock()
		return err
	}
	if s.state.NoteReader(vv) {
		r.group.part(s)
	}
	groups := s.pending() // it may have been noted for another reader just now
	r.mu.Unlock()
	r.poke()
	for _, g := range groups {
		if err := g.wait(); err != nil {
			return err
		}
	}
	return nil
}

// beginVector finds what the reader lacks.
func (f *Feed) beginVector(snap store.Snapshot) error {
	if err := f.checkVector(snap); err != nil {
		return err
	}
	newest, err := docstore.Newest(snap, f.s.number)
	if err != nil {
		return err
	}
	lacks, whole, err := docstore.Beyond(snap, f.s.number, *f.has, maxLacked)
	if whole {
		f.lacks, f.upTo = lacks, newest
	}
	return err
}

// checkVector reports whether something that the reader lacks may have been pruned. Stable does not rise while a feed is on its way, but for
// one that takes nothing for long.
func (f *Feed) checkVector(snap store.Snapshot) error {
	if f.has == nil {
		return nil
	}
	unnamed, err := docstore.Unnamed(snap, f.s.number)
	if err == nil && (!unnamed.LessOrEqual(*f.has) || f.s.durableNow().Rejoining) {
		err = fmt.Errorf("%w: what the vector lacks may be forgotten here already", ErrCursor)
	}
	return err
}

// isNew reports whether the document holds anything that the reader does not have.
func (f *Feed) isNew(d *crdt.Document) bool { return f.has == nil || !d.IsCovered(*f.has) }

// Close ends the feed.
func (f *Feed) Close() {
	f.s.endWatch(f.w)
	f.s.r.meter.watchers.Add(-1)
}

// Cursor is the place up to which the feed was read.
func (f *Feed) Cursor() Cursor { return Cursor{f.s.r.feed, f.at} }

// Passed is the number of documents that were read or passed over so far.
func (f *Feed) Passed() int64 { return f.passed }

// Level reports whether the last Read came to the end.
func (f *Feed) Level() bool { return f.level }

// Ahead counts the documents that changed after Cursor, up to limit.
func (f *Feed) Ahead(ctx context.Context, limit int64) (n int64, err error) {
	err = f.s.view(ctx, func(snap store.Snapshot) error {
		for _, err := range f.entries(snap) {
			if n++; err != nil || n == limit {
				return err
			}
		}
		return nil
	})
	return n, err
}

// Read yields the documents that changed after Cursor, in the order of their last changes, each as it is in one snapshot, until
// none is left. The loop may be left before; the next Read goes on there. While it runs the store keeps what it deletes: do not
// linger in it.
func (f *Feed) Read(ctx context.Context) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		newest := f.s.durableNow().arrival
		f.s.moveWatch(f.w, f.at)
		f.level = false
		left := false
		err := f.s.view(ctx, func(snap store.Snapshot) (err error) {
			left, err = f.read(ctx, snap, yield)
			return err
		})
		switch {
		case left:
		case err != nil:
			yield(Change{}, err)
		default:
			f.at = max(f.at, newest)
			f.level, f.has, f.lacks = true, nil, nil
		}
	}
}

// read reports whether the reader has left the loop.
func (f *Feed) read(ctx context.Context, snap store.Snapshot, yield func(Change, error) bool) (left bool, err error) {
	if err := errors.Join(f.w.check(snap, f.s, f.at), f.checkVector(snap)); err != nil {
		return false, err
	}
	for e, err := range f.entries(snap) {
		if err == nil && f.passed%1024 == 1023 {
			err = ctx.Err()
		}
		if err != nil {
			return false, err
		}
		c, wanted, err := f.change(snap, e)
		if err != nil {
			return false, err
		}
		f.at = e.Arrival
		f.passed++
		if wanted && !yield(c, nil) {
			return true, nil
		}
	}
	return false, nil
}

// entries yields the entries of the feed after f.at, as far as the reader may lack them.
func (f *Feed) entries(snap store.Snapshot) iter.Seq2[docstore.FeedEntry, error] {
	return func(yield func(docstore.FeedEntry, error) bool) {
		first, _ := slices.BinarySearch(f.lacks, f.at+1)
		for _, arrival := range f.lacks[first:] {
			e, ok, err := docstore.FeedAt(snap, f.s.number, arrival)
			if err == nil && !ok {
				continue // it comes later: it has changed since
			}
			if !yield(e, err) {
				return
			}
		}
		for e, err := range docstore.Feed(snap, f.s.number, max(f.at, f.upTo)) {
			if !yield(e, err) {
				return
			}
		}
	}
}

// change returns what there is to tell of an entry; wanted is false if the reader does not ask for it.
func (f *Feed) change(snap store.Snapshot, e docstore.FeedEntry) (c Change, wanted bool, err error) {
	if f.match != nil && !f.match(e.Key) {
		return Change{}, false, nil
	}
	d, ok, err := docstore.Read(snap, f.s.number, e.Key)
	if err != nil || ok && !f.isNew(d.Document) {
		return Change{}, false, err
	}
	c = Change{Cursor: Cursor{f.s.r.feed, e.Arrival}, Key: e.Key}
	if ok && d.Document.IsLive() {
		c.Document = f.s.document(d)
	}
	return c, true, nil
}

// Wait returns when there is something after Cursor. What was read until then counts as taken. The error is that of ctx, ErrRemoved, or
// ErrClosed.
func (f *Feed) Wait(ctx context.Context) error {
	f.s.moveWatch(f.w, f.at)
	for {
		f.s.mu.Lock()
		changed, newest := f.s.changed, f.s.durable.arrival
		f.s.mu.Unlock()
		if newest > f.at {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.removed:
			return ErrRemoved
		case <-f.s.r.ctx.Done():
			return ErrClosed
		}
	}
}

// FeedID names the present life of the store: it is Cursor.Feed of the cursors of all spaces. A store that was restored from a backup has
// another.
func (r *Replica) FeedID() uint64 { return r.feed }

// StoreID names the store, 16 hex digits drawn when it was made. Other than FeedID it stays the same when the process is killed, or the
// machine: what was committed is still there then. A store that `restore` made of a backup has another; a copy of the files has the same.
func (r *Replica) StoreID() string {
	if s, ok := r.store.(interface{ Info() badgerstore.Info }); ok {
		return s.Info().ID[:16]
	}
	return fmt.Sprintf("%016x", r.feed) // a store in memory lives as long as this
}
