package docstore

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// rangePiece is a document that is in one record, or a chunk of a large one, as far as it lies in a range.
type rangePiece struct {
	at     protocol.Position
	fields []crdt.Field
	damage error // it cannot be read
}

// pieces yields the pieces of a range in their order. A record that does not match its checksum or does not parse is a piece that
// is damaged, and the walk goes on.
func pieces(ctx context.Context, r store.Snapshot, space uint32, g protocol.Range) iter.Seq2[rangePiece, error] {
	return func(yield func(rangePiece, error) bool) {
		start, end := rangeKeys(space, g)
		s := &Space{number: space}
		n := 0
		for e, err := range r.Scan(start, end) {
			if n++; n%256 == 0 && err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(rangePiece{}, fmt.Errorf("scan the documents: %w", err))
				return
			}
			key := string(e.Key[5:])
			d, err := s.openRecord(r, key, e.Key, e.Value)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) {
					yield(rangePiece{}, err)
					return
				}
				if !yield(rangePiece{at: protocol.Position{Key: key}, damage: err}, nil) {
					return
				}
				continue
			}
			if !d.eachPiece(g, yield) {
				return
			}
		}
	}
}

func rangeKeys(space uint32, g protocol.Range) (start, end []byte) {
	start = documentKey(space, g.Lower.Key)
	switch {
	case g.Upper.IsZero():
		return start, after(spaceKey(kindDocument, space, 0))
	case g.Upper.Path == "":
		return start, documentKey(space, g.Upper.Key)
	}
	return start, append(documentKey(space, g.Upper.Key), 0)
}

// eachPiece yields the pieces of one document, and reports whether to go on.
func (d *openDoc) eachPiece(g protocol.Range, yield func(rangePiece, error) bool) bool {
	if !d.chunked {
		p := rangePiece{at: protocol.Position{Key: d.key}, fields: d.fieldsIn(g, d.doc.AppendFields(nil))}
		return len(p.fields) == 0 || yield(p, nil)
	}
	first := 0
	if d.key == g.Lower.Key {
		first = max(0, d.partOf(g.Lower.Path))
	}
	for i, p := range d.parts[first:] {
		at := protocol.Position{Key: d.key, Path: p.start}
		if g.EndsBefore(at) {
			return false
		}
		cells, _, err := readChunk(d.from, chunkKey(d.space.number, d.key, p.start))
		var fields []crdt.Field
		if err == nil {
			fields, _, err = parseChunk(cells)
		}
		if err == nil {
			err = d.checkPart(first+i, fields)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				yield(rangePiece{}, err)
				return false
			}
			if !yield(rangePiece{at: at, damage: err}, nil) {
				return false
			}
			continue
		}
		if fields = d.fieldsIn(g, fields); len(fields) > 0 {
			if !yield(rangePiece{at: protocol.Position{Key: d.key, Path: fields[0].Path}, fields: fields}, nil) {
				return false
			}
		}
	}
	return true
}

// fieldsIn returns the fields that lie in the range.
func (d *openDoc) fieldsIn(g protocol.Range, fields []crdt.Field) []crdt.Field {
	at := func(f crdt.Field) protocol.Position { return protocol.Position{Key: d.key, Path: f.Path} }
	for len(fields) > 0 && d.key == g.Lower.Key && fields[0].Path < g.Lower.Path {
		fields = fields[1:]
	}
	for len(fields) > 0 && g.EndsBefore(at(fields[len(fields)-1])) {
		fields = fields[:len(fields)-1]
	}
	return fields
}

// SplitRange cuts a range into protocol.SplitParts to twice as many parts of about equally many pieces, fewer if there are fewer
// pieces, and returns what is in them. It reads the range once, and memory does not grow with it. round salts the fingerprints;
// they leave out what is observed at or below stable.
func SplitRange(ctx context.Context, r store.Snapshot, space uint32, stable crdt.VersionVector, round uint64, g protocol.Range) ([]protocol.Part, error) {
	f := fingerprint{stable: stable, salt: round}
	var list []splitPart
	width := 1 // pieces of a part
	last := ""
	for p, err := range pieces(ctx, r, space, g) {
		if err != nil {
			return nil, err
		}
		if n := len(list); n == 0 || list[n-1].Pieces >= width {
			if n == 2*protocol.SplitParts {
				list, width = halve(list), 2*width
			}
			list = append(list, splitPart{Part: protocol.Part{Range: protocol.Range{Lower: separator(last, p.at)}}})
		}
		l := &list[len(list)-1]
		l.Pieces++
		l.Damaged = l.Damaged || p.damage != nil
		for _, field := range p.fields {
			f.add(&l.sum, p.at.Key, field)
		}
		last = p.at.Key
	}
	if len(list) == 0 {
		list = []splitPart{{}}
	}
	parts := make([]protocol.Part, len(list))
	list[0].Lower = g.Lower
	for i := range list {
		parts[i] = list[i].Part
		parts[i].Fingerprint = list[i].sum.Lo
		parts[i].Upper = g.Upper
		if i > 0 {
			parts[i-1].Upper = parts[i].Lower
		}
	}
	return parts, nil
}

