package docstore

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/crdt"
)

// fingerprint is a sum over cells, modulo 2^128, of a hash of what two replicas must agree on: key, path, the live entries with
// stamp, author and value, and the dots that are observed. Those at or below stable are left out, for a replica whose stable vector
// is at most that may have pruned them; a cell of which nothing is left counts for nothing, for such a replica may have dropped
// it. The salt makes a collision of one repair none of the next.
type fingerprint struct {
	stable crdt.VersionVector
	salt   uint64
	buf    []byte
}

// add adds the hash of one cell to the sum.
func (f *fingerprint) add(sum *crdt.Digest, key string, field crdt.Field) {
	sum.AddDigest(f.of(key, field))
}

// of returns the hash of one cell; zero if it counts for nothing.
func (f *fingerprint) of(key string, field crdt.Field) crdt.Digest {
	b := binary.LittleEndian.AppendUint32(f.buf[:0], uint32(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(field.Path)))
	b = append(b, field.Path...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(field.Cell.Live)))
	empty := len(field.Cell.Live) == 0
	for _, e := range field.Cell.Live {
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Dot.Replica))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Dot.Time))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Stamp))
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Author))
		b = binary.LittleEndian.AppendUint32(b, uint32(e.Value.PackedSize()))
		b = e.Value.AppendPacked(b)
	}
	for d := range field.Cell.Observed.All() {
		if f.stable.Covers(d) {
			continue
		}
		empty = false
		b = binary.LittleEndian.AppendUint64(b, uint64(d.Replica))
		b = binary.LittleEndian.AppendUint64(b, uint64(d.Time))
	}
	f.buf = b
	if empty {
		return crdt.Digest{}
	}
	h := xxh3.Hash128Seed(b, f.salt)
	return crdt.Digest{Hi: h.Hi, Lo: h.Lo}
}
