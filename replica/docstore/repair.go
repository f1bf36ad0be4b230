package docstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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
	if res.Cells != nil && res.Err == nil {
		res.Cells.Horizon, res.Err = hiddenIn(r, space)
	}
	return res
}

// ErrBelowStable says that one of two replicas has not all that the other takes for stable. It may hold what was removed and pruned
// there, so it needs a snapshot: neither incremental sync nor a repair will do.
var ErrBelowStable = errors.New("a replica is below the other's stable vector")

// ErrRejoining says that a replica is being brought up by a snapshot, which does what a repair would.
var ErrRejoining = errors.New("a replica is being brought up by a snapshot")

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
// is. If it is Partial, call it again with the same cells once b is committed. theirs is what the peer is known to hold whole.
func (s *Space) JoinCells(r Reader, b *store.Batch, cells *protocol.RangeCells, theirs crdt.VersionVector, self crdt.ReplicaID, check func(hlc.Time) error) (JoinedCells, error) {
	var m JoinedCells
	if !s.stable.LessOrEqual(theirs) { // what was removed and pruned here may be alive there
		return m, ErrBelowStable
	}
	if s.rejoin.mark != nil {
		return m, ErrRejoining
	}
	docs := cells.Documents
	in, err := s.examine(&crdt.Delta{Documents: docs, Horizon: cells.Horizon}, self, check, &m.Merged)
	if err != nil {
		return m, err
	}
	if err := s.checkReplicas(in.named, cells.Horizon); err != nil {
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
	for dot := range cells.Horizon.All() {
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

// maxBroken bounds the documents that Broken returns.
const maxBroken = 1000

// Broken returns the keys of documents, the first of them, of which something stored cannot be read, or does not fit together. It
// reads everything.
func Broken(ctx context.Context, r store.Snapshot, space uint32) ([]crdt.DocumentDelta, error) {
	s, err := Load(r, space)
	if err != nil {
		return nil, err
	}
	w := &brokenWalk{ctx: ctx, r: r, space: s}
	if err := w.run(); err != nil {
		return nil, err
	}
	return w.broken, nil
}

// brokenWalk reads all documents of a space.
type brokenWalk struct {
	ctx    context.Context
	r      store.Snapshot
	space  *Space
	sound  func(*openDoc) error // called with each document that is not broken, if not nil
	broken []crdt.DocumentDelta // without cells
	why    error                // the first is
	known  map[string]struct{}  // the keys of broken
	steps  int
}

func (w *brokenWalk) run() error {
	w.known = make(map[string]struct{})
	if err := w.documents(); err != nil {
		return err
	}
	return w.chunks()
}

func (w *brokenWalk) step() error {
	if w.steps++; w.steps%256 == 0 {
		return w.ctx.Err()
	}
	return nil
}

func (w *brokenWalk) note(key string, why error) {
	if _, ok := w.known[key]; ok || len(w.broken) == maxBroken {
		return
	}
	if w.why == nil {
		w.why = why
	}
	w.known[key] = struct{}{}
	w.broken = append(w.broken, crdt.DocumentDelta{Key: key})
}

func (w *brokenWalk) documents() error {
	prefix := spaceKey(kindDocument, w.space.number, 0)
	for e, err := range w.r.Scan(prefix, after(prefix)) {
		if err == nil {
			err = w.step()
		}
		if err != nil {
			return fmt.Errorf("scan the documents: %w", err)
		}
		d, err := w.space.openRecord(w.r, string(e.Key[5:]), e.Key, e.Value)
		if err == nil {
			err = d.checkWhole()
		}
		if errors.Is(err, ErrCorrupt) {
			w.note(string(e.Key[5:]), err)
			continue
		}
		if err == nil && w.sound != nil {
			err = w.sound(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkWhole loads the document and reports whether its records fit together, and are of this time.
func (d *openDoc) checkWhole() error {
	if err := d.loadAll(); err != nil {
		return err
	}
	live := int64(0)
	for f := range d.doc.Fields() {
		live += liveness(f.Cell)
	}
	if live != d.live || d.chunked && d.root == d.doc.Cell("").IsEmpty() {
		return fmt.Errorf("%w: the record of document %q and its chunks do not fit together", ErrCorrupt, d.key)
	}
	for _, p := range d.parts {
		if i := slices.IndexFunc(p.dots, d.space.isGivenUp); i >= 0 {
			return fmt.Errorf("%w: document %q names %s, which has another name now: a record of it is older than it should be", ErrCorrupt, d.key, p.dots[i])
		}
	}
	return nil
}

// chunks looks for those that no directory names. A chunk's key has no end of the document's key in it but its length.
func (w *brokenWalk) chunks() error {
	prefix := spaceKey(kindChunk, w.space.number, 0)
	known, starts := "", map[crdt.PathKey]bool(nil)
	for k, err := range w.r.Keys(prefix, after(prefix)) {
		if err == nil {
			err = w.step()
		}
		if err != nil {
			return fmt.Errorf("scan the chunks: %w", err)
		}
		if len(k) < 8 || len(k) < 7+int(binary.BigEndian.Uint16(k[5:])) {
			continue // no chunk has such a key; Verify tells of it
		}
		n := 7 + int(binary.BigEndian.Uint16(k[5:]))
		key, start := string(k[7:n]), crdt.PathKey(k[n:])
		if key != known {
			known, starts = key, w.starts(key)
		}
		if !starts[start] {
			w.note(key, fmt.Errorf("%w: a chunk of document %q at %s belongs to nothing", ErrCorrupt, key, start))
		}
	}
	return nil
}

// starts returns where the chunks of a document begin; none if it is not there or cannot be read.
func (w *brokenWalk) starts(key string) map[crdt.PathKey]bool {
	d, err := w.space.open(w.r, key)
	if err != nil || !d.chunked {
		return nil
	}
	starts := make(map[crdt.PathKey]bool, len(d.parts))
	for _, p := range d.parts {
		starts[p.start] = true
	}
	return starts
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
		d := s.newDocument(r, doc.Key)
		if err := s.salvage(r, b, d); err != nil {
			return err
		}
		if err := d.join(fields); err != nil {
			return err
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

// Reload loads the space again after Rebuild or Verify changed the store. A snapshot that is being merged goes on.
func (s *Space) Reload(r store.Snapshot) (*Space, error) {
	n, err := Load(r, s.number)
	if err != nil {
		return nil, err
	}
	n.mergeLimit = s.mergeLimit
	if s.rejoin.mark != nil && n.rejoin.mark != nil {
		n.rejoin.state = s.rejoin.state
	}
	return n, nil
}

// salvage deletes all records of a document, and joins into d what can still be read of them.
func (s *Space) salvage(r store.Snapshot, b *store.Batch, d *openDoc) error {
	key := documentKey(s.number, d.key)
	var named map[crdt.PathKey]bool // chunks that belong to the document; nil if nothing says which do
	if before, err := s.open(r, d.key); err == nil {
		named = (&brokenWalk{r: r, space: s}).starts(d.key)
		if before.found && !before.chunked {
			if err := d.join(before.doc.AppendFields(nil)); err != nil {
				return err
			}
			named = make(map[crdt.PathKey]bool)
		}
	} else if !errors.Is(err, ErrCorrupt) {
		return err
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
			if kind == kindChunk && (named == nil || named[crdt.PathKey(k[len(prefix):])]) {
				if fields := readableChunk(r, k); fields != nil {
					if err := d.join(fields); err != nil {
						return err
					}
				}
			}
			b.Delete(k)
		}
	}
	return nil
}

// readableChunk returns the fields of a chunk, nil if it cannot be read.
func readableChunk(r Reader, key []byte) []crdt.Field {
	cells, _, err := readChunk(r, key)
	if err != nil {
		return nil
	}
	fields, _, err := parseChunk(cells)
	if err != nil {
		return nil
	}
	return fields
}

// join joins fields into a document that is made anew.
func (d *openDoc) join(fields []crdt.Field) error {
	for _, f := range fields {
		cells, err := d.space.present(d.from, f.Cell)
		if err != nil {
			return err
		}
		for _, c := range cells {
			d.doc.JoinField(d.space.stable, f.Path, c)
		}
	}
	return nil
}
