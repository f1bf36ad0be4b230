package records

import (
	"errors"
	"io"
	"path/filepath"
	"strings"
)

// grow reads more into the window, keeping what is there, and reports whether there was more and room for it.
func (s *scanner) grow() bool {
	if len(s.buf) == cap(s.buf) {
		return false
	}
	pos := s.pos
	s.pos, s.mark = len(s.buf), pos
	more := s.fill()
	s.pos, s.mark = s.mark, -1
	return more
}

// detect finds the format. It looks again when more input has come that ends a line, so that a slow pipe is not waited
// for longer than needed.
func (s *scanner) detect(name string) (Format, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jsonl", ".ndjson":
		return Lines, nil
	}
	_, more := s.peek()
	for ; ; more = s.grow() {
		head := s.buf[s.pos:]
		if more && head[len(head)-1] != '\n' {
			continue
		}
		f, err := detectIn(head, !more, s.err == io.EOF)
		if f != "" || err != nil {
			return f, err
		}
	}
}

// detectIn finds the format from the beginning of the input, or returns "" to see more of it. last says that there is no more to
// see, whole that head is all there is. A JSON array cannot be mistaken. Braces begin either a line of JSON Lines or the one
// object of documents by key: it is the latter if it does not end with its line, or, alone in the input, is no
// record itself and holds nothing but objects.
func detectIn(head []byte, last, whole bool) (Format, error) {
	s := scanBytes(head)
	c, ok := s.skipSpace()
	switch {
	case !ok && !last:
		return "", nil
	case !ok:
		return Lines, nil // nothing to import
	case c == '[':
		return Array, nil
	case c != '{':
		return "", errors.New("neither an object nor an array begins here: want JSON Lines, a JSON array, or a JSON object of documents by key")
	}
	line := s.line
	s.begin()
	complete := s.skipValue()
	oneLine := s.line == line
	value := s.token()
	switch {
	case !complete && !last:
		return "", nil
	case !complete && (!oneLine || firstValue(head) == '{'):
		return Object, nil
	case !complete:
		return Lines, nil
	}
	_, more := s.skipSpace()
	switch {
	case oneLine && (more || isExport(value) || !allObjects(value)):
		return Lines, nil
	case more:
		return "", errors.New("several JSON objects that are not each on one line: want one a line")
	case !last:
		return "", nil
	case !whole:
		return Lines, nil // nothing but white space in the rest of the window
	case isExport(value) || !allObjects(value):
		return "", errors.New("one JSON object that is neither on one line nor made of documents by key: say with --format what it is")
	}
	return Object, nil
}

// firstValue returns the first byte of the value of the object's first member, 0 if there is none.
func firstValue(object []byte) byte {
	for m, err := range members(object) {
		if err == nil && len(m.value) > 0 {
			return m.value[0]
		}
		break
	}
	s := scanBytes(object) // the first member does not end within what is seen
	s.skipSpace()
	s.take()
	s.skipSpace()
	s.skipString()
	s.skipSpace()
	s.take()
	c, _ := s.skipSpace()
	return c
}

func allObjects(object []byte) bool {
	for m, err := range members(object) {
		if err != nil || len(m.value) == 0 || m.value[0] != '{' {
			return false
		}
	}
	return true
}

// isExport reports whether the object is a record as Writer writes it: a key and a document, no more.
func isExport(object []byte) bool {
	key, doc, other := exportParts(object)
	return key != nil && doc != nil && !other && key[0] == '"' && doc[0] == '{'
}
