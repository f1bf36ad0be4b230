package docstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Problem is something that Verify found wrong.
type Problem struct {
	What  string // for example "log entry is missing"
	Where string // the document, key or vector
	// Derived problems concern only what can be computed again from the documents: repairing them loses nothing.
	Derived bool
}

func (p Problem) String() string { return p.What + ": " + p.Where }

// Report is what Verify found.
type Report struct {
	Documents   int64 // stored, deleted ones included
	Live        int64
	Records     int64 // documents, directories and chunks
	LogEntries  int64
	FeedEntries int64
	Conflicts   int64       // of all documents
	Conflicted  int64       // documents that have any
	Unpruned    int64       // of LogEntries, those at or below stable: they wait for Prune
	Digest      crdt.Digest // as recomputed
	Problems    []Problem   // at most MaxProblems
	Suppressed  int64       // problems beyond those
}

// MaxProblems bounds the problems that a report lists one by one.
const MaxProblems = 1000

// VerifyOptions says what Verify does beside looking.
type VerifyOptions struct {
	// Repair, if not nil, takes the writes that make the log, the feed and the counters what they should be. The
	// batches are small; each leaves the space no worse than it was.
	Repair func(*store.Batch) error
	// Progress, if not nil, is called now and then with the number of keys looked at.
	Progress func(keys int64)
}

// Verify recomputes everything in a snapshot that derives from the documents, and compares. Memory does not grow
// with the space: instead of keeping the expected keys it looks each of them up, and then each key that is there.
func Verify(ctx context.Context, r store.Snapshot, space uint32, o VerifyOptions) (Report, error) {
	v := &verifier{ctx: ctx, r: r, space: space, options: o, batch: new(store.Batch), claimed: make(map[uint64]string)}
	s, err := Load(r, space)
	if err != nil {
		return v.report, err
	}
	v.state = s
	for _, step := range []func() error{v.documents, v.displace, v.chunks, v.log, v.feed, v.conflicts, v.clients, v.meta, v.flush} {
		if err := step(); err != nil {
			return v.report, err
		}
	}
	return v.report, nil
}

type verifier struct {
	ctx     context.Context
	r       store.Snapshot
	space   uint32
	state   *Space
	options VerifyOptions
	batch   *store.Batch
	report  Report

	keys       int64
	chunkCount int64 // as the directories have it
	maxArrival uint64
	claimed    map[uint64]string  // places in the feed that were found empty, or another's by mistake, and the documents that get them; at most maxClaimed
	given      uint64             // the last place in the feed that displace gave
	displaced  []string           // documents whose place is another's; at most MaxProblems
	beyond     crdt.VersionVector // dots that the horizon does not cover, and should
	damaged    bool               // some document could not be read: what derives from it is unknown
}

func (v *verifier) problem(derived bool, where, format string, args ...any) {
	if len(v.report.Problems) == MaxProblems {
		v.report.Suppressed++
		return
	}
	v.report.Problems = append(v.report.Problems, Problem{What: fmt.Sprintf(format, args...), Where: where, Derived: derived})
}

// step counts one key that was looked at.
func (v *verifier) step() error {
	if v.keys++; v.keys%1024 == 0 {
		if v.options.Progress != nil {
			v.options.Progress(v.keys)
		}
		return v.ctx.Err()
	}
	return nil
}

const repairBatchEntries = 4096

func (v *verifier) put(key, value []byte) error {
	if v.options.Repair == nil {
		return nil
	}
	v.batch.Put(key, value)
	return v.flushIfLarge()
}

func (v *verifier) remove(key []byte) error {
	if v.options.Repair == nil {
		return nil
	}
	v.batch.Delete(key)
	return v.flushIfLarge()
}

func (v *verifier) flushIfLarge() error {
	if v.batch.Len() < repairBatchEntries {
		return nil
	}
	return v.flush()
}

func (v *verifier) flush() error {
	if v.options.Repair == nil || v.batch.Len() == 0 {
		return nil
	}
	b := v.batch
	v.batch = new(store.Batch)
	return v.options.Repair(b)
}

// documents checks every record, and that the log and the feed have what it calls for.
func (v *verifier) documents() error {
	prefix := spaceKey(kindDocument, v.space, 0)
	s := &Space{number: v.space, stable: v.state.stable}
	for e, err := range v.r.Scan(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("scan the documents: %w", err)
		}
		v.report.Documents++
		v.report.Records++
		if err := v.step(); err != nil {
			return err
		}
		d, err := s.openRecord(v.r, string(e.Key[5:]), e.Key, e.Value)
		if err == nil {
			err = v.document(d)
		}
		if err != nil {
			if v.ctx.Err() != nil {
				return err
			}
			v.damaged = true
			v.problem(false, fmt.Sprintf("document %q", e.Key[5:]), "record cannot be read (%v)", err)
		}
	}
	return nil
}

