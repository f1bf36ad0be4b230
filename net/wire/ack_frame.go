package wire

import (
	"encoding/binary"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Ack: [vv vector, open entries, others bin]; of open and others what is empty at the end is left out. From three entries on, if that is shorter,
// the vector is of the one with the greatest time alone, and others has, for each other one, 8 bytes of replica and a uvarint of how much smaller its
// time is. In a mesh acknowledgements of writes of about one moment go together,
// and nearly all that is sent beyond the writes is acknowledgements.

const (
	// maxOtherBytes is the size of one of the others at most.
	maxOtherBytes = 8 + binary.MaxVarintLen64
	splitFrom     = 3
)

func appendAck(dst []byte, m *protocol.Ack) ([]byte, error) {
	vv, others := splitAck(m.VV)
	elements := 1
	switch {
	case len(others) > 0:
		elements = 3
	case len(m.Open) > 0:
		elements = 2
	}
	e := begin(dst, TypeAck, elements)
	e.vector("vv", vv)
	if elements > 1 {
		e.entries("open", m.Open, MaxVectorEntries)
	}
	if elements > 2 {
		e.bin("others", others)
	}
	return e.end()
}

// splitAck returns the newest entry and the others, packed; or all and none, if that is not longer.
func splitAck(vv crdt.VersionVector) (newest crdt.VersionVector, others []byte) {
	if vv.Len() < splitFrom || vv.Len() > MaxVectorEntries {
		return vv, nil
	}
	top := vv.At(0)
	for d := range vv.All() {
		if d.Time > top.Time {
			top = d
		}
	}
	for d := range vv.All() {
		if d.Replica != top.Replica {
			others = binary.BigEndian.AppendUint64(others, uint64(d.Replica))
			others = binary.AppendUvarint(others, uint64(top.Time-d.Time))
		}
	}
	if len(others) >= dotBytes*(vv.Len()-1) {
		return vv, nil
	}
	return crdt.NewVersionVector(top), others
}

func parseAck(body []byte) (*protocol.Ack, error) {
	m := new(protocol.Ack)
	d := open(TypeAck, body)
	d.next("vv")
	dots := d.dots("vv")
	if d.left > 0 && d.err == nil {
		d.next("open")
		m.Open = d.entries("open", MaxVectorEntries)
	}
	if d.left > 0 && d.err == nil {
		d.next("others")
		dots = d.otherDots(dots)
	}
	m.VV, _ = crdt.SortedVector(dots)
	return m, d.close()
}

// otherDots returns the newest and the others, sorted. If there are others, there is one newest.
func (d *decoder) otherDots(newest []crdt.Dot) []crdt.Dot {
	const field = "others"
	b := d.bin(field, (MaxVectorEntries-1)*maxOtherBytes)
	switch {
	case d.err != nil:
		return nil
	case len(b) == 0:
		return newest
	case len(newest) != 1:
		d.fail(field, ErrValue)
		return nil
	}
	top := newest[0]
	dots := make([]crdt.Dot, 1, 1+len(b)/(maxOtherBytes-8))
	dots[0] = top
	var last crdt.ReplicaID
	for len(b) > 0 && d.err == nil {
		if len(b) < 9 {
			d.fail(field, ErrTruncated)
			break
		}
		r := crdt.ReplicaID(binary.BigEndian.Uint64(b))
		age, n := binary.Uvarint(b[8:])
		switch {
		case n == 0:
			d.fail(field, ErrTruncated)
		case n < 0, n > 1 && b[8+n-1] == 0, r == 0, age >= uint64(top.Time), len(dots) == MaxVectorEntries:
			d.fail(field, ErrValue)
		case r <= last, r == top.Replica, age == 0 && r < top.Replica: // of several that are as new, the first is the newest
			d.fail(field, ErrOrder)
		default:
			b, last = b[8+n:], r
			dots = append(dots, crdt.Dot{Replica: r, Time: top.Time - hlc.Time(age)})
		}
	}
	if d.err != nil {
		return nil
	}
	slices.SortFunc(dots, crdt.Dot.Compare)
	return dots
}
