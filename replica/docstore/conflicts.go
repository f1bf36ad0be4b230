package docstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// The conflict index has an entry for each document that has conflicts, and no other: its key, and their number. It is a
// function of the documents, as the log is. Writing a document of which nothing was written concurrently neither
// reads nor writes it.

func conflictKey(space uint32, key string) []byte {
	return append(spaceKey(kindConflicts, space, len(key)), key...)
}

func packConflicts(key []byte, n int64) []byte {
	return seal(key, binary.AppendUvarint(make([]byte, 4, 4+binary.MaxVarintLen64), uint64(n)))
}

func parseConflicts(key, value []byte) (int64, error) {
	b, err := unseal(key, value)
	if err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(b)
	if size <= 0 || size != len(b) || n == 0 || int64(n) < 0 {
		return 0, fmt.Errorf("%w: %q is no number of conflicts", ErrCorrupt, key)
	}
	return int64(n), nil
}

// ConflictsOf returns the number of conflicts of a document as the index has it. Cost: one read.
func ConflictsOf(r Reader, space uint32, document string) (int64, error) {
	key := conflictKey(space, document)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return 0, err
	}
	return parseConflicts(key, value)
}

// Conflicted is a document that has conflicts.
type Conflicted struct {
	Key       string
	Conflicts int64
}

// ConflictedDocuments yields the documents of a range that have conflicts, in the order of their keys.
func ConflictedDocuments(r store.Snapshot, space uint32, g Range) iter.Seq2[Conflicted, error] {
	return func(yield func(Conflicted, error) bool) {
		start, end := g.bounds(kindConflicts, space)
		for e, err := range r.Scan(start, end) {
			if err != nil {
				yield(Conflicted{}, fmt.Errorf("scan the conflict index: %w", err))
				return
			}
			n, err := parseConflicts(e.Key, e.Value)
			if !yield(Conflicted{string(e.Key[5:]), n}, err) || err != nil {
				return
			}
		}
	}
}

// conflictCount is how many conflicts a document had before some operations, and has.
type conflictCount struct {
	before, after int64
}

// add brings the counters of the space up to date.
func (c conflictCount) add(s *Space) {
	s.conflicts += c.after - c.before
	s.conflicted += min(c.after, 1) - min(c.before, 1)
}

// writeConflicts works out by how much the operations change the number of conflicts, and writes the new one if they do.
func (o *outcome) writeConflicts() error {
	d := o.doc
	if err := d.loadCompeting(); err != nil {
		return err
	}
	change := int64(d.doc.ConflictChange())
	if change == 0 {
		return nil
	}
	before, err := ConflictsOf(d.from, d.space.number, d.key)
	if err != nil {
		return fmt.Errorf("read the number of conflicts of document %q: %w", d.key, err)
	}
	o.setConflicts(conflictCount{before, max(0, before+change)}) // below zero the index was wrong, which Verify tells
	return nil
}

func (o *outcome) setConflicts(c conflictCount) {
	o.contest = c
	key := conflictKey(o.doc.space.number, o.doc.key)
	if c.after > 0 {
		o.put(key, packConflicts(key, c.after))
	} else {
		o.delete(key)
	}
}

// loadCompeting loads all that competes with what the operations changed; most often that is nothing.
func (d *openDoc) loadCompeting() error {
	if !d.chunked {
		return nil
	}
	n, err := ConflictsOf(d.from, d.space.number, d.key)
	if err != nil {
		return fmt.Errorf("read the number of conflicts of document %q: %w", d.key, err)
	}
	var paths []crdt.PathKey // loading moves the fields, so it comes after
	var alone []bool         // nothing above competes: there was a value, and no conflict
	for c := range d.doc.Changes() {
		if !slices.Equal(c.Before.Live, c.After.Live) {
			paths = append(paths, c.Path)
			alone = append(alone, n == 0 && c.Before.HoldsValue())
		}
	}
	for i, p := range paths {
		if !alone[i] {
			if err := d.loadAbove(p); err != nil {
				return err
			}
		}
		if top, ok := d.doc.Rival(p); ok {
			if err := d.loadSubtree(top); err != nil {
				return err
			}
		}
	}
	return nil
}

// contests checks that the index has the number of conflicts of a document.
func (v *verifier) contests(d *openDoc, where string) error {
	want := int64(d.doc.ConflictCount())
	v.report.Conflicts += want
	v.report.Conflicted += min(want, 1)
	if want == 0 {
		return nil // an entry that ought not to be is found by going through the index
	}
	key := conflictKey(v.space, d.key)
	value, ok, err := v.r.Get(key)
	if err != nil {
		return err
	}
	have := int64(0)
	if ok {
		have, err = parseConflicts(key, value)
	}
	if err == nil && have == want {
		return nil
	}
	v.problem(true, where, "it has %d conflicts, and the index says %d", want, have)
	return v.put(key, packConflicts(key, want))
}

// conflicts checks that each entry of the index is of a document that has conflicts. The number of those that have any was checked
// with the documents.
func (v *verifier) conflicts() error {
	prefix := spaceKey(kindConflicts, v.space, 0)
	for k, err := range v.r.Keys(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("scan the conflict index: %w", err)
		}
		if err := v.step(); err != nil {
			return err
		}
		document := string(k[5:])
		d, ok, err := Read(v.r, v.space, document)
		if err != nil && v.damaged {
			continue // the record is reported already
		}
		if err == nil && ok && d.Document.ConflictCount() > 0 {
			continue
		}
		v.problem(true, fmt.Sprintf("document %q", document), "the index says that it has conflicts, and it has none")
		if err := v.remove(bytes.Clone(k)); err != nil {
			return err
		}
	}
	return nil
}
