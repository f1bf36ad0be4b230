package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
)

// A chunk is cells under one key. One cell can be larger than what a store takes as a value, for each of its
// siblings may have the size of the largest value; such a chunk is cut into segments, and the chunk's own key
// says how many there are.
const (
	maxSegmentBytes = 512 << 10
	maxSegments     = 1 << 10
	segmentedMark   = 0xff // no packed cells begin with it
)

// readChunk returns the packed cells under a chunk's key, and the number of segments that they are in (0: the key
// itself holds them). A chunk whose cells have all gone is empty.
func readChunk(r Reader, key []byte) (cells []byte, segments int, err error) {
	value, ok, err := r.Get(key)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return nil, 0, fmt.Errorf("%w: chunk %q is missing", ErrCorrupt, key)
	}
	b, err := unseal(key, value)
	if err != nil || len(b) == 0 || b[0] != segmentedMark {
		return b, 0, err
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n == 0 || n > maxSegments {
		return nil, 0, fmt.Errorf("%w: chunk %q of %d segments", ErrCorrupt, key, n)
	}
	for i := range int(n) {
		k := segmentKey(key, i)
		value, ok, err := r.Get(k)
		if err != nil {
			return nil, 0, err
		}
		if !ok {
			return nil, 0, fmt.Errorf("%w: segment %d of chunk %q is missing", ErrCorrupt, i, key)
		}
		piece, err := unseal(k, value)
		if err != nil {
			return nil, 0, err
		}
		cells = append(cells, piece...)
	}
	return cells, int(n), nil
}

// putChunk writes a chunk, and deletes the segments beyond those that it still needs; before is how many there were.
func (o *outcome) putChunk(key, cells []byte, before int) {
	segments := 0
	if len(cells) > maxSegmentBytes {
		for rest := cells; len(rest) > 0; segments++ {
			n := min(len(rest), maxSegmentBytes)
			k := segmentKey(key, segments)
			o.put(k, seal(k, append(make([]byte, 4, 4+n), rest[:n]...)))
			rest = rest[n:]
		}
		cells = binary.AppendUvarint([]byte{segmentedMark}, uint64(segments))
	}
	o.put(key, seal(key, append(make([]byte, 4, 4+len(cells)), cells...)))
	for i := segments; i < before; i++ {
		o.delete(segmentKey(key, i))
	}
}

// parseChunk parses the cells of a chunk, which may be none.
func parseChunk(cells []byte) ([]crdt.Field, []crdt.Dot, error) {
	if len(cells) == 0 {
		return nil, nil, nil
	}
	fields, err := codec.ParseCells(cells)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	dots, err := codec.AppendDots(nil, cells)
	return fields, dots, err
}
