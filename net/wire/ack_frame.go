package wire

import "github.com/anabranch-db/anabranch/replica/protocol"

// Ack: [vv bin], and open bin unless that is empty.

func appendAck(dst []byte, m *protocol.Ack) ([]byte, error) {
	e := begin(dst, TypeAck, 1+min(len(m.Open), 1))
	e.vector("vv", m.VV)
	if len(m.Open) > 0 {
		e.entries("open", m.Open, MaxVectorEntries)
	}
	return e.end()
}

func parseAck(body []byte) (*protocol.Ack, error) {
	m := new(protocol.Ack)
	d := open(TypeAck, body)
	d.next("vv")
	m.VV = d.vector("vv")
	if d.left > 0 {
		d.next("open")
		m.Open = d.entries("open", MaxVectorEntries)
	}
	return m, d.close()
}
