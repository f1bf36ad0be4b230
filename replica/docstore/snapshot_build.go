package docstore

import (
	"fmt"
	"sort"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Size of the pieces of a snapshot. Each is merged and committed at once by its receiver.
const (
	pieceDocuments = 512
	pieceBytes     = 1 << 20
	pieceCell      = 4 << 20 // with one value more it fits a frame
)

// sampleDocuments is how many documents the size of a snapshot is reckoned from.
const sampleDocuments = 256

// SnapshotReader makes the pieces of one state. It keeps nothing in memory beside the piece that it makes, and the
// snapshot of the store open until it is closed.
type SnapshotReader struct {
	store store.Snapshot
	space uint32
	at    protocol.Position

	// MaxDocuments and MaxBytes bound a piece, unless one cell alone comes to more. MaxCell bounds that: of a larger one each
	// piece has some siblings.
	MaxDocuments, MaxBytes, MaxCell int

	parts []*protocol.SnapshotPiece // of one cell, to be sent next
	known known
}

// OpenSnapshot begins a snapshot of the state of a space in r, which it closes at the end or after an error, for a request.
func OpenSnapshot(r store.Snapshot, space uint32, q *protocol.SnapshotRequest) (*SnapshotReader, *protocol.SnapshotBegin, error) {
	s, err := Load(r, space)
	if err == nil && s.rejoin.mark != nil {
		err = fmt.Errorf("space %d is being brought up itself", space)
	}
	var bytes uint64
	if err == nil {
		bytes, err = s.reckon(r)
	}
	if err != nil {
		r.Close()
		return nil, nil, err
	}
	begin := &protocol.SnapshotBegin{
		VV: s.vv, Stable: s.stable, Horizon: s.horizon, Documents: uint64(max(s.documents, 0)), Bytes: bytes,
	}
	if protocol.ContinuesFrom(q.V, s.vv, s.stable) {
		begin.From = q.From
	}
	reader := &SnapshotReader{store: r, space: space, at: begin.From, MaxDocuments: pieceDocuments, MaxBytes: pieceBytes, MaxCell: pieceCell}
	if k := q.Known; k != nil && k.Stable.LessOrEqual(s.stable) {
		begin.Round = k.Round
		reader.known = known{fingerprint: fingerprint{stable: k.Stable, salt: k.Round}, parts: k.Parts, until: k.End()}
	}
	return reader, begin, nil
}

// reckon estimates the bytes of a snapshot from its first documents.
func (s *Space) reckon(r store.Snapshot) (uint64, error) {
	n, bytes := uint64(0), uint64(0)
	prefix := spaceKey(kindDocument, s.number, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return 0, fmt.Errorf("scan the documents: %w", err)
		}
		bytes += uint64(len(e.Key) + len(e.Value))
		if n++; n == sampleDocuments {
			break
		}
	}
	return bytes * uint64(max(s.documents, 0)) / max(n, 1), nil
}

// Close ends the snapshot.
func (r *SnapshotReader) Close() { r.store.Close() }

