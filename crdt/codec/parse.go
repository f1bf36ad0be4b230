package codec

import (
	"bytes"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
)

// ParseCells reads what AppendCells wrote and refuses everything else, with an *Error. Paths and values share one copy
// of b; b itself is not kept. It allocates at most some 80 times len(b), and that only for a blob of the smallest cells there
// are (a field and its entry take 128 bytes in memory); 10 times is usual.
func ParseCells(b []byte) ([]crdt.Field, error) { return new(Slab).ParseCells(b) }

// Slab is memory for the cells of several blobs. What is parsed into it lives as long as any of it is used.
type Slab struct {
	cells   int          // that are to come, about
	bytes   int          // of blobs that are to come
	fields  []crdt.Field // room
	entries []crdt.Entry // room
	text    strings.Builder
}

// slabCells and slabBytes bound the pieces in which a Slab takes its memory.
const (
	slabCells = 512
	slabBytes = 32 << 10
)

// NewSlab returns a Slab for about so many cells, in blobs of so many bytes. Blobs that come to more find room, too.
func NewSlab(cells, bytes int) *Slab {
	return &Slab{cells: min(cells, bytes/8+8), bytes: bytes}
}

// ParseCells is the function of that name. The zero Slab is for one blob.
func (s *Slab) ParseCells(b []byte) ([]crdt.Field, error) {
	if len(b) == 0 {
		return nil, nil
	}
	p := parser{reader: reader{b: b}, field: -1, slab: s}
	fields, err := p.parse()
	s.cells, s.bytes = max(0, s.cells-len(fields)), max(0, s.bytes-len(b))
	if err != nil {
		return nil, &Error{Field: p.field, Path: p.path, Offset: p.at, Err: err}
	}
	return fields, nil
}

// textOf returns b as a string.
func (s *Slab) textOf(b []byte) string {
	if s.text.Cap()-s.text.Len() < len(b) {
		s.text = strings.Builder{}
		s.text.Grow(max(len(b), min(s.bytes, slabBytes)))
	}
	start := s.text.Len()
	s.text.Write(b)
	return s.text.String()[start:]
}

// fieldsFor returns an empty slice with room for n fields; takeFields says how many it came to have.
func (s *Slab) fieldsFor(n int) []crdt.Field {
	if cap(s.fields) < n {
		s.fields = make([]crdt.Field, 0, max(n, min(s.cells, slabCells)))
	}
	return s.fields[:0:n]
}

func (s *Slab) takeFields(n int) {
	if n <= cap(s.fields) {
		s.fields = s.fields[n:n:cap(s.fields)]
	}
}

type parser struct {
	reader
	header
	slab    *Slab
	text    string     // b, for what stays
	current crdt.Event // of the last plain cell
	plain   bool       // there was one
	uniform bool       // so far

	field  int          // index of the cell that is being read
	path   crdt.PathKey // its path, before that the one of the cell before
	paths  strings.Builder
	used   uint64 // which of the first 64 replicas of the table were named
	others []bool // and which of them all, if there are more than 64
}

func (p *parser) parse() ([]crdt.Field, error) {
	h, err := p.readHeader()
	if err != nil {
		return nil, err
	}
	p.header = h
	p.text = p.slab.textOf(p.b)
	p.current, p.uniform = h.base, true
	if h.replicas() > 64 {
		p.others = make([]bool, h.replicas())
	}
	// The number of cells is trusted only as far as the bytes make it likely; the slice grows beyond that.
	fields := p.slab.fieldsFor(min(h.cells, p.left()/8+8))
	room := cap(fields)
	for p.field = 0; p.field < h.cells; p.field++ {
		fields = append(fields, crdt.Field{})
		f := &fields[p.field]
		if err := p.parseCell(&f.Cell); err != nil {
			return nil, err
		}
		f.Path = p.path
	}
	if len(fields) <= room {
		p.slab.takeFields(len(fields))
	}
	return fields, p.checkWhole(fields)
}

// checkWhole checks what only all cells together show.
func (p *parser) checkWhole(fields []crdt.Field) error {
	switch {
	case p.left() > 0:
		return malformed("%d bytes after the last cell", p.left())
	case p.uniform != (p.flags&flagUniform != 0):
		return malformed("uniform is marked wrongly")
	case !p.plain && p.base != firstEvent(&fields[0].Cell):
		return malformed("the base is not the event of the first cell")
	}
	if p.plain {
		p.use(p.base)
	}
	for i := range p.replicas() {
		if p.others != nil && !p.others[i] || p.others == nil && p.used>>i&1 == 0 {
			return malformed("replica %s is in the table and not in a cell", p.replica(uint64(i)))
		}
	}
	return nil
}

func (p *parser) use(ev crdt.Event) {
	p.useReplica(ev.Dot.Replica)
	p.useReplica(ev.Author)
}

func (p *parser) useReplica(r crdt.ReplicaID) {
	low, high := 0, p.replicas()
	for low < high {
		mid := (low + high) / 2
		if p.replica(uint64(mid)) < r {
			low = mid + 1
		} else {
			high = mid
		}
	}
	if p.others != nil {
		p.others[low] = true
	} else {
		p.used |= 1 << low
	}
}

