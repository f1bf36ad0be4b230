package wire

import (
	"io"
	"sync"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// decoder reads the elements of one body, which scan has passed. It remembers the first error and then returns zero values, so
// that a frame is parsed as a list of calls; loops stop on it.
type decoder struct {
	body  []byte
	pos   int
	left  int // elements of the outer array still to be read
	frame Type
	err   *FrameError
	dec   *msgpack.Decoder // reads from this decoder
}

var decoders = sync.Pool{New: func() any {
	d := new(decoder)
	d.dec = msgpack.NewDecoder(d)
	return d
}}

// open scans a body and starts to read it. Elements beyond those that are read are skipped. Each open is followed by one close.
func open(t Type, body []byte) *decoder {
	d := decoders.Get().(*decoder)
	d.body, d.pos, d.frame, d.err = body, 0, t, nil
	d.fail("body", scan(body))
	d.left = d.array("body", maxBodyElements)
	return d
}

// close returns the first error.
func (d *decoder) close() error {
	err := d.err
	d.body = nil
	decoders.Put(d)
	if err != nil {
		return err
	}
	return nil
}

// Read, ReadByte and UnreadByte serve the msgpack decoder.
func (d *decoder) Read(p []byte) (int, error) {
	if d.pos == len(d.body) {
		return 0, io.EOF
	}
	n := copy(p, d.body[d.pos:])
	d.pos += n
	return n, nil
}

func (d *decoder) ReadByte() (byte, error) {
	if d.pos == len(d.body) {
		return 0, io.EOF
	}
	d.pos++
	return d.body[d.pos-1], nil
}

func (d *decoder) UnreadByte() error { d.pos--; return nil }

func (d *decoder) fail(field string, err error) {
	if d.err == nil && err != nil {
		d.err = &FrameError{d.frame, field, err}
	}
}

// next takes an element of the outer array.
func (d *decoder) next(field string) {
	if d.left--; d.left < 0 {
		d.fail(field, ErrTruncated)
	}
}

// is reports whether the value to come has a first byte of the kind wanted. The decoder itself takes too many kinds: nil as zero, and a
// float as an integer.
func (d *decoder) is(field string, kind func(c byte) bool) bool {
	switch {
	case d.err != nil:
	case d.pos == len(d.body):
		d.fail(field, ErrTruncated)
	case !kind(d.body[d.pos]):
		d.fail(field, ErrKind)
	default:
		return true
	}
	return false
}

func isUint(c byte) bool  { return c < 0x80 || c >= 0xcc && c <= 0xcf }
func isArray(c byte) bool { return c&0xf0 == 0x90 || c == 0xdc || c == 0xdd }
func isStr(c byte) bool   { return c&0xe0 == 0xa0 || c >= 0xd9 && c <= 0xdb }
func isBin(c byte) bool   { return c >= 0xc4 && c <= 0xc6 }
func isBool(c byte) bool  { return c == 0xc2 || c == 0xc3 }

func (d *decoder) uint(field string) uint64 {
	if !d.is(field, isUint) {
		return 0
	}
	n, err := d.dec.DecodeUint64()
	d.fail(field, err)
	return n
}

func (d *decoder) bool(field string) bool {
	if !d.is(field, isBool) {
		return false
	}
	v, err := d.dec.DecodeBool()
	d.fail(field, err)
	return v
}

// array returns the number of elements that follow.
func (d *decoder) array(field string, limit int) int {
	if !d.is(field, isArray) {
		return 0
	}
	n, err := d.dec.DecodeArrayLen()
	d.fail(field, err)
	if n > limit {
		d.fail(field, ErrTooLarge)
	}
	if d.err != nil {
		return 0
	}
	return n
}

// bin returns bytes of the body itself, not a copy.
func (d *decoder) bin(field string, limit int) []byte { return d.take(field, isBin, limit) }

func (d *decoder) str(field string, limit int) string {
	b := d.take(field, isStr, limit)
	if !utf8.Valid(b) {
		d.fail(field, ErrUTF8)
		return ""
	}
	return string(b)
}

func (d *decoder) take(field string, kind func(byte) bool, limit int) []byte {
	if !d.is(field, kind) {
		return nil
	}
	n, err := d.dec.DecodeBytesLen()
	d.fail(field, err)
	switch {
	case d.err != nil:
		return nil
	case n > limit:
		d.fail(field, ErrTooLarge)
		return nil
	case n < 0 || n > len(d.body)-d.pos:
		d.fail(field, ErrTruncated)
		return nil
	}
	d.pos += n
	return d.body[d.pos-n : d.pos : d.pos]
}

func (d *decoder) strings(field string, limit, each int) []string {
	n := d.array(field, limit)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, n)
	for range n {
		list = append(list, d.str(field, each))
	}
	return list
}
