package wire

import (
	"encoding/binary"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// What the receiver of a snapshot has: the elements of a SnapshotRequest that may follow, round uint, stable bin, start bin, ranges
// [upper bin, fingerprint bin of 8, or of none if it is not to be compared, …]. The positions are keys, for the ranges begin between
// documents; an empty upper one is the end. Round zero says that nothing is told.

func (e *encoder) known(from protocol.Position, k *protocol.KnownRanges) {
	if k == nil {
		return
	}
	e.fail("known", checkKnown(from, k))
	if e.err != nil {
		return
	}
	e.uint("round", k.Round)
	e.vector("stable", k.Stable)
	e.bin("start", []byte(k.Parts[0].Lower.Key))
	e.array("ranges", 2*len(k.Parts))
	for i := range k.Parts {
		p := &k.Parts[i]
		e.bin("upper", []byte(p.Upper.Key))
		if p.Damaged {
			e.bin("fingerprint", nil)
			continue
		}
		e.bin("fingerprint", binary.BigEndian.AppendUint64(nil, p.Fingerprint))
	}
}

func knownElements(k *protocol.KnownRanges) int {
	if k == nil {
		return 0
	}
	return 4
}

func elementIf(there bool) int {
	if there {
		return 1
	}
	return 0
}

func (d *decoder) known(from protocol.Position) *protocol.KnownRanges {
	if d.left == 0 {
		return nil
	}
	k := new(protocol.KnownRanges)
	d.next("round")
	k.Round = d.uint("round")
	d.next("stable")
	k.Stable = d.vector("stable")
	d.next("start")
	lower := protocol.Position{Key: string(d.bin("start", maxPositionKey))}
	d.next("ranges")
	n := d.array("ranges", 2*protocol.MaxKnownRanges)
	if n%2 != 0 {
		d.fail("ranges", ErrTruncated)
	}
	if d.err == nil {
		k.Parts = make([]protocol.Part, n/2)
	}
	for i := range k.Parts {
		p := &k.Parts[i]
		p.Lower = lower
		p.Upper.Key = string(d.bin("upper", maxPositionKey))
		switch b := d.bin("fingerprint", 8); {
		case len(b) == 8:
			p.Fingerprint = binary.BigEndian.Uint64(b)
		case len(b) == 0:
			p.Damaged = true
		default:
			d.fail("fingerprint", ErrTruncated)
		}
		if lower = p.Upper; d.err != nil {
			break
		}
	}
	if k.Round == 0 {
		return nil
	}
	if d.err == nil {
		d.fail("ranges", checkKnown(from, k))
	}
	return k
}

// checkKnown reports whether the ranges adjoin, each has room for something, and they begin where what is asked for does or later.
func checkKnown(from protocol.Position, k *protocol.KnownRanges) error {
	switch n := len(k.Parts); {
	case n > protocol.MaxKnownRanges:
		return ErrTooLarge
	case n == 0 || k.Round == 0:
		return ErrValue
	case k.Parts[0].Lower.Compare(from) < 0:
		return ErrOrder
	}
	for i := range k.Parts {
		p := &k.Parts[i]
		switch {
		case p.Lower.Path != "" || p.Upper.Path != "":
			return ErrValue
		case p.Upper.IsZero() && i == len(k.Parts)-1:
		case p.Upper.Compare(p.Lower) <= 0, i > 0 && p.Lower != k.Parts[i-1].Upper:
			return ErrOrder
		}
	}
	return nil
}

// round is an element of a SnapshotBegin that may follow, and says that the ranges of the request with that round are compared.
func (e *encoder) round(round uint64) {
	if round != 0 {
		e.uint("round", round)
	}
}

func (d *decoder) round() uint64 {
	if d.left == 0 {
		return 0
	}
	d.next("round")
	return d.uint("round")
}

// equal is an element of a SnapshotPiece that may follow: a bin of 8, the fingerprint of what the receiver has, or of none.
func (e *encoder) equal(p *protocol.SnapshotPiece) {
	if p.Equal {
		e.bin("equal", binary.BigEndian.AppendUint64(nil, p.Fingerprint))
	}
}

func (d *decoder) equal(p *protocol.SnapshotPiece) {
	if d.left == 0 {
		return
	}
	d.next("equal")
	b := d.bin("equal", 8)
	if d.err == nil && len(b) != 8 && len(b) != 0 {
		d.fail("equal", ErrTruncated)
	}
	if d.err == nil && len(b) == 8 {
		p.Equal, p.Fingerprint = true, binary.BigEndian.Uint64(b)
		d.fail("equal", checkEqual(p))
	}
}

func checkEqual(p *protocol.SnapshotPiece) error {
	if p.Equal && (p.Partial || len(p.Documents) > 0 || p.Spared.Len() > 0 || p.Lower.Path != "" || p.Upper.Path != "") {
		return ErrValue
	}
	return nil
}
