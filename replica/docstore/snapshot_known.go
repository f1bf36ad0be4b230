package docstore

import (
	"context"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Sizes of the ranges that who asks for a snapshot tells fingerprints of, in documents and chunks of large ones.
const (
	knownWidth  = 64      // beyond that they do not grow; the request has those that fit it, and the next one more
	knownKeys   = 1 << 20 // bytes of the keys that bound them, about
	knownPieces = 256     // a range of more is not compared, but sent
	equalLimit  = 1024    // so much is compared at once with what a piece calls equal
)

// Grain says how fine the ranges of a request are.
type Grain struct {
	Ranges int // at most so many; an even number
	Width  int // so many pieces of documents in each, or less where all fits
}

// UsualGrain is how fine the ranges of a request are.
func UsualGrain() Grain { return Grain{Ranges: protocol.MaxKnownRanges, Width: knownWidth} }

// ReadKnownRanges returns what there is in r from a position on, nil if that is nothing. It reads about as much as the grain has room
// for.
func ReadKnownRanges(ctx context.Context, r store.Snapshot, space uint32, round uint64, stable crdt.VersionVector, from protocol.Position, grain Grain) (*protocol.KnownRanges, error) {
	if from.Path != "" {
		from = protocol.AfterDocument(from.Key)
	}
	f := fingerprint{stable: stable, salt: round}
	var list []splitPart
	end := protocol.Position{}
	width := 1
	last := ""
	size := 0
	for p, err := range pieces(ctx, r, space, protocol.Range{Lower: from}) {
		if err != nil {
			return nil, err
		}
		if n := len(list); n == 0 || p.at.Key != last && list[n-1].Pieces >= width {
			start := separator(last, protocol.Position{Key: p.at.Key})
			if size += len(start.Key); n > 0 && size > knownKeys || n == grain.Ranges && width >= grain.Width {
				end = start
				break
			}
			if n == grain.Ranges {
				list, width = halve(list), 2*width
			}
			list = append(list, splitPart{Part: protocol.Part{Range: protocol.Range{Lower: start}}})
		}
		l := &list[len(list)-1]
		l.Pieces++
		l.Damaged = l.Damaged || p.damage != nil || l.Pieces > knownPieces
		for _, field := range p.fields {
			f.add(&l.sum, p.at.Key, field)
		}
		last = p.at.Key
	}
	if len(list) == 0 {
		return nil, nil
	}
	k := &protocol.KnownRanges{Round: round, Stable: stable, Parts: make([]protocol.Part, len(list))}
	list[0].Lower = from
	for i := range list {
		k.Parts[i] = list[i].Part
		k.Parts[i].Fingerprint = list[i].sum.Lo
		k.Parts[i].Upper = end
		if i > 0 {
			k.Parts[i-1].Upper = k.Parts[i].Lower
		}
	}
	return k, nil
}

// known is what a SnapshotReader knows of what its receiver has.
type known struct {
	fingerprint
	parts []protocol.Part   // not compared yet
	until protocol.Position // the end of the last part

	// What comes before limit is sent: it differs, or nothing is known of it. Zero is the end.
	limited bool
	limit   protocol.Position
}

// IsLast reports whether nothing comes after a piece: it ends the state, or what the receiver told of.
func (r *SnapshotReader) IsLast(p *protocol.SnapshotPiece) bool { return p.EndsAt(r.known.until) }

// equal returns a piece that says how far the receiver has the same, nil if it has not. Then limit says how far that is so.
func (r *SnapshotReader) equal() (*protocol.SnapshotPiece, error) {
	k := &r.known
	if k.limited && (k.limit.IsZero() || r.at.Compare(k.limit) < 0) {
		return nil, nil
	}
	for len(k.parts) > 0 && k.parts[0].Lower.Compare(r.at) < 0 {
		k.parts = k.parts[1:]
	}
	k.limited, k.limit = true, k.until
	if len(k.parts) == 0 {
		return nil, nil
	}
	if first := k.parts[0].Lower; first.Compare(r.at) > 0 {
		k.limit = first
		return nil, nil
	}
	p := &protocol.SnapshotPiece{Range: protocol.Range{Lower: r.at}, Equal: true}
	differs := false
	for n := 0; len(k.parts) > 0; k.parts = k.parts[1:] {
		part := &k.parts[0]
		same, count, err := r.compare(part)
		switch n += max(count, 1); {
		case err != nil:
			return nil, err
		case part.Lower != r.at && (same == differs || n > r.MaxDocuments):
			return r.whatEquals(p, differs), nil
		case same:
			p.Fingerprint += part.Fingerprint
			p.Upper = part.Upper
		default:
			differs, k.limit = true, part.Upper
		}
	}
	return r.whatEquals(p, differs), nil
}

func (r *SnapshotReader) whatEquals(p *protocol.SnapshotPiece, differs bool) *protocol.SnapshotPiece {
	if differs {
		return nil
	}
	r.known.limited, r.at = false, p.Upper
	return p
}

// compare reports whether the receiver has the same in a part as the state, and how much it is here.
func (r *SnapshotReader) compare(part *protocol.Part) (same bool, n int, err error) {
	if part.Damaged {
		return false, 0, nil
	}
	var sum crdt.Digest
	for p, err := range pieces(context.Background(), r.store, r.space, part.Range) {
		if err == nil {
			err = p.damage
		}
		if err != nil {
			return false, 0, err
		}
		if n++; n > knownPieces {
			return false, n, nil
		}
		for _, field := range p.fields {
			r.known.add(&sum, p.at.Key, field)
		}
	}
	return sum.Lo == part.Fingerprint, n, nil
}

// KnownFrom returns from where on to tell the source of a snapshot what is here, and at or below which vector what is observed
// does not count, if the source has said that offered is stable. It reports whether there is anything to tell.
func (s *Space) KnownFrom(offered crdt.VersionVector) (from protocol.Position, stable crdt.VersionVector, ok bool) {
	stable = offered.Clone()
	from = s.rejoin.changed
	if m := s.rejoin.mark; m != nil {
		stable.Join(m.Stable)
		if from.Compare(m.Position) < 0 {
			from = m.Position
		}
	}
	return from, stable, !s.rejoin.changedToEnd
}

// mergeEqual moves the position over a range in which the source has what is here. Merging that would change nothing, but for dots
// that are observed there at or below its stable vector, which whoever has that need not know of. What is here may have
// changed since the source was told: ErrGap says so, and the next request tells nothing of the range.
func (s *Space) mergeEqual(over *Overlay, p *protocol.Piece, m *MergedPiece) error {
	mark := s.rejoin.mark
	if p.Known == nil || !p.Known.Stable.LessOrEqual(p.Of.Stable) || p.Lower.Path != "" || p.Upper.Path != "" || p.Partial || len(p.Documents) > 0 {
		return fmt.Errorf("%w: the range at %v is said to be equal to what nobody told of", ErrMalformed, p.Lower)
	}
	same, documents, err := s.hasEqual(over, p)
	if err != nil {
		return err
	}
	if !same {
		if s.rejoin.changedToEnd || p.Lower.Compare(s.rejoin.changed) < 0 {
			return fmt.Errorf("%w: the range at %v is not equal, as was said before", ErrMalformed, p.Lower)
		}
		s.rejoin.changed, s.rejoin.changedToEnd = p.Upper, p.IsLast()
		return fmt.Errorf("%w: the range at %v has changed since the snapshot was asked for", ErrGap, p.Lower)
	}
	m.New = true
	s.hide(s.horizon.Beyond(s.vv))
	mark.Add(documents, 0)
	s.rejoin.moved, s.dirty = true, true
	if p.IsLast() {
		m.End, m.Risen = true, s.completeSnapshot()
		return nil
	}
	mark.Position = p.Upper
	m.Next = mark.Position
	return nil
}

// hasEqual reports whether what is here in the range has the fingerprint of the piece, and how many documents that are.
func (s *Space) hasEqual(over *Overlay, p *protocol.Piece) (same bool, documents int, err error) {
	f := fingerprint{stable: p.Known.Stable, salt: p.Known.Round}
	var sum crdt.Digest
	parts := 0
	for key, err := range over.documents(s.number, p.Lower.Key) {
		if err != nil {
			return false, 0, err
		}
		if p.EndsBefore(protocol.Position{Key: key}) {
			break
		}
		d, err := s.open(over, key)
		if err != nil {
			return false, 0, err
		}
		documents++
		if parts += len(d.parts); parts > equalLimit {
			return false, documents, nil
		}
		for i := range d.parts {
			if err := d.load(i); err != nil {
				return false, 0, err
			}
		}
		for _, field := range d.doc.AppendFields(nil) {
			f.add(&sum, key, field)
		}
	}
	return sum.Lo == p.Fingerprint, documents, nil
}
