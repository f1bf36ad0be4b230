package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Level: [vector hash bin of 16, digest bin of 16, closed bool].

func appendLevel(dst []byte, m *protocol.Level) ([]byte, error) {
	digest := m.Digest.Bytes()
	e := begin(dst, TypeLevel, 3)
	e.bin("vector hash", m.VectorHash[:])
	e.bin("digest", digest[:])
	e.bool("closed", m.Closed)
	return e.end()
}

func parseLevel(body []byte) (*protocol.Level, error) {
	m := new(protocol.Level)
	d := open(TypeLevel, body)
	d.next("vector hash")
	m.VectorHash = d.hash("vector hash")
	d.next("digest")
	m.Digest = crdt.DigestFromBytes(d.hash("digest"))
	d.next("closed")
	m.Closed = d.bool("closed")
	return m, d.close()
}

func (d *decoder) hash(field string) (h [16]byte) {
	b := d.bin(field, len(h))
	if len(b) != len(h) {
		d.fail(field, ErrTruncated)
	}
	copy(h[:], b)
	return h
}
