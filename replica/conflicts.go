package replica

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ConflictCount returns the number of conflicts in all documents of the space, and of the documents that have any. It reads
// nothing.
func (s *Space) ConflictCount() (conflicts, documents int64) {
	d := s.durableNow()
	return d.conflicts, d.conflicted
}

// Conflicted is a document that has conflicts.
type Conflicted struct {
	Key       string
	Conflicts int64 // in WatchConflicts zero: all are settled, or the document was deleted
}

// ConflictDocs yields the documents of a range that have conflicts, in the order of their keys, from one snapshot. Cost: that of
// what is yielded, however large the space is.
func (s *Space) ConflictDocs(ctx context.Context, g Range) iter.Seq2[Conflicted, error] {
	return func(yield func(Conflicted, error) bool) {
		err := s.view(ctx, func(snap store.Snapshot) error {
			n := 0
			for c, err := range docstore.ConflictedDocuments(snap, s.number, docstore.Range{Prefix: g.Prefix, After: g.After}) {
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					return err
				}
				if !yield(Conflicted(c), nil) {
					return nil
				}
				if n++; n == g.Limit {
					return nil
				}
			}
			return nil
		})
		if err != nil {
			yield(Conflicted{}, err)
		}
	}
}

// WatchConflicts yields the documents that have conflicts, in the order of their keys, and then each whose number of conflicts
// changes, zero included, until ctx ends (which is its last error) or the replica is closed. Like Watch it holds no snapshot while
// its reader thinks. It remembers the keys of the documents that have conflicts, so its memory grows with their number.
func (s *Space) WatchConflicts(ctx context.Context) iter.Seq2[Conflicted, error] {
	return func(yield func(Conflicted, error) bool) {
		w := &conflictWatch{space: s, told: make(map[string]int64), yield: yield}
		for {
			since := s.Cursor()
			going, err := w.list(ctx)
			if err == nil && going {
				going, err = w.follow(ctx, since)
			}
			switch {
			case !going:
				return
			case errors.Is(err, ErrCursor): // the reader was slow, and what was deleted meanwhile is forgotten: look again
			case err != nil:
				yield(Conflicted{}, err)
				return
			}
		}
	}
}

// conflictWatch is one reader of WatchConflicts, and what it was told. Its methods report false once the reader has had enough.
type conflictWatch struct {
	space *Space
	told  map[string]int64
	yield func(Conflicted, error) bool
}

func (w *conflictWatch) tell(c Conflicted) bool {
	if w.told[c.Key] == c.Conflicts {
		return true
	}
	if c.Conflicts == 0 {
		delete(w.told, c.Key)
	} else {
		w.told[c.Key] = c.Conflicts
	}
	return w.yield(c, nil)
}

