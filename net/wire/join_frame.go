package wire

import (
	"math"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// These three go over a connection that was made for them alone, where the node at the other end need not be known.
//
//	Join: [space bin of 32, ticket bin of 32, proof bin of 64, statements bin]
//	Joined: [statements bin]
//	JoinRefused: [code uint, text str, statements bin]

// AppendJoin appends a request as a whole frame.
func AppendJoin(dst []byte, r protocol.JoinRequest) ([]byte, error) {
	e := begin(dst, TypeJoin, 4)
	if len(r.Statements) > protocol.MaxJoinBytes {
		e.fail("statements", ErrTooLarge)
	}
	e.bin("space", r.Space[:])
	e.bin("ticket", r.Ticket[:])
	e.bin("proof", r.Proof[:])
	e.bin("statements", r.Statements)
	return e.end()
}

// ParseJoin parses a whole Join frame.
func ParseJoin(b []byte) (r protocol.JoinRequest, err error) {
	body, err := expect(TypeJoin, b)
	if err != nil {
		return r, err
	}
	d := open(TypeJoin, body)
	d.next("space")
	d.fixed("space", r.Space[:])
	d.next("ticket")
	d.fixed("ticket", r.Ticket[:])
	d.next("proof")
	d.fixed("proof", r.Proof[:])
	d.next("statements")
	r.Statements = d.bin("statements", protocol.MaxJoinBytes)
	return r, d.close()
}

// AppendJoinAnswer appends an answer as a whole frame: a Joined, or a JoinRefused.
func AppendJoinAnswer(dst []byte, a protocol.JoinAnswer) ([]byte, error) {
	var e *encoder
	if a.Code == protocol.Joined {
		e = begin(dst, TypeJoined, 1)
	} else {
		e = begin(dst, TypeJoinRefused, 3)
		e.uint("code", uint64(a.Code))
		e.str("text", cut(a.Text, protocol.MaxRefusalText), protocol.MaxRefusalText)
	}
	if len(a.Statements) > protocol.MaxJoinBytes {
		e.fail("statements", ErrTooLarge)
	}
	e.bin("statements", a.Statements)
	return e.end()
}

// ParseJoinAnswer parses a whole Joined or JoinRefused frame.
func ParseJoinAnswer(b []byte) (a protocol.JoinAnswer, err error) {
	t, body, err := split(b)
	switch {
	case err != nil:
		return a, err
	case t == TypeJoined:
		d := open(t, body)
		d.next("statements")
		a.Statements = d.bin("statements", protocol.MaxJoinBytes)
		return a, d.close()
	case t != TypeJoinRefused:
		return a, &FrameError{t, "type", ErrUnexpected}
	}
	d := open(t, body)
	d.next("code")
	code := d.uint("code")
	if code == 0 || code > math.MaxUint8 {
		d.fail("code", ErrValue)
	}
	a.Code = protocol.JoinCode(code)
	d.next("text")
	a.Text = d.str("text", protocol.MaxRefusalText)
	d.next("statements")
	a.Statements = d.bin("statements", protocol.MaxJoinBytes)
	return a, d.close()
}