func (v *verifier) document(d *openDoc) error {
	if err := d.loadAll(); err != nil {
		return err
	}
	where := fmt.Sprintf("document %q", d.key)
	if d.chunked {
		v.chunkCount += int64(len(d.parts))
		v.report.Records += int64(len(d.parts)) + 1
	}
	live := int64(0)
	for f := range d.doc.Fields() {
		live += liveness(f.Cell)
		for _, e := range f.Cell.Live {
			v.report.Digest.Add(d.key, f.Path, e)
		}
	}
	v.report.Live += liveDocuments(live)
	if d.chunked && d.root == d.doc.Cell("").IsEmpty() {
		v.problem(false, where, "its record is wrong about a cell at the root")
	}
	if live != d.live {
		v.problem(false, where, "%d fields are live and its record says %d", live, d.live)
	}
	for i, p := range d.parts {
		if err := v.dots(d, p, where); err != nil {
			return err
		}
		if err := v.prunable(d, i, where); err != nil {
			return err
		}
	}
	if err := v.contests(d, where); err != nil {
		return err
	}
	v.maxArrival = max(v.maxArrival, d.arrival)
	return v.place(d, where)
}

// maxClaimed bounds what is remembered of wrong places in the feed. Beyond it, two documents that claim the same one are told apart by the next run.
const maxClaimed = 1 << 16

// place checks that a document has its place in the feed.
func (v *verifier) place(d *openDoc, where string) error {
	key := feedKey(v.space, d.arrival)
	value, ok, err := v.r.Get(key)
	if err != nil || ok && string(value) == d.key {
		return err
	}
	other, claimed := v.claimed[d.arrival]
	if !claimed && ok {
		other = string(value)
		arrival, err := v.arrivalOf(other)
		if err != nil {
			return err
		}
		claimed = arrival == d.arrival
	}
	if !claimed {
		v.problem(true, where, "feed entry %d is missing or names %q", d.arrival, value)
		if len(v.claimed) < maxClaimed {
			v.claimed[d.arrival] = d.key
		}
		return v.put(key, []byte(d.key))
	}
	v.problem(true, where, "its place in the feed, %d, is that of document %q", d.arrival, other)
	if len(v.displaced) < MaxProblems {
		v.displaced = append(v.displaced, d.key)
	}
	return nil
}

// arrivalOf returns the place in the feed that the record of a document claims; zero if there is none that can be read.
func (v *verifier) arrivalOf(key string) (uint64, error) {
	rec, _, err := readRecord(v.r, v.space, key)
	if errors.Is(err, ErrCorrupt) {
		err = nil
	}
	return rec.arrival, err
}

