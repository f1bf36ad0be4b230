package docstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// RepairJob does what a job of a repair asks for, but for merging: for that it collects the reply. What it reads is of the
// snapshot, so only what is durable is told.
func RepairJob(ctx context.Context, r store.Snapshot, space uint32, job *protocol.RepairJob) (res protocol.RepairResult) {
	for _, g := range job.Split {
		parts, err := SplitRange(ctx, r, space, job.Stable, job.Round, g)
		if err != nil {
			return protocol.RepairResult{Err: err}
		}
		res.Parts = append(res.Parts, parts...)
	}
	switch {
	case job.Compare != nil:
		res.Differs, res.Err = CompareRanges(ctx, r, space, job.Stable, job.Round, job.Compare)
	case job.Take != nil:
		res.Cells, res.Err = TakeCells(ctx, r, space, job.Round, job.Take)
	case job.Merge != nil && !job.Merge.Reply:
		res.Cells, res.Err = OtherCells(ctx, r, space, job.Stable, job.Merge)
	}
	return res
}

// parseIncoming parses the cells of a document of a peer.
func parseIncoming(doc crdt.DocumentDelta) ([]crdt.Field, error) {
	if len(doc.Cells) == 0 {
		return nil, nil
	}
	if n := codec.Count(doc.Cells); n > crdt.MaxDeltaFields {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, &crdt.LimitError{What: "document", Size: n, Limit: crdt.MaxDeltaFields, Unit: "fields"})
	}
	fields, err := codec.ParseCells(doc.Cells)
	if err != nil {
		return nil, fmt.Errorf("%w: document %q: %w", ErrMalformed, doc.Key, err)
	}
	return fields, nil
}

// JoinedCells tells what the cells of a peer brought.
type JoinedCells struct {
	Merged
	Damaged []crdt.DocumentDelta // could not be merged, because what is stored here cannot be read: see Rebuild
}

// JoinCells merges whole cells of a peer in a repair and writes the result into b. An entry that one side has and the other has not
// stays, unless that side says that it was removed: absence says nothing, for either side may be damaged. vv stays what it
// is. If it is Partial, call it again with the same cells once b is committed.
func (s *Space) JoinCells(r Reader, b *store.Batch, docs []crdt.DocumentDelta, self crdt.ReplicaID, check func(hlc.Time) error) (JoinedCells, error) {
	var m JoinedCells
	in, err := s.examine(&crdt.Delta{Documents: docs}, self, check, &m.Merged)
	if err != nil {
		return m, err
	}
	if err := s.checkReplicas(in.named); err != nil {
		return m, err
	}
	left := s.mergeRoom()
	var outcomes []*outcome
	for i, doc := range docs {
		o, n, err := s.joinDocument(r, doc.Key, in.fields[i], left)
		if errors.Is(err, ErrCorrupt) {
			m.Damaged = append(m.Damaged, doc)
			continue
		}
		if err != nil {
			return m, err
		}
		if o != nil {
			outcomes = append(outcomes, o)
			left = left.less(o)
		}
		m.Cells += n
		if n < len(in.fields[i]) || i+1 < len(docs) && left.isUsed() {
			m.Partial = true
			break
		}
	}
	if err := checkSize(outcomes); err != nil {
		return m, err
	}
	for _, o := range outcomes {
		o.apply(b)
	}
	m.Changed = len(outcomes)
	for dot := range in.named.All() {
		s.foresee(dot)
	}
	return m, nil
}

func (s *Space) joinDocument(r Reader, key string, fields []crdt.Field, left room) (*outcome, int, error) {
	d, err := s.open(r, key)
	if err != nil {
		return nil, 0, err
	}
	return d.mergeFields(fields, left, func(f crdt.Field) bool { return d.doc.JoinField(s.stable, f.Path, f.Cell) })
}

// maxUnreadable bounds the documents that Unreadable returns.
const maxUnreadable = 1000

// Unreadable returns the keys of documents, the first of them, of which something stored cannot be read.
func Unreadable(ctx context.Context, r store.Snapshot, space uint32) ([]crdt.DocumentDelta, error) {
	var docs []crdt.DocumentDelta
	for p, err := range pieces(ctx, r, space, protocol.Range{}) {
		if err != nil || len(docs) == maxUnreadable {
			return docs, err
		}
		if n := len(docs); p.damage != nil && (n == 0 || docs[n-1].Key != p.at.Key) {
			docs = append(docs, crdt.DocumentDelta{Key: p.at.Key})
		}
	}
	return docs, nil
}

// Rebuild makes documents anew of which something stored cannot be read: from the chunks that can be, and what a peer has of them.
// What is nowhere else is lost. The log, the feed, the digest and the counters are not what they should be until Verify has
// repaired them; nothing else may be changed meanwhile. Each batch that commit gets holds whole documents.
func (s *Space) Rebuild(r store.Snapshot, commit func(*store.Batch) error, docs []crdt.DocumentDelta) error {
	for _, doc := range docs {
		fields, err := parseIncoming(doc)
		if err != nil {
			return err
		}
		b := new(store.Batch)
		d := &openDoc{space: s, from: r, key: doc.Key, parts: []part{{loaded: true}}, doc: crdt.NewDocument(nil)}
		if err := s.salvage(r, b, d); err != nil {
			return err
		}
		for _, f := range fields {
			d.doc.JoinField(s.stable, f.Path, f.Cell)
		}
		o, err := d.finish()
		if err != nil {
			return err
		}
		if o != nil {
			if err := checkSize([]*outcome{o}); err != nil {
				return err
			}
			o.apply(b)
		}
		for _, f := range d.doc.AppendFields(nil) {
			for _, e := range f.Cell.Live {
				s.foresee(e.Dot)
			}
			for dot := range f.Cell.Observed.All() {
				s.foresee(dot)
			}
		}
		s.Flush(b)
		if err := commit(b); err != nil {
			return err
		}
	}
	return nil
}

// salvage deletes all records of a document, and joins into d what can still be read of them.
func (s *Space) salvage(r store.Snapshot, b *store.Batch, d *openDoc) error {
	key := documentKey(s.number, d.key)
	if value, ok, err := r.Get(key); err != nil {
		return err
	} else if ok {
		if rec, err := parseRecord(key, value); err == nil && !rec.chunked {
			d.join(rec.cells)
		}
	}
	b.Delete(key)
	b.Delete(directoryKey(s.number, d.key))
	for _, kind := range []byte{kindPiece, kindChunk, kindSegment} {
		prefix := chunkKey(s.number, d.key, "")
		prefix[0] = kind
		for e, err := range r.Scan(prefix, after(prefix)) {
			if err != nil {
				return err
			}
			k := bytes.Clone(e.Key)
			if kind == kindChunk {
				if cells, _, err := readChunk(r, k); err == nil {
					d.join(cells)
				}
			}
			b.Delete(k)
		}
	}
	return nil
}

// join joins packed cells if they parse.
func (d *openDoc) join(cells []byte) {
	fields, _, err := parseChunk(cells)
	if err != nil {
		return
	}
	for _, f := range fields {
		d.doc.JoinField(d.space.stable, f.Path, f.Cell)
	}
}
