package docstore

import (
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Stored is a whole document as it is stored.
type Stored struct {
	Key      string
	Arrival  uint64 // its place in the feed
	Document *crdt.Document
}

// Read returns a whole document; ok is false if nothing is stored under the key. A document that was deleted is
// stored for as long as its tombstones are: ask Document.IsLive.
func Read(r Reader, space uint32, key string) (doc Stored, ok bool, err error) {
	d, err := (&Space{number: space}).open(r, key)
	if err != nil || !d.found {
		return Stored{}, false, err
	}
	return d.whole()
}

func (d *openDoc) whole() (Stored, bool, error) {
	if err := d.loadAll(); err != nil {
		return Stored{}, false, err
	}
	return Stored{d.key, d.arrival, d.doc}, true, nil
}

// ReadPart returns of a document what decides what shows at p and below: at least the cells there, and those above. ok is false if nothing is stored
// under the key. Cost: it follows what lies at p and below, and not the size of the document, unless a value was written concurrently with
// a map that holds p.
func ReadPart(r Reader, space uint32, key string, p crdt.PathKey) (doc Stored, ok bool, err error) {
	d, err := (&Space{number: space}).open(r, key)
	if err == nil && d.found {
		err = d.loadView(p)
	}
	if err != nil || !d.found {
		return Stored{}, false, err
	}
	return Stored{d.key, d.arrival, d.doc}, true, nil
}

// Leaves yields what shows of a document, in the order of the paths, and nothing if nothing is stored under the key. The chunks of a large one are
// read as the loop comes to them: see crdt.StreamLeaves.
func Leaves(r Reader, space uint32, key string) iter.Seq2[crdt.Leaf, error] {
	return crdt.StreamLeaves(func(yield func(crdt.Field, error) bool) {
		d, err := (&Space{number: space}).open(r, key)
		if err != nil {
			yield(crdt.Field{}, err)
			return
		}
		for i := range d.parts {
			var fields iter.Seq[crdt.Field]
			if fields, err = d.streamPart(i); err != nil {
				yield(crdt.Field{}, err)
				return
			}
			for f := range fields {
				if !yield(f, nil) {
					return
				}
			}
		}
	})
}

// streamPart reads one part of a document, and does not keep it.
func (d *openDoc) streamPart(i int) (iter.Seq[crdt.Field], error) {
	if d.parts[i].isLoaded() {
		return d.doc.Fields(), nil
	}
	fields, _, err := d.readPart(i)
	return slices.Values(fields), err
}

// Exists reports whether the document has a live entry. Cost: one read, however large the document is.
func Exists(r Reader, space uint32, key string) (bool, error) {
	d, err := (&Space{number: space}).open(r, key)
	return err == nil && d.live > 0, err
}

// Range names the documents with Prefix whose keys are greater than After.
type Range struct {
	Prefix string
	After  string
}

// bounds are those of the keys of one kind that end with the document's key.
func (g Range) bounds(kind byte, space uint32) (start, end []byte) {
	prefix := append(spaceKey(kind, space, len(g.Prefix)), g.Prefix...)
	start = prefix
	if g.After >= g.Prefix && g.After != "" {
		start = append(append(spaceKey(kind, space, len(g.After)+1), g.After...), 0)
	}
	return start, after(prefix)
}

// Scan yields the documents of a range in the order of their keys, deleted ones included.
func Scan(r store.Snapshot, space uint32, g Range) iter.Seq2[Stored, error] {
	return func(yield func(Stored, error) bool) {
		for d, err := range openAll(r, space, g) {
			if err != nil {
				yield(Stored{}, err)
				return
			}
			doc, _, err := d.whole()
			if !yield(doc, err) || err != nil {
				return
			}
		}
	}
}

// LiveKeys yields the keys of the documents of a range that have a live entry.
func LiveKeys(r store.Snapshot, space uint32, g Range) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for d, err := range openAll(r, space, g) {
			if err != nil {
				yield("", err)
				return
			}
			if d.live > 0 && !yield(d.key, nil) {
				return
			}
		}
	}
}

// openAll opens the documents of a range; the chunks of large ones are not loaded.
func openAll(r store.Snapshot, space uint32, g Range) iter.Seq2[*openDoc, error] {
	s := &Space{number: space}
	return func(yield func(*openDoc, error) bool) {
		start, end := g.bounds(kindDocument, space)
		for e, err := range r.Scan(start, end) {
			if err != nil {
				yield(nil, fmt.Errorf("scan the documents: %w", err))
				return
			}
			d, err := s.openRecord(r, string(e.Key[5:]), e.Key, e.Value)
			if !yield(d, err) || err != nil {
				return
			}
		}
	}
}

