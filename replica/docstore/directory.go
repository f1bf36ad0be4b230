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

// readDirectory returns where the chunks begin, and the number of pieces that the directory is in.
func readDirectory(r Reader, space uint32, document string) (starts []crdt.PathKey, pieces int, err error) {
	key := directoryKey(space, document)
	b, err := readSealed(r, key)
	if err != nil {
		return nil, 0, err
	}
	if len(b) == 0 || b[0] != 0 {
		starts, err = parseDirectory(key, string(b))
		return starts, 0, err
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
	starts, err = parseDirectory(key, string(list))
	return starts, int(n), err
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

func parseDirectory(key []byte, list string) ([]crdt.PathKey, error) {
	n, text, ok := cutUvarint(list)
	if !ok || n == 0 || n > uint64(len(list)) {
		return nil, fmt.Errorf("%w: directory %q has no count", ErrCorrupt, key)
	}
	starts := make([]crdt.PathKey, 0, n)
	for i := range n {
		length, rest, ok := cutUvarint(text)
		if !ok || length > uint64(len(rest)) {
			return nil, fmt.Errorf("%w: directory %q is cut short at chunk %d", ErrCorrupt, key, i)
		}
		start := crdt.PathKey(rest[:length])
		if i == 0 && start != "" || i > 0 && start <= starts[i-1] {
			return nil, fmt.Errorf("%w: directory %q is out of order at chunk %d", ErrCorrupt, key, i)
		}
		starts, text = append(starts, start), rest[length:]
	}
	if text != "" {
		return nil, fmt.Errorf("%w: directory %q has %d bytes too many", ErrCorrupt, key, len(text))
	}
	return starts, nil
}

func cutUvarint(s string) (n uint64, rest string, ok bool) {
	n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
	if size <= 0 {
		return 0, s, false
	}
	return n, s[size:], true
}
