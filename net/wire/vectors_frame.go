package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Vectors: [self uint, vv bin, stable bin], and ahead bin unless that is empty.

func appendVectors(dst []byte, m *protocol.Vectors) ([]byte, error) {
	e := begin(dst, TypeVectors, 3+aheadElements(m.Ahead))
	e.uint("self", uint64(m.Self))
	e.vector("vv", m.VV)
	e.vector("stable", m.Stable)
	e.ahead(m.Ahead)
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
	m.Ahead = d.ahead()
	return m, d.close()
}

func aheadElements(ahead crdt.VersionVector) int { return min(ahead.Len(), 1) }

func (e *encoder) ahead(ahead crdt.VersionVector) {
	if ahead.Len() > 0 {
		e.vector("ahead", ahead)
	}
}

func (d *decoder) ahead() crdt.VersionVector {
	if d.left == 0 {
		return crdt.VersionVector{}
	}
	d.next("ahead")
	return d.vector("ahead")
}