// FeedEntry says that a document changed, and as which arrival.
type FeedEntry struct {
	Arrival uint64
	Key     string
}

// Feed yields the documents that changed after the given arrival, each once, in the order of their last
// changes.
func Feed(r store.Snapshot, space uint32, since uint64) iter.Seq2[FeedEntry, error] {
	return func(yield func(FeedEntry, error) bool) {
		if since+1 == 0 {
			return
		}
		for e, err := range r.Scan(feedKey(space, since+1), after(spaceKey(kindFeed, space, 0))) {
			if err != nil {
				yield(FeedEntry{}, fmt.Errorf("read the feed: %w", err))
				return
			}
			if len(e.Key) != 13 {
				yield(FeedEntry{}, fmt.Errorf("%w: feed key %q", ErrCorrupt, e.Key))
				return
			}
			if !yield(FeedEntry{binary.BigEndian.Uint64(e.Key[5:]), string(e.Value)}, nil) {
				return
			}
		}
	}
}

// Floors returns Space.Floor as a snapshot has it, and Space.Breach.
func Floors(r store.Snapshot, space uint32) (floor, breach uint64, err error) {
	s := &Space{number: space}
	err = s.loadMeta(r)
	return s.floor, s.breach, err
}

// Newest returns Space.Arrival as a snapshot has it.
func Newest(r store.Snapshot, space uint32) (uint64, error) {
	s := &Space{number: space}
	err := s.loadMeta(r)
	return s.arrival, err
}

// Unnamed returns a vector of all dots whose effects may show in a snapshot although no cell names them: those that are stable, and
// what a snapshot of a peer has brought, or brings, which may be pruned there. Cost: linear in the vector.
func Unnamed(r store.Snapshot, space uint32) (crdt.VersionVector, error) {
	s := &Space{number: space, openAt: make(openEntries)}
	err := s.loadVectors(r)
	if err != nil {
		return s.stable, err
	}
	hidden, err := hiddenIn(r, space)
	s.stable.Join(hidden)
	return s.stable, err
}

// Beyond returns the arrivals, in order, of the documents that refer to a dot which vv does not cover, found by the log. It needs a vector that
// covers Unnamed. whole is false if there are more than limit; then arrivals is nil. Cost: that of the entries of the log beyond vv, and
// a read for each document.
func Beyond(r store.Snapshot, space uint32, vv crdt.VersionVector, limit int) (arrivals []uint64, whole bool, err error) {
	s := &Space{number: space, openAt: make(openEntries)}
	if err := s.loadVectors(r); err != nil {
		return nil, false, err
	}
	keys := make(map[string]struct{})
	for end := range s.horizon.All() {
		if vv.Covers(end) {
			continue
		}
		for k, err := range r.Keys(logPrefix(space, end.Replica, vv.Get(end.Replica)+1), after(logPrefix(space, end.Replica, end.Time))) {
			if err != nil {
				return nil, false, fmt.Errorf("read the log of %s: %w", end.Replica, err)
			}
			p, err := parseLogKey(k)
			if err != nil {
				return nil, false, err
			}
			if keys[p.key] = struct{}{}; len(keys) > limit {
				return nil, false, nil
			}
		}
	}
	arrivals = make([]uint64, 0, len(keys))
	for _, key := range slices.Sorted(maps.Keys(keys)) { // in this order reading is fastest
		d, err := s.open(r, key)
		if err != nil {
			return nil, false, err
		}
		if d.found {
			arrivals = append(arrivals, d.arrival)
		}
	}
	slices.Sort(arrivals)
	return arrivals, true, nil
}

// FeedAt returns the entry of the feed with the arrival; ok is false if the document has changed since.
func FeedAt(r Reader, space uint32, arrival uint64) (e FeedEntry, ok bool, err error) {
	key, ok, err := r.Get(feedKey(space, arrival))
	return FeedEntry{arrival, string(key)}, ok, err
}

// CountLog counts the log entries of one replica in (from, to], at most limit of them.
func CountLog(r store.Snapshot, space uint32, from, to crdt.Dot, limit int64) (int64, error) {
	n := int64(0)
	for _, err := range r.Keys(logPrefix(space, from.Replica, from.Time+1), after(logPrefix(space, to.Replica, to.Time))) {
		if err != nil {
			return n, fmt.Errorf("count the log: %w", err)
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}
