package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Opening: [self uint, vv hash bin of 16, vv entries uint, stable hash bin of 16, stable entries uint], and
// ahead bin and open bin unless those are empty.

func appendOpening(dst []byte, m *protocol.Opening) ([]byte, error) {
	e := begin(dst, TypeOpening, 5+aheadElements(m.Ahead, m.Open))
	e.uint("self", uint64(m.Self))
	e.summary("vv", m.VV)
	e.summary("stable", m.Stable)
	e.ahead(m.Ahead, m.Open)
	return e.end()
}

func (e *encoder) summary(field string, s protocol.VectorSummary) {
	if s.Entries < 0 || s.Entries > MaxVectorEntries {
		e.fail(field, ErrTooLarge)
		return
	}
	e.bin(field, s.Hash[:])
	e.uint(field, uint64(s.Entries))
}

func parseOpening(body []byte) (*protocol.Opening, error) {
	m := new(protocol.Opening)
	d := open(TypeOpening, body)
	d.next("self")
	m.Self = crdt.ReplicaID(d.uint("self"))
	m.VV = d.summary("vv")
	m.Stable = d.summary("stable")
	m.Ahead, m.Open = d.ahead()
	return m, d.close()
}

func (d *decoder) summary(field string) (s protocol.VectorSummary) {
	d.next(field)
	s.Hash = d.hash(field)
	d.next(field)
	n := d.uint(field)
	if n > MaxVectorEntries {
		d.fail(field, ErrTooLarge)
		return s
	}
	s.Entries = int(n)
	return s
}
