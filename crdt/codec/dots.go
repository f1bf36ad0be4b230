package codec

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// Uniform reports whether every cell of the blob has exactly one live entry, of one and the same transaction, stamp and
// author, and nothing observed, and returns that transaction's dot: the common case, a document that one transaction wrote.
// It reads the header only; b must have been checked by ParseCells before, or come from AppendCells.
func Uniform(b []byte) (crdt.Dot, bool) {
	if len(b) == 0 || b[0]&flagUniform == 0 {
		return crdt.Dot{}, false
	}
	r := reader{b: b}
	h, err := r.readHeader()
	if err != nil {
		return crdt.Dot{}, false
	}
	return h.base.Dot, true
}

// Count returns the number of cells that the header of a blob tells of, 0 if that does not parse. It costs nothing, so that
// a limit can be checked before a blob is parsed; ParseCells checks that the cells are there.
func Count(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	r := reader{b: b}
	h, err := r.readHeader()
	if err != nil {
		return 0
	}
	return h.cells
}

// AppendDots appends the distinct dots that the blob refers to, live and observed, sorted by replica and time. It builds
// no cells and checks no more than it needs to find its way: b must have been checked by ParseCells before, or
// come from AppendCells. It does not fail on others in any way but by an error. Cost: linear, apart from sorting the dots.
func AppendDots(dst []crdt.Dot, b []byte) ([]crdt.Dot, error) {
	if len(b) == 0 {
		return dst, nil
	}
	s := scanner{reader: reader{b: b}, dots: dst, field: -1}
	if err := s.scan(); err != nil {
		return dst, &Error{Field: s.field, Offset: s.at, Err: err}
	}
	found := s.dots[len(dst):]
	slices.SortFunc(found, crdt.Dot.Compare)
	return s.dots[:len(dst)+len(slices.Compact(found))], nil
}

type scanner struct {
	reader
	header
	dots  []crdt.Dot
	field int
}

func (s *scanner) scan() error {
	h, err := s.readHeader()
	if err != nil {
		return err
	}
	s.header = h
	// The base is a dot of the blob, and every event is given where it first differs from the last.
	s.dots = append(s.dots, h.base.Dot)
	if h.flags&flagUniform != 0 {
		return nil
	}
	for s.field = 0; s.field < h.cells; s.field++ {
		if err := s.scanCell(); err != nil {
			return err
		}
	}
	if s.left() > 0 {
		return malformed("%d bytes after the last cell", s.left())
	}
	return nil
}

func (s *scanner) scanCell() error {
	head, err := s.byte()
	if err != nil {
		return err
	}
	_, elements, err := s.pathForm(head)
	if err != nil {
		return err
	}
	if err := s.skipElements(elements); err != nil {
		return err
	}
	switch head & formMask {
	case formSame:
	case formEvent:
		if err := s.scanEvent(); err != nil {
			return err
		}
	case formFull:
		return s.scanFull()
	default:
		return malformed("unknown first byte %#02x of a cell", head)
	}
	return s.skipPayload(crdt.Kind(head & kindMask))
}

func (s *scanner) scanEvent() error {
	ev, err := s.readEvent(&s.header)
	if err == nil {
		s.add(ev.Dot)
	}
	return err
}

// add appends d unless it was the last one: cells that were changed together often stand together.
func (s *scanner) add(d crdt.Dot) {
	if s.dots[len(s.dots)-1] != d {
		s.dots = append(s.dots, d)
	}
}

func (s *scanner) scanFull() error {
	n, err := s.uvarint()
	if err != nil {
		return err
	}
	for range n { // each turn reads a byte at least or ends with an error
		if err := s.scanEvent(); err != nil {
			return err
		}
		k, err := s.byte()
		if err != nil {
			return err
		}
		if err := s.skipPayload(crdt.Kind(k)); err != nil {
			return err
		}
	}
	if n, err = s.uvarint(); err != nil {
		return err
	}
	for range n {
		d, err := s.readDot(&s.header)
		if err != nil {
			return err
		}
		s.add(d)
	}
	return nil
}

func (r *reader) skipPayload(k crdt.Kind) error {
	switch k {
	case crdt.Null, crdt.False, crdt.True, crdt.EmptyMap:
		return nil
	case crdt.Int, crdt.Counter:
		_, err := r.uvarint()
		return err
	case crdt.Float:
		return r.skip(8)
	case crdt.String, crdt.Bytes, crdt.Array:
		n, err := r.uvarint()
		if err != nil {
			return err
		}
		return r.skip(n)
	}
	return malformed("unknown kind %d of value", uint8(k))
}
