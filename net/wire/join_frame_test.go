package wire

import (
	"errors"
	"testing"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

func TestBadJoinFrames(t *testing.T) {
	space, proof := bin(make([]byte, 32)...), bin(make([]byte, 64)...)
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"a ticket that is short":      {frameOf(TypeJoin, arr(4), space, bin(make([]byte, 31)...), proof, bin()), ErrTruncated},
		"a space that is long":        {frameOf(TypeJoin, arr(4), bin(make([]byte, 33)...), space, proof, bin()), ErrTooLarge},
		"a proof as text":             {frameOf(TypeJoin, arr(4), space, space, str("x"), bin()), ErrKind},
		"no statements":               {frameOf(TypeJoin, arr(3), space, space, proof), ErrTruncated},
		"statements over the limit":   {frameOf(TypeJoin, arr(4), space, space, proof, bin(make([]byte, protocol.MaxJoinBytes+1)...)), ErrTooLarge},
		"an answer over the limit":    {frameOf(TypeJoined, arr(1), bin(make([]byte, protocol.MaxJoinBytes+1)...)), ErrTooLarge},
		"a refusal without a code":    {frameOf(TypeJoinRefused, arr(3), u(0), str(""), bin()), ErrValue},
		"a refusal with the code 256": {frameOf(TypeJoinRefused, arr(3), u(256), str(""), bin()), ErrValue},
		"a refusal that ends early":   {frameOf(TypeJoinRefused, arr(2), u(1), str("")), ErrTruncated},
		"a refusal that is no UTF-8":  {frameOf(TypeJoinRefused, arr(3), u(1), str("\xff"), bin()), ErrUTF8},
	} {
		_, err := parse(c.frame)
		var typed *FrameError
		if !errors.As(err, &typed) || !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want a *FrameError of %v", name, err, c.want)
		}
		if m, err := Unmarshal(c.frame); m != nil || !errors.Is(err, ErrUnexpected) {
			t.Errorf("%s, in a session: %v, %v", name, m, err)
		}
	}
	if _, err := ParseJoinAnswer(frameOf(TypeJoin, arr(0))); !errors.Is(err, ErrUnexpected) {
		t.Errorf("a Join as an answer: %v", err)
	}
}