type splitPart struct {
	protocol.Part
	sum crdt.Digest
}

// halve joins each two neighbours.
func halve(list []splitPart) []splitPart {
	for i := range len(list) / 2 {
		a, b := list[2*i], list[2*i+1]
		a.Pieces += b.Pieces
		a.Damaged = a.Damaged || b.Damaged
		a.sum.AddDigest(b.sum)
		list[i] = a
	}
	return list[:len(list)/2]
}

// separator returns a short position that lies after the document before and not after at.
func separator(before string, at protocol.Position) protocol.Position {
	if at.Path != "" || at.Key <= before {
		return at
	}
	n := 0
	for n < len(before) && before[n] == at.Key[n] {
		n++
	}
	return protocol.Position{Key: at.Key[:n+1]}
}

// CompareRanges returns which of a peer's parts differ from what is here. The parts are in ascending order; each is read once.
func CompareRanges(ctx context.Context, r store.Snapshot, space uint32, stable crdt.VersionVector, round uint64, parts []protocol.Part) ([]protocol.RangeDifference, error) {
	f := fingerprint{stable: stable, salt: round}
	var differs []protocol.RangeDifference
	for i, part := range parts {
		var sum crdt.Digest
		n, damaged := 0, part.Damaged
		for p, err := range pieces(ctx, r, space, part.Range) {
			if err != nil {
				return nil, err
			}
			n++
			damaged = damaged || p.damage != nil
			for _, field := range p.fields {
				f.add(&sum, p.at.Key, field)
			}
		}
		if damaged || sum.Lo != part.Fingerprint {
			differs = append(differs, protocol.RangeDifference{Index: i, Pieces: n})
		}
	}
	return differs, nil
}

// TakeCells collects all cells of the first of some ranges, about protocol.RepairBytes of them.
func TakeCells(ctx context.Context, r store.Snapshot, space uint32, round uint64, ranges []protocol.Range) (*protocol.RangeCells, error) {
	c := &collector{cells: &protocol.RangeCells{Round: round}}
	err := c.collect(ctx, r, space, ranges, func(p rangePiece) []crdt.Field { return p.fields })
	return c.cells, err
}

// OtherCells collects the cells in the ranges of m that differ here from those in m, about protocol.RepairBytes of them: what to
// reply.
func OtherCells(ctx context.Context, r store.Snapshot, space uint32, stable crdt.VersionVector, m *protocol.RangeCells) (*protocol.RangeCells, error) {
	f := fingerprint{stable: stable, salt: m.Round}
	theirs := make(map[string]map[crdt.PathKey]crdt.Digest, len(m.Documents))
	for _, doc := range m.Documents {
		fields, err := parseIncoming(doc)
		if err != nil {
			return nil, err
		}
		hashes := make(map[crdt.PathKey]crdt.Digest, len(fields))
		for _, field := range fields {
			hashes[field.Path] = f.of(doc.Key, field)
		}
		theirs[doc.Key] = hashes
	}
	c := &collector{cells: &protocol.RangeCells{Round: m.Round, Reply: true}}
	err := c.collect(ctx, r, space, m.Spans, func(p rangePiece) []crdt.Field {
		var other []crdt.Field
		known := theirs[p.at.Key]
		for _, field := range p.fields {
			if f.of(p.at.Key, field) != known[field.Path] {
				other = append(other, field)
			}
		}
		return other
	})
	return c.cells, err
}

// collector fills a message with cells.
type collector struct {
	cells  *protocol.RangeCells
	key    string // of the document that is being put together
	fields []crdt.Field
	size   int
	count  int
}

func (c *collector) collect(ctx context.Context, r store.Snapshot, space uint32, ranges []protocol.Range, choose func(rangePiece) []crdt.Field) error {
	defer c.finish()
	for _, g := range ranges {
		span := g
		for p, err := range pieces(ctx, r, space, g) {
			if err != nil {
				return err
			}
			if c.isFull() && span.Lower.Compare(p.at) < 0 {
				span.Upper = p.at
				break
			}
			c.add(p.at.Key, choose(p))
		}
		c.cells.Spans = append(c.cells.Spans, span)
		if span.Upper != g.Upper || c.isFull() {
			break
		}
	}
	return nil
}

func (c *collector) isFull() bool {
	return c.size >= protocol.RepairBytes || c.count >= crdt.MaxDeltaFields/2 || len(c.cells.Documents) >= crdt.MaxTransactionDocuments-1
}

func (c *collector) add(key string, fields []crdt.Field) {
	if len(fields) == 0 {
		return
	}
	if key != c.key {
		c.finish()
		c.key = key
	}
	c.fields = append(c.fields, fields...)
	c.count += len(fields)
	c.size += len(key)
	for _, f := range fields {
		c.size += len(f.Path) + 16*f.Cell.Observed.Len()
		for _, e := range f.Cell.Live {
			c.size += 16 + e.Value.PackedSize()
		}
	}
}

func (c *collector) finish() {
	if len(c.fields) > 0 {
		c.cells.Documents = append(c.cells.Documents, crdt.DocumentDelta{Key: c.key, Cells: codec.AppendCells(nil, c.fields)})
	}
	c.fields = nil
}
