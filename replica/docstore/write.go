package docstore

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/store"
)

// outcome is what the operations on one document come to: the writes, and what they change in the space.
// Nothing of it is done before apply, so a transaction can be given up until then.
type outcome struct {
	doc     *openDoc
	changed []crdt.Field // the cells that differ now, in the order of their paths
	cells   []byte       // the packed form of changed
	digest  crdt.Digest  // what the digest changes by
	live    int64        // fields with live entries, afterwards
	record  record       // without the arrival number; to be dropped if gone
	gone    bool         // nothing is left of the document
	contest conflictCount
	silent  bool // nothing changed for a reader: it keeps its place in the feed
	batch   []write
}

type write struct {
	key    []byte
	value  []byte
	delete bool
}

// size returns what the outcome adds to a batch: bytes and entries, about.
func (o *outcome) size() (bytes, entries int) {
	bytes = 2*len(o.doc.key) + len(o.record.cells) + 64
	for _, w := range o.batch {
		bytes += len(w.key) + len(w.value)
	}
	return bytes, len(o.batch) + 3
}

// Bounds of what one transaction or delta writes. They leave room in a batch for what waits there already.
const (
	maxOutcomeBytes   = store.MaxBatchBytes * 3 / 4
	maxOutcomeEntries = store.MaxBatchEntries * 3 / 4
)

// checkSize reports whether one batch can take all outcomes. It is asked before any is applied.
func checkSize(outcomes []*outcome) error {
	bytes, entries := 0, 0
	for _, o := range outcomes {
		b, e := o.size()
		bytes, entries = bytes+b, entries+e
	}
	switch {
	case bytes > maxOutcomeBytes:
		return &crdt.LimitError{What: "the rewriting of all records that the transaction touches", Size: bytes, Limit: maxOutcomeBytes, Unit: "bytes"}
	case entries > maxOutcomeEntries:
		return &crdt.LimitError{What: "the rewriting of all records that the transaction touches", Size: entries, Limit: maxOutcomeEntries, Unit: "entries"}
	}
	return nil
}

func (o *outcome) put(key, value []byte) { o.batch = append(o.batch, write{key: key, value: value}) }
func (o *outcome) delete(key []byte)     { o.batch = append(o.batch, write{key: key, delete: true}) }

// finish works out what the operations on d come to; nil if they changed nothing.
func (d *openDoc) finish() (*outcome, error) {
	o := &outcome{doc: d, live: d.live, changed: make([]crdt.Field, 0, d.doc.Touched())}
	var dirty []int // parts, each once
	for c := range d.doc.Changes() {
		o.changed = append(o.changed, crdt.Field{Path: c.Path, Cell: c.After})
		o.live += liveness(c.After) - liveness(c.Before)
		for _, e := range c.Before.Live {
			o.digest.Sub(d.key, c.Path, e)
		}
		for _, e := range c.After.Live {
			o.digest.Add(d.key, c.Path, e)
		}
		if i := d.partOf(c.Path); len(dirty) == 0 || dirty[len(dirty)-1] != i {
			dirty = append(dirty, i)
		}
	}
	if len(o.changed) == 0 {
		return nil, nil
	}
	if err := o.writeConflicts(); err != nil {
		return nil, err
	}
	if !d.chunked {
		return o, o.writeInline()
	}
	o.cells = codec.AppendCells(nil, o.changed)
	return o, o.writeChunks(dirty)
}

func (o *outcome) writeInline() error {
	fields := o.doc.space.pruned(o.doc.doc.AppendFields(nil))
	if len(fields) == 0 {
		o.gone = true
		return o.writeLog("", o.doc.parts[0].dots, nil)
	}
	cells := codec.AppendCells(nil, fields)
	switch {
	case o.silent: // there is nothing to tell
	case len(fields) == len(o.changed):
		o.cells = cells
	default:
		o.cells = codec.AppendCells(nil, o.changed)
	}
	if len(cells) > maxInlineBytes {
		return o.writeChunks([]int{0})
	}
	o.record = record{cells: cells}
	return o.writeLog("", o.doc.parts[0].dots, cells)
}

