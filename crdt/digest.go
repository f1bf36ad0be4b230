package crdt

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// Digest is a sum modulo 2^128 of a hash of every live entry: of the document key, the path, and the whole entry (dot,
// stamp, author and value). It is a pure function of the live state, whatever the order in which that came about,
// and is kept up by Add and Sub. It finds bugs and damage; it does not stand against somebody who crafts
// collisions.
type Digest struct{ Hi, Lo uint64 }

// Add adds the hash of one live entry.
func (d *Digest) Add(key string, p PathKey, e Entry) {
	h := hashEntry(key, p, e)
	d.AddDigest(Digest{h.Hi, h.Lo})
}

// Sub takes the hash of one live entry out again.
func (d *Digest) Sub(key string, p PathKey, e Entry) {
	h := hashEntry(key, p, e)
	d.SubDigest(Digest{h.Hi, h.Lo})
}

// AddDigest adds the sum o.
func (d *Digest) AddDigest(o Digest) {
	var carry uint64
	d.Lo, carry = bits.Add64(d.Lo, o.Lo, 0)
	d.Hi, _ = bits.Add64(d.Hi, o.Hi, carry)
}

// SubDigest takes the sum o out again.
func (d *Digest) SubDigest(o Digest) {
	var borrow uint64
	d.Lo, borrow = bits.Sub64(d.Lo, o.Lo, 0)
	d.Hi, _ = bits.Sub64(d.Hi, o.Hi, borrow)
}

// Bytes returns the digest as 16 bytes, big endian.
func (d Digest) Bytes() [16]byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], d.Hi)
	binary.BigEndian.PutUint64(b[8:], d.Lo)
	return b
}

// DigestFromBytes is the inverse of Bytes.
func DigestFromBytes(b [16]byte) Digest {
	return Digest{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// String returns the digest as 32 hex digits.
func (d Digest) String() string { b := d.Bytes(); return hex.EncodeToString(b[:]) }

func hashEntry(key string, p PathKey, e Entry) xxh3.Uint128 {
	var stack [256]byte
	b := stack[:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(len(key)))
	b = append(b, key...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
	b = append(b, p...)
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Dot.Replica))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Dot.Time))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Stamp))
	b = binary.LittleEndian.AppendUint64(b, uint64(e.Author))
	b = e.Value.AppendPacked(b)
	return xxh3.Hash128(b)
}

// VectorHash returns a hash of a version vector, for comparing two vectors without sending them.
func VectorHash(vv VersionVector) [16]byte {
	b := make([]byte, 0, 16*vv.Len())
	for d := range vv.All() {
		b = binary.BigEndian.AppendUint64(b, uint64(d.Replica))
		b = binary.BigEndian.AppendUint64(b, uint64(d.Time))
	}
	h := xxh3.Hash128(b)
	return h.Bytes()
}
