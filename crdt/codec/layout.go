package codec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// The first byte of a blob: version and flags.
const (
	version1     = 1 << 4
	versionMask  = 0xf0
	flagUniform  = 1 << 0 // every cell is plain and has the base event
	flagSingle   = 1 << 1 // one replica is named: its number and index are left out
	flagReissued = 1 << 2 // stamp and author of the base differ from its dot
	flagsMask    = flagUniform | flagSingle | flagReissued
)

// The first byte of a cell.
const (
	kindMask   = 0x0f
	formMask   = 0x30
	formSame   = 0x00 // plain, event of the last plain cell (of the base for the first)
	formEvent  = 0x10 // plain, the event is given
	formFull   = 0x20 // not plain
	flagShared = 0x40
	flagDeep   = 0x80
)

// maxShared bounds the bytes that a path takes from the one before. Without a bound a few bytes a cell could
// stand for paths of kilobytes each, and a small blob for gigabytes.
const maxShared = 127

// minCellBytes is the size of the smallest cell: its first byte and the end of an empty element.
const minCellBytes = 2

// ErrFormat is wrapped by the errors about bytes that are no canonical packed form.
var ErrFormat = errors.New("malformed packed form")

// Error says where a blob of cells is wrong. Err wraps ErrFormat or one of the errors of package crdt.
type Error struct {
	Field  int          // index of the cell; -1 in the header
	Path   crdt.PathKey // its path, or as much of it as is known
	Offset int          // in bytes from the start of the blob
	Err    error
}

func (e *Error) Error() string {
	if e.Field < 0 {
		return fmt.Sprintf("cells: header, byte %d: %v", e.Offset, e.Err)
	}
	path := string(e.Path)
	if e.Path.Check() == nil { // it may be the path that is wrong
		path = e.Path.String()
	}
	return fmt.Sprintf("cells: field %d (%.80q), byte %d: %v", e.Field, path, e.Offset, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrFormat}, args...)...)
}

var (
	errShort  = fmt.Errorf("%w: it is cut short", ErrFormat)
	errVarint = fmt.Errorf("%w: a varint is not in its shortest form or beyond 64 bits", ErrFormat)
	errIndex  = fmt.Errorf("%w: index beyond the table of replicas", ErrFormat)
)

func zigzag(n uint64) uint64   { return n<<1 ^ uint64(int64(n)>>63) }
func unzigzag(n uint64) uint64 { return n>>1 ^ -(n & 1) }

// reader steps through packed bytes and never beyond them.
type reader struct {
	b  []byte
	at int
}

func (r *reader) left() int { return len(r.b) - r.at }

func (r *reader) byte() (byte, error) {
	if r.at >= len(r.b) {
		return 0, errShort
	}
	r.at++
	return r.b[r.at-1], nil
}

func (r *reader) uint64() (uint64, error) {
	if r.left() < 8 {
		return 0, errShort
	}
	r.at += 8
	return binary.BigEndian.Uint64(r.b[r.at-8:]), nil
}

func (r *reader) uvarint() (uint64, error) {
	if r.at < len(r.b) && r.b[r.at] < 0x80 {
		r.at++
		return uint64(r.b[r.at-1]), nil
	}
	n, size := binary.Uvarint(r.b[r.at:])
	switch {
	case size == 0:
		return 0, errShort
	case size < 0 || r.b[r.at+size-1] == 0:
		return 0, errVarint
	}
	r.at += size
	return n, nil
}

func (r *reader) skip(n uint64) error {
	if n > uint64(r.left()) {
		return errShort
	}
	r.at += int(n)
	return nil
}

// header is what stands before the cells.
type header struct {
	flags byte
	ids   []byte // the table, 8 bytes for each replica
	base  crdt.Event
	cells int
}

func (h *header) replicas() int { return len(h.ids) / 8 }

func (h *header) replica(i uint64) crdt.ReplicaID {
	return crdt.ReplicaID(binary.BigEndian.Uint64(h.ids[8*i:]))
}

func reissued(ev crdt.Event) bool { return ev.Stamp != ev.Dot.Time || ev.Author != ev.Dot.Replica }

