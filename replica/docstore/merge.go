package docstore

import (
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ErrGap says that a delta begins after what the space has of its origin.
var ErrGap = errors.New("delta begins after what is here")

// OpenError says that a delta's encoder had pruned more of its origin than is here whole: something may be alive here of which the
// delta does not say that it was removed. A delta of an encoder that pruned less, or a snapshot, brings what is missing.
type OpenError struct {
	Origin crdt.ReplicaID
	Stable hlc.Time // of the delta
	Firm   hlc.Time // here: see Space.OpenEntries
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("the sender forgot what %s removed up to %s, and here all of it is known up to %s only", e.Origin, e.Stable, e.Firm)
}

// ErrMalformed says that the content of a delta does not parse or breaks a limit.
var ErrMalformed = errors.New("malformed delta")

var errNoCells = errors.New("it has no cells")

// Merged tells what a delta brought.
type Merged struct {
	New bool // it was not covered already
	// Partial: it rewrites more than one commit takes, and only a part of it was merged. When that is committed, merge the
	// same delta again, until it is whole: only then the space has it. What shows meanwhile is a state with dots beyond vv.
	Partial bool
	Cells   int      // of the delta's cells, in their order, that are merged: all of them unless Partial
	Changed int      // documents that differ now
	Max     hlc.Time // the greatest time in it
	// Foreign reports whether it names a dot of self that self never gave: self's store went back in time.
	Foreign bool
	// Own are dots in it of IDs that this store wrote under: somebody has them.
	Own crdt.VersionVector
}

// Merge joins a delta into the space and writes the result into b. self is the replica's own ReplicaID; now and
// limit are for the check of the clock (hlc.Check). Everything is checked before anything is changed: after an
// error (ErrGap, *OpenError, ErrMalformed, *hlc.DriftError, or one of the store) the space is as it was.
func (s *Space) Merge(r Reader, b *store.Batch, d *crdt.Delta, self crdt.ReplicaID, check func(hlc.Time) error) (Merged, error) {
	var m Merged
	have := s.vv.Get(d.Origin)
	switch {
	case have >= d.To:
		return m, nil
	case have < d.From:
		return m, fmt.Errorf("%w: (%s, %s] of %s, and here is %s", ErrGap, d.From, d.To, d.Origin, have)
	}
	if firm := s.firmAt(d.Origin); d.Stable > firm {
		return m, &OpenError{Origin: d.Origin, Stable: d.Stable, Firm: firm}
	}
	m.New = true
	in, err := s.examine(d, self, check, &m)
	if err != nil {
		return m, err
	}
	end := crdt.Dot{Replica: d.Origin, Time: d.To}
	if err := s.checkReplicas(crdt.NewVersionVector(end), d.Horizon, in.named); err != nil {
		return m, err
	}
	s.markSeen()
	outcomes := make([]*outcome, 0, len(d.Documents))
	left := s.mergeRoom()
	var fresh newcomers
	for i := range d.Documents {
		o, n, err := s.mergeDocument(r, d.Documents[i], in.fields[i], in.young[i], left, &fresh)
		if err != nil {
			return m, err
		}
		if o != nil {
			outcomes = append(outcomes, o)
			left = left.less(o)
		}
		m.Cells += n
		if n < len(in.fields[i]) || i+1 < len(d.Documents) && left.isUsed() {
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
	for dot := range d.Horizon.All() { // before vv rises, which would seem to be closed otherwise
		s.foresee(dot)
	}
	for dot := range in.named.All() {
		s.foresee(dot)
	}
	s.foresee(end)
	if !m.Partial {
		s.incorporate(end)
	}
	return m, nil
}

// incoming is a delta that was parsed and found sound.
type incoming struct {
	fields [][]crdt.Field // of each document
	young  []bool         // of each document: no dot in it is at or below stable
	named  crdt.VersionVector
}

func (s *Space) examine(d *crdt.Delta, self crdt.ReplicaID, check func(hlc.Time) error, m *Merged) (incoming, error) {
	in := incoming{fields: make([][]crdt.Field, len(d.Documents)), young: make([]bool, len(d.Documents))}
	m.Max = max(d.To, d.Horizon.Max())
	var dots []crdt.Dot
	cells, bytes := 0, 0
	for _, doc := range d.Documents {
		bytes += len(doc.Cells)
		if cells += codec.Count(doc.Cells); cells > crdt.MaxDeltaFields {
			return in, fmt.Errorf("%w: %w", ErrMalformed,
				&crdt.LimitError{What: "delta", Size: cells, Limit: crdt.MaxDeltaFields, Unit: "fields"})
		}
	}
	slab := codec.NewSlab(cells, bytes)
	for i, doc := range d.Documents {
		if err := crdt.CheckKey(doc.Key); err != nil {
			return in, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if i > 0 && doc.Key <= d.Documents[i-1].Key {
			return in, fmt.Errorf("%w: document %q is out of order", ErrMalformed, doc.Key)
		}
		fields, err := slab.ParseCells(doc.Cells)
		if err == nil && len(fields) == 0 {
			err = errNoCells
		}
		if err == nil {
			dots, err = codec.AppendDots(dots[:0], doc.Cells)
		}
		if err != nil {
			return in, fmt.Errorf("%w: document %q: %w", ErrMalformed, doc.Key, err)
		}
		in.fields[i], in.young[i] = fields, true
		for _, dot := range dots {
			in.named.Advance(dot)
			in.young[i] = in.young[i] && !s.stable.Covers(dot)
		}
		for _, f := range fields {
			for _, e := range f.Cell.Live {
				m.Max = max(m.Max, e.Stamp)
			}
		}
	}
	m.Max = max(m.Max, in.named.Max())
	m.Foreign = s.isForeign(self, in.named) || s.isForeign(self, crdt.NewVersionVector(crdt.Dot{Replica: d.Origin, Time: d.To}))
	for id := range s.owned {
		t := max(in.named.Get(id), d.Horizon.Get(id))
		if d.Origin == id {
			t = max(t, d.To)
		}
		m.Own.Advance(crdt.Dot{Replica: id, Time: t})
	}
	return in, check(m.Max)
}

// isForeign reports whether vv covers a dot of self, or of one of its lanes, that self never gave.
func (s *Space) isForeign(self crdt.ReplicaID, vv crdt.VersionVector) bool {
	for d := range vv.All() {
		if !s.vv.Covers(d) && d.Replica.IsLaneOf(self) {
			return true
		}
	}
	return false
}

// mergeDocument merges the fields of one document, or the first of them: as many as there is room for, but one that changes
// at least. It returns how many.
func (s *Space) mergeDocument(r Reader, in crdt.DocumentDelta, fields []crdt.Field, young bool, left room, fresh *newcomers) (*outcome, int, error) {
	found, err := s.lookUp(r, in.Key)
	if err != nil {
		return nil, 0, err
	}
	if !found.hasRecord && young && !s.isMarked(in.Key) && len(in.Cells) <= maxInlineBytes {
		o, err := s.adopt(fresh.next(), in, fields)
		return o, len(fields), err
	}
	d, err := found.open(s, r)
	if err != nil {
		return nil, 0, err
	}
	return d.mergeFields(fields, left, d.mergeField)
}

// mergeFields merges fields, which come in the order of their paths, or the first of them, as mergeDocument does; merge reports
// whether one changed anything.
func (d *openDoc) mergeFields(fields []crdt.Field, left room, merge func(crdt.Field) bool) (*outcome, int, error) {
	var used room
	dirty := -1 // the last part that changed
	for n, f := range fields {
		i := d.partOf(f.Path)
		if err := d.load(i); err != nil {
			return nil, 0, err
		}
		more := d.costOf(i, f)
		if i > dirty {
			more = more.plus(d.costOfPart(i))
		}
		if dirty >= 0 && !left.holds(used.plus(more)) {
			o, err := d.finish()
			return o, n, err
		}
		if merge(f) {
			dirty, used = i, used.plus(more)
		}
	}
	o, err := d.finish()
	return o, len(fields), err
}

// newcomer is the memory for a document that is new here.
type newcomer struct {
	doc     openDoc
	outcome outcome
	whole   whole
	writes  [2]write // of the log and, now and then, of the conflicts
}

// newcomers gives out memory for those of one delta, in pieces of which each is twice the last one.
type newcomers struct {
	free []newcomer
	last int // the length of the last piece
}

const maxNewcomers = 64

func (n *newcomers) next() *newcomer {
	if len(n.free) == 0 {
		n.last = min(max(2*n.last, 1), maxNewcomers)
		n.free = make([]newcomer, n.last)
	}
	first := &n.free[0]
	n.free = n.free[1:]
	return first
}

// adopt takes a document that is new here as it came: merged into nothing, cells stay what they are, and
// their packed form is canonical.
func (s *Space) adopt(n *newcomer, in crdt.DocumentDelta, fields []crdt.Field) (*outcome, error) {
	n.doc = openDoc{space: s, key: in.Key, parts: n.whole.asParts()}
	n.outcome = outcome{doc: &n.doc, changed: fields, cells: in.Cells, record: record{cells: in.Cells}, batch: n.writes[:0]}
	o := &n.outcome
	for _, f := range fields {
		o.live += liveness(f.Cell)
		for _, e := range f.Cell.Live {
			o.digest.Add(in.Key, f.Path, e)
		}
	}
	if n := crdt.CountConflicts(fields); n > 0 {
		o.setConflicts(conflictCount{after: int64(n)})
	}
	return o, o.writeLog("", nil, in.Cells)
}