// writeChunks writes the parts that changed, splits those that grew too large, drops those that are empty, and writes the
// directory if it differs. It also makes chunks of a document that was in one record.
func (o *outcome) writeChunks(dirty []int) error {
	d := o.doc
	o.record = record{chunked: true, live: o.live, root: d.root}
	starts := make([]crdt.PathKey, 0, len(d.parts)+1)
	next, dropped := 0, false
	for _, i := range dirty {
		for ; next < i; next++ {
			starts = append(starts, d.parts[next].start)
		}
		fields := d.space.pruned(d.fieldsOf(i))
		next = i + 1
		if i == 0 {
			o.record.root = len(fields) > 0 && fields[0].Path == ""
		}
		if len(fields) == 0 && i > 0 { // the first stays, so that every path has its part
			dropped = true
			if err := o.dropChunk(d.parts[i]); err != nil {
				return err
			}
			continue
		}
		pieces := split(fields, d.parts[i].start)
		for k, piece := range pieces {
			starts = append(starts, piece.start)
			var before []crdt.Dot
			segments := 0
			if k == 0 { // it takes the place of the part
				before, segments = d.parts[i].dots, d.parts[i].segments
			}
			o.putChunk(chunkKey(d.space.number, d.key, piece.start), piece.cells, segments)
			if err := o.writeLog(piece.start, before, piece.cells); err != nil {
				return err
			}
		}
	}
	for ; next < len(d.parts); next++ {
		starts = append(starts, d.parts[next].start)
	}
	if len(starts) == 1 && d.chunked {
		if gone, err := o.dropIfEmpty(); gone || err != nil {
			return err
		}
	}
	if !d.chunked || dropped || len(starts) != len(d.parts) {
		o.putDirectory(starts)
	}
	return nil
}

// fieldsOf returns the fields of the i-th part, as they are now.
func (d *openDoc) fieldsOf(i int) []crdt.Field {
	var fields []crdt.Field
	for f := range d.doc.FieldsFrom(d.parts[i].start) {
		if i+1 < len(d.parts) && f.Path >= d.parts[i+1].start {
			break
		}
		fields = append(fields, f)
	}
	return fields
}

type piece struct {
	start crdt.PathKey
	cells []byte
}

// split packs fields into as many pieces as keep each within maxChunkBytes; the first begins at start.
func split(fields []crdt.Field, start crdt.PathKey) []piece {
	if len(fields) == 0 {
		return []piece{{start: start}}
	}
	cells := codec.AppendCells(nil, fields)
	if len(cells) <= maxChunkBytes || len(fields) == 1 {
		return []piece{{start, cells}}
	}
	half := len(fields) / 2
	return append(split(fields[:half], start), split(fields[half:], fields[half].Path)...)
}

// writeLog brings the log up to the dots that a record refers to now. Both lists of dots are sorted.
func (o *outcome) writeLog(start crdt.PathKey, before []crdt.Dot, cells []byte) error {
	var now []crdt.Dot
	if len(cells) > 0 {
		var err error
		if now, err = codec.AppendDots(o.doc.space.dots[:0], cells); err != nil {
			return err
		}
		o.doc.space.dots = now
	}
	d := o.doc
	at := func(dot crdt.Dot) []byte {
		return d.space.memory.logKey(d.space.number, logPosition{dot, d.key, start})
	}
	for len(before) > 0 || len(now) > 0 {
		var order int
		switch {
		case len(now) == 0:
			order = -1
		case len(before) == 0:
			order = 1
		default:
			order = before[0].Compare(now[0])
		}
		if order < 0 && !d.space.stable.Covers(before[0]) {
			o.delete(at(before[0]))
		}
		if order > 0 && !d.space.stable.Covers(now[0]) {
			o.put(at(now[0]), nil)
		}
		if order <= 0 {
			before = before[1:]
		}
		if order >= 0 {
			now = now[1:]
		}
	}
	return nil
}

// apply does what finish worked out.
func (o *outcome) apply(b *store.Batch) {
	d, s := o.doc, o.doc.space
	for _, w := range o.batch {
		if w.delete {
			b.Delete(w.key)
		} else {
			b.Put(w.key, w.value)
		}
	}
	s.dirty = true
	s.digest.AddDigest(o.digest)
	s.documents += liveDocuments(o.live) - liveDocuments(d.live)
	o.contest.add(s)
	key := s.memory.documentKey(s.number, d.key)
	if o.silent && !o.gone {
		o.record.arrival = d.arrival
		b.Put(key, o.record.packIn(&s.memory, key))
		return
	}
	if d.found {
		b.Delete(s.memory.feedKey(s.number, d.arrival))
	}
	if o.gone {
		s.vanish(d)
		b.Delete(key)
		return
	}
	s.arrival++
	o.record.arrival = s.arrival
	b.Put(key, o.record.packIn(&s.memory, key))
	b.Put(s.memory.feedKey(s.number, s.arrival), append(s.memory.room(len(d.key)), d.key...))
}

func liveDocuments(liveFields int64) int64 { return min(liveFields, 1) }
