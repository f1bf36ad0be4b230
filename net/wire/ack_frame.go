package wire

import "github.com/anabranch-db/anabranch/replica/protocol"

// Ack: [vv bin].

func appendAck(dst []byte, m *protocol.Ack) ([]byte, error) {
	e := begin(dst, TypeAck, 1)
	e.vector("vv", m.VV)
	return e.end()
}

func parseAck(body []byte) (*protocol.Ack, error) {
	m := new(protocol.Ack)
	d := open(TypeAck, body)
	d.next("vv")
	m.VV = d.vector("vv")
	return m, d.close()
}