// readHeader reads and checks the header. That the table has no replica that goes unused and the base is the right one
// shows only when all cells have been read.
func (r *reader) readHeader() (h header, err error) {
	first, err := r.byte()
	switch {
	case err != nil:
		return h, err
	case first&versionMask != version1:
		return h, malformed("version %d, where this program reads version 1", first>>4)
	case first&^(versionMask|flagsMask) != 0:
		return h, malformed("unknown flags in %#02x", first)
	}
	h.flags = first
	if err := r.readTable(&h); err != nil {
		return h, err
	}
	if err := r.readBase(&h); err != nil {
		return h, err
	}
	n, err := r.uvarint()
	if err != nil {
		return h, err
	}
	if n == 0 || n > uint64(r.left()/minCellBytes) {
		return h, malformed("%d cells in %d bytes", n, r.left())
	}
	h.cells = int(n)
	return h, nil
}

func (r *reader) readTable(h *header) error {
	n := uint64(1)
	if h.flags&flagSingle == 0 {
		var err error
		if n, err = r.uvarint(); err != nil {
			return err
		}
		if n < 2 {
			return malformed("a table of %d replicas that is not marked as single", n)
		}
	}
	if n > uint64(r.left()/8) {
		return malformed("a table of %d replicas in %d bytes", n, r.left())
	}
	h.ids = r.b[r.at : r.at+int(n)*8]
	r.at += int(n) * 8
	last := crdt.ReplicaID(0)
	for i := range n {
		if h.replica(i) <= last {
			return malformed("the table of replicas is not ascending from above zero")
		}
		last = h.replica(i)
	}
	return nil
}

func (r *reader) readBase(h *header) (err error) {
	var i, t uint64
	if h.flags&flagSingle == 0 {
		if i, err = r.index(h); err != nil {
			return err
		}
	}
	if t, err = r.uint64(); err != nil {
		return err
	}
	if t == 0 {
		return malformed("the base has no time")
	}
	h.base = crdt.EventAt(crdt.Dot{Replica: h.replica(i), Time: hlc.Time(t)})
	if h.flags&flagReissued == 0 {
		return nil
	}
	return r.readStamp(h, &h.base, h.flags&flagSingle != 0)
}

func (r *reader) index(h *header) (uint64, error) {
	i, err := r.uvarint()
	if err == nil && i >= uint64(h.replicas()) {
		err = errIndex
	}
	return i, err
}

// readStamp reads author and stamp, which must differ from the dot.
func (r *reader) readStamp(h *header, ev *crdt.Event, single bool) error {
	var i uint64
	var err error
	if !single {
		if i, err = r.index(h); err != nil {
			return err
		}
	}
	diff, err := r.uvarint()
	if err != nil {
		return err
	}
	ev.Author = h.replica(i)
	ev.Stamp = ev.Dot.Time + hlc.Time(unzigzag(diff))
	if ev.Stamp == 0 || !reissued(*ev) {
		return malformed("stamp and author are zero or given although they are those of the dot")
	}
	return nil
}

// readEvent reads an event that is given in a cell.
func (r *reader) readEvent(h *header) (ev crdt.Event, err error) {
	x, err := r.uvarint()
	if err != nil {
		return ev, err
	}
	if x>>1 >= uint64(h.replicas()) {
		return ev, errIndex
	}
	t, err := r.readTime(h)
	if err != nil {
		return ev, err
	}
	ev = crdt.EventAt(crdt.Dot{Replica: h.replica(x >> 1), Time: t})
	if x&1 != 0 {
		err = r.readStamp(h, &ev, false)
	}
	return ev, err
}

func (r *reader) readTime(h *header) (hlc.Time, error) {
	diff, err := r.uvarint()
	if err != nil {
		return 0, err
	}
	t := h.base.Dot.Time + hlc.Time(unzigzag(diff))
	if t == 0 {
		return 0, malformed("a dot has no time")
	}
	return t, nil
}

// readDot reads an observed dot.
func (r *reader) readDot(h *header) (d crdt.Dot, err error) {
	i, err := r.index(h)
	if err != nil {
		return d, err
	}
	t, err := r.readTime(h)
	return crdt.Dot{Replica: h.replica(i), Time: t}, err
}

// sharedPrefix returns how many bytes of path are repeated from the one before it.
func sharedPrefix(prev, path crdt.PathKey) int {
	n, end := min(len(prev), len(path), maxShared), 0
	for i := 0; i < n && prev[i] == path[i]; i++ {
		if path[i] == 0 {
			end = i + 1
		}
	}
	return end
}
