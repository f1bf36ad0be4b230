package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Document is a document as it was at one moment. It holds all its cells; the methods of crdt.Document read them.
type Document struct {
	Key    string
	Cursor Cursor // of its last change
	*crdt.Document
}

func (s *Space) document(d docstore.Stored) *Document {
	return &Document{Key: d.Key, Cursor: Cursor{s.r.feed, d.Arrival}, Document: d.Document}
}

// Get returns a document. The error is ErrNotFound if it does not exist or was deleted.
func (s *Space) Get(ctx context.Context, key string) (*Document, error) {
	if err := crdt.CheckKey(key); err != nil {
		return nil, err
	}
	var doc *Document
	err := s.view(ctx, func(snap store.Snapshot) error {
		d, ok, err := docstore.Read(snap, s.number, key)
		if err == nil && ok && d.Document.IsLive() {
			doc = s.document(d)
		}
		return err
	})
	if err == nil && doc == nil {
		err = fmt.Errorf("%w: %q in space %q", ErrNotFound, key, s.name)
	}
	return doc, err
}

// GetPath returns what shows at a path of a document, as crdt.Document.Get does: the value there, or a map of the fields below. The error is
// ErrNotFound if there is nothing. Cost: it follows what is there, and not the size of the document.
func (s *Space) GetPath(ctx context.Context, key string, path crdt.Path) (any, error) {
	if err := crdt.CheckKey(key); err != nil {
		return nil, err
	}
	p, err := path.Pack()
	if err != nil {
		return nil, err
	}
	var value any
	found := false
	err = s.view(ctx, func(snap store.Snapshot) error {
		d, ok, err := docstore.ReadPart(snap, s.number, key, p)
		if err == nil && ok {
			value, found = d.Document.Get(path)
		}
		return err
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: %s of %q in space %q", ErrNotFound, path, key, s.name)
	}
	return value, err
}

// Leaves yields what shows of a document, each path that has a value and that value, in the order of the paths, from one consistent snapshot.
// A large document is read while the loop goes on, a few kilobytes at a time; crdt.StreamLeaves says what has to be in memory. The error is
// ErrNotFound if the document does not exist. While the loop goes on the store keeps what it deletes: do not linger.
func (s *Space) Leaves(ctx context.Context, key string) iter.Seq2[crdt.Leaf, error] {
	return func(yield func(crdt.Leaf, error) bool) {
		err := crdt.CheckKey(key)
		if err == nil {
			err = s.view(ctx, func(snap store.Snapshot) error { return s.leaves(ctx, snap, key, yield) })
		}
		if err != nil {
			yield(crdt.Leaf{}, err)
		}
	}
}

func (s *Space) leaves(ctx context.Context, snap store.Snapshot, key string, yield func(crdt.Leaf, error) bool) error {
	n := 0
	for l, err := range docstore.Leaves(snap, s.number, key) {
		if n++; n%1024 == 0 && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if !yield(l, nil) {
			return nil
		}
	}
	if n == 0 {
		return fmt.Errorf("%w: %q in space %q", ErrNotFound, key, s.name)
	}
	return nil
}

func (s *Space) view(ctx context.Context, read func(store.Snapshot) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	snap, err := s.r.store.Snapshot()
	if err == nil {
		defer snap.Close()
		err = s.noteCorrupt(read(snap))
	}
	if errors.Is(err, store.ErrClosed) && s.r.ctx.Err() != nil { // the store closes with the replica
		return ErrClosed
	}
	return err
}

// Range names documents: those whose keys begin with Prefix and are greater than After, at most Limit of them.
type Range struct {
	Prefix string
	After  string
	Limit  int // 0: no limit
}

// Scan yields the documents whose keys begin with prefix, in the order of their keys, from one consistent
// snapshot. While the loop goes on, the store keeps what it deletes; do not linger.
func (s *Space) Scan(ctx context.Context, prefix string) iter.Seq2[*Document, error] {
	return s.ScanRange(ctx, Range{Prefix: prefix})
}

// ScanRange is Scan for a page of documents.
func (s *Space) ScanRange(ctx context.Context, g Range) iter.Seq2[*Document, error] {
	return func(yield func(*Document, error) bool) {
		err := s.view(ctx, func(snap store.Snapshot) error {
			n := 0
			for d, err := range docstore.Scan(snap, s.number, docstore.Range{Prefix: g.Prefix, After: g.After}) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
				if !d.Document.IsLive() {
					continue
				}
				if !yield(s.document(d), nil) {
					return nil
				}
				if n++; n == g.Limit {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

// Keys yields the keys of the documents of a range, which costs less than the documents.
func (s *Space) Keys(ctx context.Context, g Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.view(ctx, func(snap store.Snapshot) error {
			n := 0
			for key, err := range docstore.LiveKeys(snap, s.number, docstore.Range{Prefix: g.Prefix, After: g.After}) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
				if !yield(key, nil) {
					return nil
				}
				if n++; n == g.Limit {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield("", err)
		}
	}
}

// Cursor is a place in the order in which the documents of a space last changed here. It is good for the
// store that gave it; the zero Cursor is the beginning.
type Cursor struct {
	Feed    uint64 // which store's arrival numbers, and which life of it
	Arrival uint64
}

// String returns a form that ParseCursor reads.
func (c Cursor) String() string {
	if c == (Cursor{}) {
		return "0"
	}
	return fmt.Sprintf("%016x-%d", c.Feed, c.Arrival)
}

// ParseCursor reads the form that String returns; "" and "0" are the beginning.
func ParseCursor(text string) (Cursor, error) {
	if text == "" || text == "0" {
		return Cursor{}, nil
	}
	feed, arrival, ok := strings.Cut(text, "-")
	f, err1 := strconv.ParseUint(feed, 16, 64)
	n, err2 := strconv.ParseUint(arrival, 10, 64)
	if !ok || err1 != nil || err2 != nil || len(feed) != 16 {
		return Cursor{}, fmt.Errorf("%w: %.80q is not a cursor", ErrCursor, text)
	}
	return Cursor{f, n}, nil
}

// serves reports whether the feed can go on after c without leaving anything out. It cannot if a document that was deleted after c was
// forgotten since, for then nothing tells of that.
func (s *Space) serves(c Cursor) bool {
	if c.Arrival > 0 && c.Arrival < s.durableNow().floor {
		return false
	}
	if c == (Cursor{}) || c.Feed == s.r.feed {
		return c.Arrival <= s.durableNow().arrival
	}
	for _, l := range s.lives {
		if l.Feed == c.Feed {
			return c.Arrival <= l.Arrival
		}
	}
	return false
}

// Cursor returns the place after everything that is here now.
func (s *Space) Cursor() Cursor { return Cursor{s.r.feed, s.durableNow().arrival} }

// Change is one event of Watch: a document as it is now.
type Change struct {
	Cursor   Cursor // after this change
	Key      string
	Document *Document // nil: it was deleted
}

// watchBatch bounds the changes that a watcher reads at once. It holds no snapshot while its reader
// thinks, so a slow reader costs nobody else anything.
const watchBatch = 64

// Watch yields the documents that changed after the cursor, each as it is when it is read, in the order of their last
// changes; then it waits for further ones, until ctx ends (which is its last error) or the replica is closed. A document
// that changes several times while the reader is busy is yielded once.
//
// The error is ErrCursor for a cursor of another store, or of this store before a backup of it was restored; and for one since
// which deleted documents were forgotten. That comes Config.PruneDelay after all members know of the deletion, at the earliest. It waits for
// watchers that are on their way, but not for one that takes nothing for a minute: that gets ErrCursor too.
func (s *Space) Watch(ctx context.Context, since Cursor) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		f, err := s.Feed(since, nil)
		if err != nil {
			yield(Change{}, err)
			return
		}
		defer f.Close()
		f.watch(ctx, yield)
	}
}

// WatchVector is Watch for a reader that has what vv covers, by whichever node's word (Checkpoint). See FeedVector.
func (s *Space) WatchVector(ctx context.Context, vv crdt.VersionVector) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		f, err := s.FeedVector(vv, nil)
		if err != nil {
			yield(Change{}, err)
			return
		}
		defer f.Close()
		f.watch(ctx, yield)
	}
}

// watch yields what changes until there is an error, or the reader has enough.
func (f *Feed) watch(ctx context.Context, yield func(Change, error) bool) {
	for {
		changes, err := f.batch(ctx)
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
		if err == nil && f.level {
			err = f.Wait(ctx)
		}
		if err != nil {
			yield(Change{}, err)
			return
		}
	}
}

// Checkpoint returns a place in the feed, and the vector that a reader has who has read the feed up to there, for FeedVector at
// any other node. It reports false while there is none: the replica takes a snapshot, or shows parts of transactions that have not arrived.
func (s *Space) Checkpoint() (Cursor, crdt.VersionVector, bool) {
	d := s.durableNow()
	return Cursor{s.r.feed, d.arrival}, d.VV.Clone(), d.Closed && !d.Rejoining
}

// batch reads at most watchBatch changes.
func (f *Feed) batch(ctx context.Context) (changes []Change, err error) {
	for c, err := range f.Read(ctx) {
		if err != nil {
			return changes, err
		}
		if changes = append(changes, c); len(changes) == watchBatch {
			break
		}
	}
	return changes, nil
}
