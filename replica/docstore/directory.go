package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
)

// A directory lists where each chunk of a document begins; the first begins at the empty path. Paths may be long, and
// documents large, so it can outgrow one value: then it is cut into pieces, and its own key says how many there are,
// after a count of no chunks, which none has.

// putDirectory writes the directory of the document, and deletes the pieces that it does not need any more.
func (o *outcome) putDirectory(starts []crdt.PathKey) {
	d := o.doc
	list := binary.AppendUvarint(make([]byte, 4, 256), uint64(len(starts)))
	for _, s := range starts {
		list = binary.AppendUvarint(list, uint64(len(s)))
		list = append(list, s...)
	}
	pieces := 0
	if len(list) > maxSegmentBytes {
		for rest := list[4:]; len(rest) > 0; pieces++ {
			n := min(len(rest), maxSegmentBytes)
			k := pieceKey(d.space.number, d.key, pieces)
			o.put(k, seal(k, append(make([]byte, 4, 4+n), rest[:n]...)))
			rest = rest[n:]
		}
		list = binary.AppendUvarint(append(make([]byte, 4), 0), uint64(pieces))
	}
	key := directoryKey(d.space.number, d.key)
	o.put(key, seal(key, list))
	o.dropPieces(pieces)
}

func (o *outcome) dropPieces(from int) {
	for i := from; i < o.doc.pieces; i++ {
		o.delete(pieceKey(o.doc.space.number, o.doc.key, i))
	}
}

// readDirectory returns the parts of a document, of which no more is known than where they begin, and the number of pieces that the directory is in.
func readDirectory(r Reader, space uint32, document string) (parts []part, pieces int, err error) {
	key := directoryKey(space, document)
	b, err := readSealed(r, key)
	if err != nil {
		return nil, 0, err
	}
	if len(b) == 0 || b[0] != 0 {
		parts, err = parseDirectory(key, string(b))
		return parts, 0, err
	}
	n, size := binary.Uvarint(b[1:])
	if size <= 0 || n == 0 || n > maxSegments {
		return nil, 0, fmt.Errorf("%w: directory %q of %d pieces", ErrCorrupt, key, n)
	}
	var list []byte
	for i := range int(n) {
		piece, err := readSealed(r, pieceKey(space, document, i))
		if err != nil {
			return nil, 0, err
		}
		list = append(list, piece...)
	}
	parts, err = parseDirectory(key, string(list))
	return parts, int(n), err
}

// readSealed reads a value that must be there.
func readSealed(r Reader, key []byte) ([]byte, error) {
	value, ok, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %q is missing", ErrCorrupt, key)
	}
	return unseal(key, value)
}

// parseDirectory is what reading one field of a large document costs most: a document of 100,000 has more than 1,200 chunks.
func parseDirectory(key []byte, list string) ([]part, error) {
	n, text, ok := cutUvarint(list)
	if !ok || n == 0 || n > uint64(len(text)/2+1) { // each but the first takes two bytes at least
		return nil, fmt.Errorf("%w: directory %q has no count", ErrCorrupt, key)
	}
	parts := make([]part, n)
	for i := range parts {
		length, rest, ok := cutUvarint(text)
		if !ok || length > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: directory %q is cut short at chunk %d", ErrCorrupt, key, i)
		}
		start := crdt.PathKey(rest[:length])
		if i == 0 && start != "" || i > 0 && start <= parts[i-1].start {
			return nil, fmt.Errorf("%w: directory %q is out of order at chunk %d", ErrCorrupt, key, i)
		}
		parts[i].start, text = start, rest[length:]
	}
	if text != "" {
		return nil, fmt.Errorf("%w: directory %q has %d bytes too many", ErrCorrupt, key, len(text))
	}
	return parts, nil
}

func cutUvarint(s string) (n uint64, rest string, ok bool) {
	if s != "" && s[0] < 0x80 { // nearly all lengths
		return uint64(s[0]), s[1:], true
	}
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	if size <= 0 {
		return 0, s, false
	}
	return n, s[size:], true
}
