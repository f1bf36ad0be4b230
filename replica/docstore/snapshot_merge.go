package docstore

import (
	"fmt"
	"iter"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Bounds of one step of merging a snapshot, beside those of what it writes: no other change of the store happens meanwhile.
const (
	mergeDocuments = 2048 // looked at
	mergeParts     = 64   // of one document
)

// MergedPiece tells what a step of merging a piece brought.
type MergedPiece struct {
	Merged
	Next  protocol.Position  // up to here the piece is merged; zero: to the end
	End   bool               // the snapshot is through
	Risen crdt.VersionVector // at the end: the entries of vv that rose
}

// MergePiece merges a piece of a snapshot, or a part of it: while the result is Partial, commit what is in b and call it again. Both
// states are complete, so what one has seen, by its vv, and does not hold was removed there; what this replica has in the range
// of the piece and the piece lacks is merged with nothing. The position moves with what is merged.
//
// A piece that is known already, or that belongs to no snapshot under way, is ignored: not New. ErrGap says that one before it is
// missing. self and check are as for Merge; after an error what was merged so far stands.
func (s *Space) MergePiece(over *Overlay, b *store.Batch, p *protocol.Piece, self crdt.ReplicaID, check func(hlc.Time) error) (MergedPiece, error) {
	var m MergedPiece
	mark := s.rejoin.mark
	switch {
	case mark == nil || s.rejoin.state != p.Of || p.EndsBefore(mark.Position):
		return m, nil
	case p.Lower.Compare(mark.Position) > 0:
		return m, fmt.Errorf("%w: the piece begins at %v, and here is all before %v", ErrGap, p.Lower, mark.Position)
	}
	if p.Equal {
		err := s.mergeEqual(over, p, &m)
		return m, err
	}
	if !s.rejoin.parts.cover(p) {
		return m, fmt.Errorf("%w: siblings that come before the piece at %v are missing", ErrGap, p.Lower)
	}
	m.New = true
	in, err := s.examinePiece(p, self, check, &m.Merged)
	if err != nil {
		return m, err
	}
	if err := s.checkReplicas(in.named); err != nil {
		return m, err
	}
	for dot := range in.named.All() {
		s.foresee(dot)
	}
	s.hide(s.horizon.Beyond(s.vv))
	if p.Partial {
		m.Next = mark.Position
		if m.Changed, err = s.mergePart(over, b, p, in.fields); err == nil {
			s.rejoin.parts.add(p, in.fields)
		}
		return m, err
	}
	w := walk{space: s, over: over, batch: b, piece: p, fields: in.fields, left: s.mergeRoom(), merged: &m}
	if err := w.run(); err != nil {
		return m, err
	}
	s.rejoin.moved, s.dirty = true, true
	m.Next = mark.Position
	if !m.Partial && p.IsLast() {
		m.End, m.Next = true, protocol.Position{}
		m.Risen = s.completeSnapshot()
	}
	return m, nil
}

func (s *Space) examinePiece(p *protocol.Piece, self crdt.ReplicaID, check func(hlc.Time) error, m *Merged) (incoming, error) {
	d := crdt.Delta{Documents: p.Documents}
	in, err := s.examine(&d, self, check, m)
	m.Foreign = m.Foreign || s.isForeign(self, in.named)
	if err != nil {
		return in, err
	}
	for i, doc := range p.Documents {
		fields := in.fields[i]
		first := protocol.Position{Key: doc.Key, Path: fields[0].Path}
		last := protocol.Position{Key: doc.Key, Path: fields[len(fields)-1].Path}
		if !p.Contains(first) || !p.Contains(last) {
			return in, fmt.Errorf("%w: document %q is not in the range of its piece", ErrMalformed, doc.Key)
		}
	}
	return in, nil
}

// walk goes over a piece and what this replica has in its range, in the order of keys.
type walk struct {
	space  *Space
	over   *Overlay
	batch  *store.Batch
	piece  *protocol.Piece
	fields [][]crdt.Field
	left   room
	merged *MergedPiece
	fresh  newcomer // the last document that was new here
}

// run merges until the piece is through or the step has done enough, and moves the position.
func (w *walk) run() error {
	mark := w.space.rejoin.mark
	keys, err := w.keys(mark.Position.Key)
	if err != nil {
		return err
	}
	next := 0 // of the piece's documents
	for _, k := range keys {
		key := k.key
		for next < len(w.fields) && w.piece.Documents[next].Key < key {
			next++
		}
		var doc crdt.DocumentDelta
		var fields []crdt.Field
		if next < len(w.fields) && w.piece.Documents[next].Key == key {
			doc, fields = w.piece.Documents[next], w.fields[next]
		}
		for whole := false; !whole; {
			if w.left.isUsed() {
				w.merged.Partial = true
				return nil
			}
			if whole, err = w.document(k, doc, fields); err != nil {
				return err
			}
		}
		if doc.Key != "" && mark.Position.Key != key { // it goes on in the next piece otherwise
			mark.Add(1, len(doc.Key)+len(doc.Cells))
		}
	}
	if !w.merged.Partial && !w.piece.IsLast() {
		mark.Position = w.piece.Upper
	}
	return nil
}

// walkKey is the key of a document that one side has.
type walkKey struct {
	key    string
	isHere bool // or was: otherwise there is no record to be looked up
}

// keys returns the keys of the documents of both sides that the step looks at. It says so in merged if there are more.
func (w *walk) keys(start string) ([]walkKey, error) {
	var keys []walkKey
	docs := w.piece.Documents
	for len(docs) > 0 && docs[0].Key < start {
		docs = docs[1:]
	}
	own, stop := iter.Pull2(w.over.documents(w.space.number, start))
	defer stop()
	key, err, ok := own()
	for ok || len(docs) > 0 {
		if err != nil {
			return nil, err
		}
		if ok && w.piece.EndsBefore(protocol.Position{Key: key}) {
			ok = false
			continue
		}
		if len(keys) == mergeDocuments {
			w.merged.Partial = true
			break
		}
		switch {
		case len(docs) == 0 || ok && key < docs[0].Key:
			keys = append(keys, walkKey{key, true})
			key, err, ok = own()
		case !ok || docs[0].Key < key:
			keys = append(keys, walkKey{docs[0].Key, false})
			docs = docs[1:]
		default:
			keys = append(keys, walkKey{key, true})
			docs = docs[1:]
			key, err, ok = own()
		}
	}
	return keys, err
}

// document merges one document in the range of the piece, or a first part of it. It reports whether it is whole.
func (w *walk) document(k walkKey, in crdt.DocumentDelta, fields []crdt.Field) (whole bool, err error) {
	s, mark, key := w.space, w.space.rejoin.mark, k.key
	found := lookup{key: key}
	if k.isHere {
		if found, err = s.lookUp(w.over, key); err != nil {
			return false, err
		}
	}
	r := pathRange{}
	if key == mark.Position.Key {
		r.from = mark.Position.Path
	}
	if key == w.piece.Upper.Key && !w.piece.IsLast() {
		r.to, r.bounded = w.piece.Upper.Path, true
	}
	var o *outcome
	if !found.hasRecord && r == (pathRange{}) && len(in.Cells) > 0 && len(in.Cells) <= maxInlineBytes && !s.hasSeen(fields) {
		o, err = s.adopt(&w.fresh, in, fields)
		whole = true
	} else {
		var d *openDoc
		if d, err = found.open(s, w.over); err == nil {
			whole, err = d.cut(&r)
		}
		if err == nil {
			d.mergeComplete(r, fields, w.piece)
			o, err = d.finish()
		}
	}
	if err != nil {
		return false, err
	}
	if o != nil {
		if err := checkSize([]*outcome{o}); err != nil {
			return false, err
		}
		o.apply(w.batch)
		w.left = w.left.less(o)
		w.merged.Changed++
	}
	switch {
	case !whole:
		mark.Position = protocol.Position{Key: key, Path: r.to}
	case r.bounded:
		mark.Position = w.piece.Upper
	default:
		mark.Position = protocol.AfterDocument(key)
	}
	return whole, nil
}

// hasSeen reports whether vv covers any dot of the fields. If not, merging them into nothing changes nothing of them.
func (s *Space) hasSeen(fields []crdt.Field) bool {
	if s.vv.Len() == 0 {
		return false
	}
	for _, f := range fields {
		for _, e := range f.Cell.Live {
			if s.vv.Covers(e.Dot) {
				return true
			}
		}
		for d := range f.Cell.Observed.All() {
			if s.vv.Covers(d) {
				return true
			}
		}
	}
	return false
}

// pathRange is the paths at or after from and, if it is bounded, before to.
type pathRange struct {
	from, to crdt.PathKey
	bounded  bool
}

func (r pathRange) endsBefore(p crdt.PathKey) bool { return r.bounded && p >= r.to }

// cut loads the parts of the document in the range, and cuts the range short if there are too many. It reports whether it did not.
func (d *openDoc) cut(r *pathRange) (whole bool, err error) {
	first := d.partOf(r.from)
	for i := first; i < len(d.parts) && (i == first || !r.endsBefore(d.parts[i].start)); i++ {
		if i-first == mergeParts {
			r.to, r.bounded = d.parts[i].start, true
			return false, nil
		}
		if err := d.load(i); err != nil {
			return false, err
		}
	}
	return true, nil
}

// mergeComplete merges the fields of a complete state in the range, and those that it lacks with nothing.
func (d *openDoc) mergeComplete(r pathRange, fields []crdt.Field, piece *protocol.Piece) {
	s := d.space
	merge := func(p crdt.PathKey, c crdt.Cell) {
		d.doc.MergeComplete(p, s.vv, withSpared(c, d.doc.Cell(p), piece.Spared), piece.Of.VV, s.stable)
	}
	var own []crdt.Field
	for f := range d.doc.FieldsFrom(r.from) {
		if r.endsBefore(f.Path) {
			break
		}
		own = append(own, f)
	}
	for len(fields) > 0 && fields[0].Path < r.from {
		fields = fields[1:]
	}
	for len(own) > 0 || len(fields) > 0 && !r.endsBefore(fields[0].Path) {
		order := 1
		switch {
		case len(fields) == 0 || r.endsBefore(fields[0].Path):
			order = -1
		case len(own) > 0:
			order = strings.Compare(string(own[0].Path), string(fields[0].Path))
		}
		if order < 0 {
			merge(own[0].Path, crdt.Cell{})
		} else {
			merge(fields[0].Path, fields[0].Cell)
			fields = fields[1:]
		}
		if order <= 0 {
			own = own[1:]
		}
	}
}
