package wire

import (
	"encoding/binary"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// A vector travels as one bin: 8 bytes of replica and 8 of time for each entry, big endian, in ascending order of
// replicas. Replica IDs are random, so there is little to squeeze out of them, and the form is scanned in one step.

func (e *encoder) vector(field string, vv crdt.VersionVector) {
	if vv.Len() > MaxVectorEntries {
		e.fail(field, ErrTooLarge)
		return
	}
	e.fail(field, e.enc.EncodeBytesLen(dotBytes*vv.Len()))
	for d := range vv.All() {
		e.out = binary.BigEndian.AppendUint64(e.out, uint64(d.Replica))
		e.out = binary.BigEndian.AppendUint64(e.out, uint64(d.Time))
	}
}

// dots writes entries that are sorted.
func (e *encoder) dots(field string, dots []crdt.Dot) {
	vv, ok := crdt.SortedVector(dots)
	if !ok {
		e.fail(field, ErrOrder)
		return
	}
	e.vector(field, vv)
}

// entries writes entries of a vector of which the times may be zero.
func (e *encoder) entries(field string, dots []crdt.Dot, limit int) {
	if len(dots) > limit {
		e.fail(field, ErrTooLarge)
		return
	}
	e.fail(field, e.enc.EncodeBytesLen(dotBytes*len(dots)))
	for i, d := range dots {
		if d.Replica == 0 || i > 0 && d.Replica <= dots[i-1].Replica {
			e.fail(field, ErrOrder)
		}
		e.out = binary.BigEndian.AppendUint64(e.out, uint64(d.Replica))
		e.out = binary.BigEndian.AppendUint64(e.out, uint64(d.Time))
	}
}

func (d *decoder) entries(field string, limit int) []crdt.Dot {
	b := d.bin(field, limit*dotBytes)
	if len(b)%dotBytes != 0 {
		d.fail(field, ErrTruncated)
	}
	if d.err != nil || len(b) == 0 {
		return nil
	}
	dots := make([]crdt.Dot, 0, len(b)/dotBytes)
	var last crdt.ReplicaID
	for ; len(b) > 0; b = b[dotBytes:] {
		dot := crdt.Dot{Replica: crdt.ReplicaID(binary.BigEndian.Uint64(b)), Time: hlc.Time(binary.BigEndian.Uint64(b[8:]))}
		if dot.Replica <= last {
			d.fail(field, ErrOrder)
			return nil
		}
		last = dot.Replica
		dots = append(dots, dot)
	}
	return dots
}

func (d *decoder) vector(field string) crdt.VersionVector {
	vv, _ := crdt.SortedVector(d.dots(field))
	return vv
}

func (d *decoder) dots(field string) []crdt.Dot {
	b := d.bin(field, MaxVectorEntries*dotBytes)
	if len(b) == 0 {
		return nil
	}
	if len(b)%dotBytes != 0 {
		d.fail(field, ErrTruncated)
		return nil
	}
	dots := make([]crdt.Dot, 0, len(b)/dotBytes)
	var last crdt.ReplicaID
	for ; len(b) > 0; b = b[dotBytes:] {
		dot := crdt.Dot{
			Replica: crdt.ReplicaID(binary.BigEndian.Uint64(b)),
			Time:    hlc.Time(binary.BigEndian.Uint64(b[8:])),
		}
		switch {
		case dot.Replica == 0 || dot.Time == 0:
			d.fail(field, ErrValue)
		case dot.Replica <= last:
			d.fail(field, ErrOrder)
		}
		last = dot.Replica
		dots = append(dots, dot)
	}
	if d.err != nil {
		return nil
	}
	return dots
}
