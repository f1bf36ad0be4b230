package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Vectors: [self uint, vv bin, stable bin].

func appendVectors(dst []byte, m *protocol.Vectors) ([]byte, error) {
	e := begin(dst, TypeVectors, 3)
	e.uint("self", uint64(m.Self))
	e.vector("vv", m.VV)
	e.vector("stable", m.Stable)
	return e.end()
}

func parseVectors(body []byte) (*protocol.Vectors, error) {
	m := new(protocol.Vectors)
	d := open(TypeVectors, body)
	d.next("self")
	m.Self = crdt.ReplicaID(d.uint("self"))
	d.next("vv")
	m.VV = d.vector("vv")
	d.next("stable")
	m.Stable = d.vector("stable")
	return m, d.close()
}
