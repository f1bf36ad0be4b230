package wire

import "github.com/anabranch-db/anabranch/replica/protocol"

// Grants: [hash bin of 32, statements bin]. What the statements are is package grant's business.

func appendGrants(dst []byte, m *protocol.Grants) ([]byte, error) {
	e := begin(dst, TypeGrants, 2)
	if len(m.Statements) > protocol.MaxGrantsBytes {
		e.fail("statements", ErrTooLarge)
	}
	e.bin("hash", m.Hash[:])
	e.bin("statements", m.Statements)
	return e.end()
}

func parseGrants(body []byte) (*protocol.Grants, error) {
	m := new(protocol.Grants)
	d := open(TypeGrants, body)
	d.next("hash")
	d.fixed("hash", m.Hash[:])
	d.next("statements")
	m.Statements = d.bin("statements", protocol.MaxGrantsBytes)
	return m, d.close()
}

// fixed reads bytes of a known number.
func (d *decoder) fixed(field string, into []byte) {
	b := d.bin(field, len(into))
	if len(b) != len(into) {
		d.fail(field, ErrTruncated)
	}
	copy(into, b)
}