func (p *parser) parseCell(c *crdt.Cell) error {
	head, err := p.byte()
	if err != nil {
		return err
	}
	if err := p.parsePath(head); err != nil {
		return err
	}
	ev := p.current
	switch head & formMask {
	case formSame:
		p.plain = true
	case formEvent:
		p.uniform = false
		if ev, err = p.readEvent(&p.header); err != nil {
			return err
		}
		if !p.plain || ev == p.current {
			return malformed("an event is given where it goes without saying")
		}
		p.plain, p.current = true, ev
		p.use(ev)
	case formFull:
		p.uniform = false
		if head&kindMask != 0 {
			return malformed("unknown first byte %#02x of a cell", head)
		}
		return p.parseFull(c)
	default:
		return malformed("unknown first byte %#02x of a cell", head)
	}
	c.Live = p.room(1)
	return p.parseValue(crdt.Kind(head&kindMask), ev, &c.Live[0])
}

func (p *parser) parseValue(k crdt.Kind, ev crdt.Event, e *crdt.Entry) error {
	v, rest, err := crdt.ParsePayload(k, p.text[p.at:])
	if err != nil {
		return err
	}
	p.at = len(p.text) - len(rest)
	*e = crdt.Entry{Dot: ev.Dot, Stamp: ev.Stamp, Author: ev.Author, Value: v}
	return nil
}

// room returns space for n entries. Cells share allocations; none can grow into that of another.
func (p *parser) room(n int) []crdt.Entry {
	s := p.slab
	if len(s.entries) < n {
		s.entries = make([]crdt.Entry, max(n, min(p.cells-p.field, p.left()/8+8), min(s.cells, slabCells)))
	}
	entries := s.entries[:n:n]
	s.entries = s.entries[n:]
	return entries
}

// minEntryBytes is the size of the smallest live entry, minDotBytes that of the smallest observed dot.
const (
	minEntryBytes = 3
	minDotBytes   = 2
)

func (p *parser) parseFull(c *crdt.Cell) error {
	n, err := p.count(minEntryBytes)
	if err != nil {
		return err
	}
	if n > 0 {
		c.Live = p.room(n)
	}
	for i := range c.Live {
		ev, err := p.readEvent(&p.header)
		if err != nil {
			return err
		}
		p.use(ev)
		k, err := p.byte()
		if err != nil {
			return err
		}
		if err := p.parseValue(crdt.Kind(k), ev, &c.Live[i]); err != nil {
			return err
		}
	}
	if c.Observed, err = p.parseObserved(); err != nil {
		return err
	}
	switch {
	case c.IsEmpty():
		return malformed("the cell is empty")
	case len(c.Live) == 1 && c.Observed.Len() == 0:
		return malformed("a plain cell is written as one that is not")
	}
	return c.Check()
}

func (p *parser) parseObserved() (crdt.VersionVector, error) {
	n, err := p.count(minDotBytes)
	if err != nil || n == 0 {
		return crdt.VersionVector{}, err
	}
	dots := make([]crdt.Dot, n)
	for i := range dots {
		if dots[i], err = p.readDot(&p.header); err != nil {
			return crdt.VersionVector{}, err
		}
		p.useReplica(dots[i].Replica)
	}
	vv, ok := crdt.SortedVector(dots)
	if !ok {
		return vv, malformed("observed dots are not sorted by replica")
	}
	return vv, nil
}

// count reads a number of things that take at least size bytes each.
func (p *parser) count(size int) (int, error) {
	n, err := p.uvarint()
	if err == nil && n > uint64(min(p.left()/size, p.replicas())) {
		err = malformed("%d entries or dots in %d bytes, of %d replicas", n, p.left(), p.replicas())
	}
	return int(n), err
}

// parsePath reads the path of the cell that begins with head and checks that it lies above the one before.
func (p *parser) parsePath(head byte) error {
	shared, elements, err := p.pathForm(head)
	if err != nil {
		return err
	}
	prev, start := p.path, p.at
	if shared > len(prev) {
		return malformed("a path repeats %d bytes of one of %d", shared, len(prev))
	}
	if err := p.skipElements(elements); err != nil {
		return err
	}
	path := crdt.PathKey(p.text[start:p.at])
	if shared > 0 {
		path = p.join(prev[:shared], path)
	}
	p.path = path
	switch {
	case p.field > 0 && path <= prev:
		return malformed("paths are not ascending")
	case shared != sharedPrefix(prev, path):
		return malformed("a path repeats %d bytes of the one before, where it could %d", shared, sharedPrefix(prev, path))
	}
	return path.Check()
}

func (p *parser) join(a, b crdt.PathKey) crdt.PathKey {
	size := len(a) + len(b)
	if p.paths.Cap()-p.paths.Len() < size {
		p.paths = strings.Builder{} // the paths made so far keep the old one
		p.paths.Grow(size + min(p.cells-p.field-1, 64, p.left()/4)*(size+8))
	}
	start := p.paths.Len()
	p.paths.WriteString(string(a))
	p.paths.WriteString(string(b))
	return crdt.PathKey(p.paths.String()[start:])
}

// pathForm reads what stands between the first byte of a cell and its path.
func (r *reader) pathForm(head byte) (shared, elements int, err error) {
	elements = 1
	if head&flagShared != 0 {
		b, err := r.byte()
		if err != nil {
			return 0, 0, err
		}
		if b == 0 || b > maxShared {
			return 0, 0, malformed("a path repeats %d bytes, outside 1 to %d", b, maxShared)
		}
		shared = int(b)
	}
	if head&flagDeep != 0 {
		b, err := r.byte()
		if err != nil {
			return 0, 0, err
		}
		if b == 1 || b > crdt.MaxDepth {
			return 0, 0, malformed("the number of elements of a path is given as %d", b)
		}
		elements = int(b)
	}
	return shared, elements, nil
}

func (r *reader) skipElements(n int) error {
	for range n {
		end := bytes.IndexByte(r.b[r.at:], 0)
		if end < 0 {
			return errShort
		}
		r.at += end + 1
	}
	return nil
}