// list tells what there is now, and what has gone of that which was told.
func (w *conflictWatch) list(ctx context.Context) (going bool, err error) {
	before := maps.Clone(w.told)
	for page := (Range{Limit: watchBatch}); ; {
		docs, err := w.space.conflictPage(ctx, page)
		if err != nil {
			return true, err
		}
		for _, c := range docs {
			delete(before, c.Key)
			if !w.tell(c) {
				return false, nil
			}
			page.After = c.Key
		}
		if len(docs) < watchBatch {
			break
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if !w.tell(Conflicted{Key: key}) {
			return false, nil
		}
	}
	return true, nil
}

// follow tells what changes. It ends with an error, or with the reader.
func (w *conflictWatch) follow(ctx context.Context, since Cursor) (going bool, err error) {
	for c, err := range w.space.Watch(ctx, since) {
		if err != nil {
			return true, err
		}
		now := Conflicted{Key: c.Key}
		if c.Document != nil {
			now.Conflicts = int64(c.Document.ConflictCount())
		}
		if !w.tell(now) {
			return false, nil
		}
	}
	return false, nil
}

func (s *Space) conflictPage(ctx context.Context, g Range) (docs []Conflicted, err error) {
	for c, err := range s.ConflictDocs(ctx, g) {
		if err != nil {
			return nil, err
		}
		docs = append(docs, c)
	}
	return docs, nil
}

// Settle asks the rule about each conflict at path p and below, and does what it says. It returns the number of conflicts that are settled.
// One that arrives meanwhile stays. Cost: reading the whole document.
func (d *TxDoc) Settle(p crdt.Path, rule crdt.Rule) (settled int, err error) {
	settled, _, err = d.settle(p, rule, 0)
	return settled, err
}

func (d *TxDoc) settle(p crdt.Path, rule crdt.Rule, limit int) (settled int, more bool, err error) {
	err = d.tx.do("settle the conflicts of", d.key, func() error {
		at, err := p.Pack()
		if err == nil {
			settled, more, err = d.tx.t.Settle(d.key, at, rule, limit)
		}
		return err
	})
	return settled, more, err
}

// SettleOptions say which conflicts SettleAll settles, and how.
type SettleOptions struct {
	Rule   crdt.Rule // nil: what shows stays (last write wins)
	Prefix string    // of the documents' keys
	After  string    // only documents with greater keys: where an earlier run ended
	// Progress, if not nil, is called after each transaction.
	Progress func(SettleProgress)
}

// SettleProgress tells how far SettleAll is.
type SettleProgress struct {
	Documents int64  // looked at
	Settled   int64  // conflicts
	Left      int64  // conflicts of these documents that the rule left open, or that came meanwhile
	After     string // the last document
}

// settleDocuments and settleContests bound one transaction of SettleAll: others wait while it runs.
const (
	settleDocuments = 64
	settleContests  = 512
)

// SettleAll settles the conflicts of all documents of a range by a rule, in transactions of at most 64 documents. An error, or the end
// of ctx, leaves what was done so far: what it returned says where to go on. Documents that get conflicts while it runs may be left out.
func (s *Space) SettleAll(ctx context.Context, o SettleOptions) (SettleProgress, error) {
	if o.Rule == nil {
		o.Rule = func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }
	}
	done := SettleProgress{After: o.After}
	limit := settleDocuments
	for {
		docs, err := s.conflictPage(ctx, Range{Prefix: o.Prefix, After: done.After, Limit: limit})
		if err != nil || len(docs) == 0 {
			return done, err
		}
		next, err := s.settlePage(ctx, docs, o.Rule, done)
		switch {
		case errors.Is(err, crdt.ErrLimit) && len(docs) > 1:
			limit = (len(docs) + 1) / 2 // together they are too large for one transaction
			continue
		case err != nil:
			return done, fmt.Errorf("settle the conflicts of the documents after %.80q: %w", done.After, err)
		}
		done, limit = next, settleDocuments
		if o.Progress != nil {
			o.Progress(done)
		}
	}
}

// settlePage settles the conflicts of some documents in one transaction, or, of a document with very many, in several.
func (s *Space) settlePage(ctx context.Context, docs []Conflicted, rule crdt.Rule, done SettleProgress) (SettleProgress, error) {
	for contests := settleContests; ; {
		settled, left, more := int64(0), int64(0), false
		_, err := s.Update(ctx, func(tx *Tx) error {
			for _, c := range docs {
				doc := tx.Doc(c.Key)
				n, cut, err := doc.settle(crdt.Path{}, rule, contests)
				if err != nil {
					return err
				}
				settled += int64(n)
				more = more || cut
				rest, err := doc.Conflicts(crdt.Path{})
				if err != nil {
					return err
				}
				left += int64(len(rest))
			}
			return nil
		})
		if errors.Is(err, crdt.ErrLimit) && len(docs) == 1 && contests > 1 {
			contests /= 2
			continue
		}
		if err != nil {
			return done, err
		}
		done.Settled += settled
		if !more {
			done.Left += left
			break
		}
	}
	done.Documents += int64(len(docs))
	done.After = docs[len(docs)-1].Key
	return done, nil
}
