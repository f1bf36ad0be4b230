package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Vectors: [self uint, vv bin, stable bin], and ahead bin and open bin unless those are empty.

func appendVectors(dst []byte, m *protocol.Vectors) ([]byte, error) {
	e := begin(dst, TypeVectors, 3+aheadElements(m.Ahead, m.Open))
	e.uint("self", uint64(m.Self))
	e.vector("vv", m.VV)
	e.vector("stable", m.Stable)
	e.ahead(m.Ahead, m.Open)
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
	m.Ahead, m.Open = d.ahead()
	return m, d.close()
}

// aheadElements returns how many of the two are written. Elements are told apart by their places, so ahead is if open is.
func aheadElements(ahead crdt.VersionVector, open []crdt.Dot) int {
	switch {
	case len(open) > 0:
		return 2
	case ahead.Len() > 0:
		return 1
	}
	return 0
}

func (e *encoder) ahead(ahead crdt.VersionVector, open []crdt.Dot) {
	n := aheadElements(ahead, open)
	if n > 0 {
		e.vector("ahead", ahead)
	}
	if n > 1 {
		e.entries("open", open, MaxVectorEntries)
	}
}

func (d *decoder) ahead() (ahead crdt.VersionVector, open []crdt.Dot) {
	if d.left > 0 {
		d.next("ahead")
		ahead = d.vector("ahead")
	}
	if d.left > 0 {
		d.next("open")
		open = d.entries("open", MaxVectorEntries)
	}
	return ahead, open
}