// Next returns the next piece; after one that IsLast it must not be called.
func (r *SnapshotReader) Next() (*protocol.SnapshotPiece, error) {
	if len(r.parts) > 0 {
		p := r.parts[0]
		r.parts = r.parts[1:]
		return p, nil
	}
	if p, err := r.equal(); p != nil || err != nil {
		return p, err
	}
	b := pieceBuilder{reader: r, piece: &protocol.SnapshotPiece{Range: protocol.Range{Lower: r.at}}}
	prefix := spaceKey(kindDocument, r.space, 0)
	start, end := rangeKeys(r.space, protocol.Range{Lower: r.at, Upper: r.known.limit})
	for e, err := range r.store.Scan(start, end) {
		if err != nil {
			return nil, fmt.Errorf("scan the documents: %w", err)
		}
		key := string(e.Key[len(prefix):])
		if b.isFull() {
			b.piece.Upper = protocol.Position{Key: key}
			break
		}
		rec, err := parseRecord(e.Key, e.Value)
		if err == nil {
			if rec.chunked {
				err = b.addChunks(key)
			} else {
				err = b.add(key, append([]byte(nil), rec.cells...))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("read document %q for a snapshot: %w", key, err)
		}
		if !b.piece.Upper.IsZero() {
			break
		}
	}
	if b.piece.Upper.IsZero() {
		b.piece.Upper = r.known.limit
	}
	r.at = b.piece.Upper
	if len(r.parts) > 0 {
		return r.Next()
	}
	return b.piece, nil
}

// pieceBuilder fills one piece.
type pieceBuilder struct {
	reader *SnapshotReader
	piece  *protocol.SnapshotPiece
	bytes  int
	fields int
}

func (b *pieceBuilder) isFull() bool {
	return len(b.piece.Documents) >= b.reader.MaxDocuments || b.bytes >= b.reader.MaxBytes || b.fields >= crdt.MaxTransactionFields
}

func (b *pieceBuilder) put(key string, cells []byte) {
	b.piece.Documents = append(b.piece.Documents, crdt.DocumentDelta{Key: key, Cells: cells})
	b.bytes += len(key) + len(cells)
	b.fields += codec.Count(cells)
}

// add takes a document in one record, or what is left of it after the position.
func (b *pieceBuilder) add(key string, cells []byte) error {
	from := b.piece.Lower
	if key == from.Key && from.Path != "" {
		fields, err := codec.ParseCells(cells)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if fields = fieldsFrom(fields, from.Path); len(fields) == 0 {
			return nil
		}
		cells = codec.AppendCells(nil, fields)
	}
	b.put(key, cells)
	return nil
}

// addChunks takes a document in chunks after the position, as far as the piece has room: then it says where it stopped.
func (b *pieceBuilder) addChunks(key string) error {
	r := b.reader
	d := &openDoc{space: &Space{number: r.space}, from: r.store, key: key}
	if err := d.openDirectory(); err != nil {
		return err
	}
	i, from := 0, crdt.PathKey("")
	if key == b.piece.Lower.Key {
		from = b.piece.Lower.Path
		i = max(0, d.partOf(from))
	}
	var fields []crdt.Field
	for bytes := 0; i < len(d.parts); i++ {
		if b.bytes+bytes >= r.MaxBytes {
			b.piece.Upper = protocol.Position{Key: key, Path: d.parts[i].start}
			break
		}
		cells, _, err := readChunk(r.store, chunkKey(r.space, key, d.parts[i].start))
		if err != nil {
			return err
		}
		chunk, _, err := parseChunk(cells)
		if err == nil {
			err = d.checkPart(i, chunk)
		}
		if err != nil {
			return fmt.Errorf("chunk at %s: %w", d.parts[i].start, err)
		}
		if chunk = fieldsFrom(chunk, from); len(chunk) == 1 && len(chunk[0].Cell.Live) > 1 && len(cells) > r.MaxCell {
			if len(b.piece.Documents)+len(fields) > 0 {
				b.piece.Upper = protocol.Position{Key: key, Path: d.parts[i].start}
				break
			}
			b.piece.Upper = protocol.AfterDocument(key)
			if i+1 < len(d.parts) {
				b.piece.Upper.Key, b.piece.Upper.Path = key, d.parts[i+1].start
			}
			r.parts = partsOf(*b.piece, key, chunk[0], r.MaxCell)
			return nil
		}
		fields = append(fields, chunk...)
		bytes += len(cells)
	}
	if len(fields) > 0 {
		b.put(key, codec.AppendCells(nil, fields))
	}
	return nil
}

// fieldsFrom returns the fields at or after path p.
func fieldsFrom(fields []crdt.Field, p crdt.PathKey) []crdt.Field {
	return fields[sort.Search(len(fields), func(i int) bool { return fields[i].Path >= p }):]
}
