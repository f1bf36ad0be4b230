package codec

import (
	"encoding/binary"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// AppendCells appends the packed form of the fields, which must be sorted by path without repetition and whose cells
// must not be empty and must hold their invariants (as those of every crdt.Document do). Cost: linear.
func AppendCells(dst []byte, fields []crdt.Field) []byte {
	if len(fields) == 0 {
		return dst
	}
	var w writer
	w.survey(fields)
	dst = w.appendHeader(dst, len(fields))
	current, prev := w.base, crdt.PathKey("")
	for i := range fields {
		c := &fields[i].Cell
		if !plain(c) {
			dst = appendPath(dst, formFull, prev, fields[i].Path)
			dst = w.appendFull(dst, c)
		} else {
			e := &c.Live[0]
			head := byte(e.Value.Kind()) | formSame
			ev := eventOf(e)
			if ev != current {
				head |= formEvent
			}
			dst = appendPath(dst, head, prev, fields[i].Path)
			if ev != current {
				dst = w.appendEvent(dst, ev)
				current = ev
			}
			dst = e.Value.AppendPayload(dst)
		}
		prev = fields[i].Path
	}
	return dst
}

func plain(c *crdt.Cell) bool { return len(c.Live) == 1 && c.Observed.Len() == 0 }

func eventOf(e *crdt.Entry) crdt.Event {
	return crdt.Event{Dot: e.Dot, Stamp: e.Stamp, Author: e.Author}
}

// writer is what is to be known of all cells before the first is written.
type writer struct {
	base    crdt.Event
	uniform bool
	few     [8]crdt.ReplicaID // the replicas, sorted: most blobs name few, which need no allocation
	n       int               // how many of few
	many    []crdt.ReplicaID  // all of them, once there are more than fit in few
}

func (w *writer) survey(fields []crdt.Field) {
	w.uniform = true
	found := false
	for i := range fields {
		c := &fields[i].Cell
		if !plain(c) {
			w.uniform = false
			w.nameAll(c)
			continue
		}
		ev := eventOf(&c.Live[0])
		switch {
		case !found:
			w.base, found = ev, true
		case ev == w.base:
			continue
		default:
			w.uniform = false
		}
		w.name(ev.Dot.Replica)
		w.name(ev.Author)
	}
	if !found {
		w.base = firstEvent(&fields[0].Cell)
	}
}

// firstEvent returns what serves as base where no cell is plain.
func firstEvent(c *crdt.Cell) crdt.Event {
	if len(c.Live) > 0 {
		return eventOf(&c.Live[0])
	}
	if c.Observed.Len() > 0 {
		return crdt.EventAt(c.Observed.At(0))
	}
	return crdt.Event{}
}

func (w *writer) nameAll(c *crdt.Cell) {
	for i := range c.Live {
		w.name(c.Live[i].Dot.Replica)
		w.name(c.Live[i].Author)
	}
	for i := range c.Observed.Len() {
		w.name(c.Observed.At(i).Replica)
	}
}

func (w *writer) replicas() []crdt.ReplicaID {
	if w.many != nil {
		return w.many
	}
	return w.few[:w.n]
}

func (w *writer) find(r crdt.ReplicaID) (int, bool) {
	if w.many != nil {
		return slices.BinarySearch(w.many, r)
	}
	for i, id := range w.few[:w.n] {
		if id >= r {
			return i, id == r
		}
	}
	return w.n, false
}

func (w *writer) name(r crdt.ReplicaID) {
	i, ok := w.find(r)
	switch {
	case ok:
	case w.many != nil:
		w.many = slices.Insert(w.many, i, r)
	case w.n == len(w.few):
		w.many = slices.Insert(slices.Clone(w.few[:]), i, r)
	default:
		copy(w.few[i+1:w.n+1], w.few[i:w.n])
		w.few[i] = r
		w.n++
	}
}

func (w *writer) index(r crdt.ReplicaID) uint64 {
	i, _ := w.find(r)
	return uint64(i)
}

func (w *writer) appendHeader(dst []byte, cells int) []byte {
	first := byte(version1)
	if w.uniform {
		first |= flagUniform
	}
	ids := w.replicas()
	single := len(ids) == 1
	if single {
		first |= flagSingle
	}
	if reissued(w.base) {
		first |= flagReissued
	}
	dst = append(dst, first)
	if !single {
		dst = binary.AppendUvarint(dst, uint64(len(ids)))
	}
	for _, id := range ids {
		dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	}
	if !single {
		dst = binary.AppendUvarint(dst, w.index(w.base.Dot.Replica))
	}
	dst = binary.BigEndian.AppendUint64(dst, uint64(w.base.Dot.Time))
	if reissued(w.base) {
		if !single {
			dst = binary.AppendUvarint(dst, w.index(w.base.Author))
		}
		dst = appendDifference(dst, w.base.Stamp, w.base.Dot.Time)
	}
	return binary.AppendUvarint(dst, uint64(cells))
}

func appendDifference(dst []byte, t, base hlc.Time) []byte {
	return binary.AppendUvarint(dst, zigzag(uint64(t-base)))
}

func (w *writer) appendEvent(dst []byte, ev crdt.Event) []byte {
	x := w.index(ev.Dot.Replica) << 1
	if reissued(ev) {
		x |= 1
	}
	dst = binary.AppendUvarint(dst, x)
	dst = appendDifference(dst, ev.Dot.Time, w.base.Dot.Time)
	if x&1 != 0 {
		dst = binary.AppendUvarint(dst, w.index(ev.Author))
		dst = appendDifference(dst, ev.Stamp, ev.Dot.Time)
	}
	return dst
}

func (w *writer) appendFull(dst []byte, c *crdt.Cell) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.Live)))
	for i := range c.Live {
		dst = w.appendEvent(dst, eventOf(&c.Live[i]))
		dst = c.Live[i].Value.AppendPacked(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(c.Observed.Len()))
	for i := range c.Observed.Len() {
		d := c.Observed.At(i)
		dst = binary.AppendUvarint(dst, w.index(d.Replica))
		dst = appendDifference(dst, d.Time, w.base.Dot.Time)
	}
	return dst
}

// appendPath appends a cell's first byte, of which head is the part that does not concern the path, and the path.
func appendPath(dst []byte, head byte, prev, path crdt.PathKey) []byte {
	shared := sharedPrefix(prev, path)
	rest := string(path[shared:])
	elements := strings.Count(rest, "\x00")
	if shared > 0 {
		head |= flagShared
	}
	if elements != 1 {
		head |= flagDeep
	}
	dst = append(dst, head)
	if shared > 0 {
		dst = append(dst, byte(shared))
	}
	if elements != 1 {
		dst = append(dst, byte(elements))
	}
	return append(dst, rest...)
}
