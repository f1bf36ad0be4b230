package records

import (
	"bytes"
	"io"
)

// MaxRecordBytes bounds one record as text. It is well above what a transaction may hold (crdt.MaxTransactionBytes, packed), so
// that the refusal of a large document comes from the place that knows the limit, and low enough to be read into memory.
const MaxRecordBytes = 32 << 20

const startBuffer = 64 << 10

// scanner is a window on the input that slides forward, and keeps the token being read in one piece. A token
// over the limit is passed over without being kept.
type scanner struct {
	src     io.Reader // nil: buf is the whole input
	buf     []byte
	pos     int
	mark    int   // where the token being read begins; -1 while there is none
	base    int64 // offset of buf[0] in the input
	line    int   // of pos, from 1
	limit   int
	tooLong bool  // the token has exceeded limit
	err     error // why there is no more input
}

func newScanner(src io.Reader) scanner {
	return scanner{src: src, buf: make([]byte, 0, startBuffer), mark: -1, line: 1, limit: MaxRecordBytes}
}

// scanBytes returns a scanner of b, which it does not copy.
func scanBytes(b []byte) scanner {
	return scanner{buf: b, mark: -1, line: 1, limit: len(b), err: io.EOF}
}

func (s *scanner) offset() int64 { return s.base + int64(s.pos) }

// begin starts a token at the present position; token returns it, valid until the next call of anything
// else, or nil if it was too long to keep.
func (s *scanner) begin() { s.mark, s.tooLong = s.pos, false }

func (s *scanner) token() []byte {
	t := s.buf[s.mark:s.pos]
	s.mark = -1
	if s.tooLong || len(t) > s.limit {
		s.tooLong = true
		return nil
	}
	return t
}

// peek returns the next byte without taking it, and false at the end of the input or an error of reading it.
func (s *scanner) peek() (byte, bool) {
	if s.pos == len(s.buf) && !s.fill() {
		return 0, false
	}
	return s.buf[s.pos], true
}

func (s *scanner) take() (byte, bool) {
	c, ok := s.peek()
	if ok {
		s.pos++
		if c == '\n' {
			s.line++
		}
	}
	return c, ok
}

// fill reads more input behind the window, and reports whether there was any.
func (s *scanner) fill() bool {
	if s.err != nil {
		return false
	}
	keep := s.pos
	if s.mark >= 0 {
		if s.pos-s.mark > s.limit {
			s.tooLong, s.mark = true, s.pos
		}
		keep = s.mark
	}
	if keep > 0 {
		n := copy(s.buf, s.buf[keep:])
		s.buf = s.buf[:n]
		s.base += int64(keep)
		s.pos -= keep
		if s.mark >= 0 {
			s.mark = 0
		}
	}
	if len(s.buf) == cap(s.buf) {
		s.buf = append(make([]byte, 0, 2*cap(s.buf)), s.buf...)
	}
	for range 100 {
		n, err := s.src.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		s.err = err
		if n > 0 || err != nil {
			return n > 0
		}
	}
	s.err = io.ErrNoProgress
	return false
}

// skipSpace passes JSON white space and returns the byte behind it, not taken.
func (s *scanner) skipSpace() (byte, bool) {
	for {
		c, ok := s.peek()
		if !ok || c != ' ' && c != '\t' && c != '\r' && c != '\n' {
			return c, ok
		}
		s.take()
	}
}

// skipLine passes everything up to the next line feed and that. It reports false if the input ended first.
func (s *scanner) skipLine() bool {
	for {
		if i := bytes.IndexByte(s.buf[s.pos:], '\n'); i >= 0 {
			s.pos += i + 1
			s.line++
			return true
		}
		s.pos = len(s.buf)
		if !s.fill() {
			return false
		}
	}
}

// skipString passes a string whose opening quote is next. It reports false if the input ends inside.
func (s *scanner) skipString() bool {
	s.take()
	for {
		c, ok := s.take()
		switch {
		case !ok:
			return false
		case c == '"':
			return true
		case c == '\\':
			s.take()
		}
	}
}

// skipValue passes one JSON value, which begins at the next byte, by counting brackets: it finds where a well-formed value ends, and some
// end for one that is not. It reports false if the input ends inside.
func (s *scanner) skipValue() bool {
	c, _ := s.peek()
	switch c {
	case '"':
		return s.skipString()
	case '{', '[':
		return s.skipBrackets()
	}
	for {
		c, ok := s.peek()
		if !ok {
			return true // a number or a word may end with the input
		}
		switch c {
		case ' ', '\t', '\r', '\n', ',', ']', '}', ':':
			return true
		}
		s.take()
	}
}

func (s *scanner) skipBrackets() bool {
	for depth := 0; ; {
		c, ok := s.peek()
		if !ok {
			return false
		}
		switch c {
		case '"':
			if !s.skipString() {
				return false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.take()
		if depth == 0 {
			return true
		}
	}
}
