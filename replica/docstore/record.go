package docstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ErrCorrupt says that something stored does not parse or does not match its checksum.
var ErrCorrupt = errors.New("stored record is corrupt")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts the checksum of key and payload into the first four bytes of value, which the caller left
// free. The key is part of it, so that a record that turns up under another key is noticed.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[4:])
	binary.LittleEndian.PutUint32(value, sum)
	return value
}

func unseal(key, value []byte) ([]byte, error) {
	if len(value) < 4 {
		return nil, fmt.Errorf("%w: %q has %d bytes", ErrCorrupt, key, len(value))
	}
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value[4:]) != binary.LittleEndian.Uint32(value) {
		return nil, fmt.Errorf("%w: checksum of %q does not match", ErrCorrupt, key)
	}
	return value[4:], nil
}

// A document's record begins with one of these.
const (
	recordInline  = 1 // arrival, then all cells
	recordChunked = 2 // arrival, the number of live fields, whether there is a cell at the root; the cells are in chunks
)

// record is the parsed form of a document's record.
type record struct {
	arrival uint64
	chunked bool
	live    int64  // chunked: fields with live entries
	root    bool   // chunked: there is a cell at the empty path
	cells   []byte // inline
}

func (r record) pack(key []byte) []byte { return r.packIn(new(arena), key) }

func (r record) packIn(a *arena, key []byte) []byte {
	b := a.room(4 + 1 + binary.MaxVarintLen64*2 + 1 + len(r.cells))[:4]
	if r.chunked {
		b = append(b, recordChunked)
		b = binary.AppendUvarint(b, r.arrival)
		b = binary.AppendUvarint(b, uint64(r.live))
		b = append(b, flag(r.root))
	} else {
		b = append(b, recordInline)
		b = binary.AppendUvarint(b, r.arrival)
		b = append(b, r.cells...)
	}
	return seal(key, b)
}

func parseRecord(key, value []byte) (record, error) {
	b, err := unseal(key, value)
	if err != nil {
		return record{}, err
	}
	if len(b) < 2 || b[0] != recordInline && b[0] != recordChunked {
		return record{}, fmt.Errorf("%w: %q is of no known kind", ErrCorrupt, key)
	}
	r := record{chunked: b[0] == recordChunked}
	arrival, n := binary.Uvarint(b[1:])
	if n <= 0 {
		return record{}, fmt.Errorf("%w: %q has no arrival number", ErrCorrupt, key)
	}
	r.arrival, b = arrival, b[1+n:]
	if !r.chunked {
		r.cells = b
		return r, nil
	}
	live, n := binary.Uvarint(b)
	if n <= 0 || n+1 != len(b) || b[n] > 1 {
		return record{}, fmt.Errorf("%w: %q has no count of live fields", ErrCorrupt, key)
	}
	r.live, r.root = int64(live), b[n] == 1
	return r, nil
}

// readRecord reads the record of a document; ok is false if there is none.
func readRecord(r Reader, space uint32, key string) (rec record, ok bool, err error) {
	k := documentKey(space, key)
	value, ok, err := r.Get(k)
	if err != nil || !ok {
		return record{}, false, err
	}
	rec, err = parseRecord(k, value)
	return rec, err == nil, err
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}