// displace gives documents new places in the feed whose own is that of another document. That comes of a record which a fault of the store
// brought back from before.
func (v *verifier) displace() error {
	if v.options.Repair == nil {
		return nil
	}
	for _, key := range v.displaced {
		rec, _, err := readRecord(v.r, v.space, key)
		if err != nil {
			return err
		}
		v.given = max(v.given, v.maxArrival, v.state.arrival) + 1
		rec.arrival = v.given
		k := documentKey(v.space, key)
		if err := errors.Join(v.put(k, rec.pack(k)), v.put(feedKey(v.space, rec.arrival), []byte(key))); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) dots(d *openDoc, p part, where string) error {
	for _, dot := range p.dots {
		if v.state.isGivenUp(dot) {
			v.problem(false, where, "%s has another name now: a record is older than it should be", dot)
			continue
		}
		if !v.state.horizon.Covers(dot) {
			v.problem(true, where, "dot %s is beyond the horizon", dot)
			v.beyond.Advance(dot)
		}
		if v.state.stable.Covers(dot) {
			continue
		}
		key := logPosition{dot, d.key, p.start}.pack(v.space)
		_, ok, err := v.r.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			v.problem(true, where, "log entry of %s is missing", dot)
			if err := v.put(key, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// prunable checks that a log key leads to each record with cells that can be pruned: nothing else would ever prune them.
func (v *verifier) prunable(d *openDoc, i int, where string) error {
	if !d.isPrunable(i) {
		return nil
	}
	var first []byte
	for _, dot := range d.parts[i].dots {
		if !v.state.stable.Covers(dot) {
			continue
		}
		key := logPosition{dot, d.key, d.parts[i].start}.pack(v.space)
		if _, ok, err := v.r.Get(key); ok || err != nil {
			return err
		}
		if first == nil {
			first = key
		}
	}
	v.problem(true, where, "cells that can be pruned, and no log entry leads to them")
	return v.put(first, nil)
}

// chunks looks for chunks that no directory names.
func (v *verifier) chunks() error {
	prefix := spaceKey(kindChunk, v.space, 0)
	n := int64(0)
	for _, err := range v.r.Keys(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("scan the chunks: %w", err)
		}
		n++
		if err := v.step(); err != nil {
			return err
		}
	}
	if n != v.chunkCount && !v.damaged {
		v.problem(false, "chunks", "there are %d, and the directories name %d", n, v.chunkCount)
	}
	return nil
}

// log checks that each entry has a record that refers to it.
func (v *verifier) log() error {
	prefix := spaceKey(kindLog, v.space, 0)
	for k, err := range v.r.Keys(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("scan the log: %w", err)
		}
		v.report.LogEntries++
		if err := v.step(); err != nil {
			return err
		}
		p, err := parseLogKey(k)
		if err == nil && v.state.stable.Covers(p.dot) {
			v.report.Unpruned++
			continue
		}
		needed := false
		if err == nil {
			needed, err = v.refersTo(p)
		}
		switch {
		case err != nil && v.damaged:
			// The record is reported already; whether the entry is needed cannot be known.
		case err != nil:
			v.problem(true, fmt.Sprintf("log key %q", k), "cannot be read (%v)", err)
		case !needed:
			v.problem(true, fmt.Sprintf("document %q", p.key), "log entry of %s has no cell", p.dot)
		}
		if err == nil && !needed || err != nil && !v.damaged {
			if err := v.remove(bytes.Clone(k)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) refersTo(p logPosition) (bool, error) {
	if p.start != "" { // of a document that was in chunks, and is made anew in one record: it would be wrong once there are chunks again
		if rec, ok, err := readRecord(v.r, v.space, p.key); !ok || !rec.chunked {
			return false, err
		}
	}
	cells, err := recordCells(v.r, v.space, recordName{p.key, p.start})
	if err != nil || len(cells) == 0 {
		return false, err
	}
	dots, err := codec.AppendDots(nil, cells)
	if err != nil {
		return false, err
	}
	for _, d := range dots {
		if d == p.dot {
			return true, nil
		}
	}
	return false, nil
}

// feed checks that each entry is the last change of a document.
func (v *verifier) feed() error {
	for e, err := range Feed(v.r, v.space, 0) {
		if err != nil {
			return err
		}
		v.report.FeedEntries++
		if err := v.step(); err != nil {
			return err
		}
		rec, ok, err := readRecord(v.r, v.space, e.Key)
		if err != nil && !errors.Is(err, ErrCorrupt) {
			return err
		}
		if ok && rec.arrival == e.Arrival || err != nil && v.damaged {
			continue
		}
		v.problem(true, fmt.Sprintf("feed entry %d", e.Arrival), "it is not the last change of document %q", e.Key)
		if err := v.remove(feedKey(v.space, e.Arrival)); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) meta() error {
	s, where := v.state, fmt.Sprintf("space %d", v.space)
	wrong := false
	check := func(ok bool, format string, args ...any) {
		if !ok {
			wrong = true
			v.problem(true, where, format, args...)
		}
	}
	check(s.digest == v.report.Digest, "digest is %s, and its documents give %s", s.digest, v.report.Digest)
	check(s.documents == v.report.Live, "it counts %d live documents, and has %d", s.documents, v.report.Live)
	check(s.conflicts == v.report.Conflicts && s.conflicted == v.report.Conflicted,
		"it counts %d conflicts in %d documents, and has %d in %d", s.conflicts, s.conflicted, v.report.Conflicts, v.report.Conflicted)
	check(s.arrival >= v.maxArrival, "last arrival is %d, and a document has %d", s.arrival, v.maxArrival)
	if !wrong && v.beyond.Len() == 0 && v.given == 0 || v.options.Repair == nil {
		return nil
	}
	for dot := range v.beyond.All() {
		s.foresee(dot)
	}
	s.digest, s.documents, s.arrival, s.dirty = v.report.Digest, v.report.Live, max(s.arrival, v.maxArrival, v.given), true
	s.conflicts, s.conflicted = v.report.Conflicts, v.report.Conflicted
	s.Flush(v.batch)
	return nil
}
