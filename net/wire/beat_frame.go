package wire

// Beat: [filler bin]. It means nothing. Who has restarted answers a packet of a connection that it lost with a stateless reset
// (RFC 9000, section 10.3), but only one that is longer than the reset, which QUIC's own keep-alives are not.

// beatFiller is enough to make the packet longer than any stateless reset has to be.
const beatFiller = 32

// AppendBeat appends a Beat as a whole frame. UnmarshalControl skips it.
func AppendBeat(dst []byte) ([]byte, error) {
	e := begin(dst, TypeBeat, 1)
	e.bin("filler", make([]byte, beatFiller))
	return e.end()
}
