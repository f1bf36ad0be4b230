package wire

import (
	"encoding/binary"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
)

// encoder appends one frame. It remembers the first error, so that a frame is written as a list of calls.
type encoder struct {
	out   []byte
	start int
	frame Type
	err   *FrameError
	enc   *msgpack.Encoder // writes to this encoder
}

var encoders = sync.Pool{New: func() any {
	e := new(encoder)
	e.enc = msgpack.NewEncoder(e)
	return e
}}

// begin starts a frame whose body has the given number of elements. Each begin is followed by one end.
func begin(dst []byte, t Type, elements int) *encoder {
	e := encoders.Get().(*encoder)
	e.out, e.start, e.frame, e.err = dst, len(dst), t, nil
	e.out = append(e.out, 0, 0, 0, 0, byte(t))
	e.array("body", elements)
	return e
}

// end completes the frame. After an error it returns what begin was given.
func (e *encoder) end() ([]byte, error) {
	out, start, failed := e.out, e.start, e.err
	if failed == nil && len(out)-start > MaxFrameBytes {
		failed = &FrameError{e.frame, "length", ErrTooLarge}
	}
	e.out = nil
	encoders.Put(e)
	if failed != nil {
		return out[:start], failed
	}
	binary.BigEndian.PutUint32(out[start:], uint32(len(out)-start-headerBytes))
	return out, nil
}

// Write and WriteByte serve the msgpack encoder.
func (e *encoder) Write(p []byte) (int, error) { e.out = append(e.out, p...); return len(p), nil }

func (e *encoder) WriteByte(c byte) error { e.out = append(e.out, c); return nil }

func (e *encoder) fail(field string, err error) {
	if e.err == nil && err != nil {
		e.err = &FrameError{e.frame, field, err}
	}
}

func (e *encoder) array(field string, n int) { e.fail(field, e.enc.EncodeArrayLen(n)) }

func (e *encoder) uint(field string, n uint64) { e.fail(field, e.enc.EncodeUint(n)) }

func (e *encoder) bool(field string, v bool) { e.fail(field, e.enc.EncodeBool(v)) }

func (e *encoder) str(field, s string, limit int) {
	if len(s) > limit {
		e.fail(field, ErrTooLarge)
		return
	}
	e.fail(field, e.enc.EncodeString(s))
}

func (e *encoder) bin(field string, b []byte) {
	if len(b) > MaxFrameBytes {
		e.fail(field, ErrTooLarge)
		return
	}
	e.fail(field, e.enc.EncodeBytesLen(len(b)))
	e.out = append(e.out, b...)
}

func (e *encoder) strings(field string, list []string, limit, each int) {
	if len(list) > limit {
		e.fail(field, ErrTooLarge)
		return
	}
	e.array(field, len(list))
	for _, s := range list {
		e.str(field, s, each)
	}
}
