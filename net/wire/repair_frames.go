package wire

import (
	"encoding/binary"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// The frames of a repair. A position is two bins, document key and packed path; both empty are the start, or as an upper
// bound the end. The key of a position may be the first bytes of one, so it is no str.

// RepairOpen: [round uint, stable vector].

func appendRepairOpen(dst []byte, m *protocol.RepairOpen) ([]byte, error) {
	e := begin(dst, TypeRepairOpen, 2)
	e.uint("round", m.Round)
	e.vector("stable", m.Stable)
	return e.end()
}

func parseRepairOpen(body []byte) (*protocol.RepairOpen, error) {
	m := new(protocol.RepairOpen)
	d := open(TypeRepairOpen, body)
	d.next("round")
	m.Round = d.uint("round")
	d.next("stable")
	m.Stable = d.vector("stable")
	return m, d.close()
}

// RangeDigests: [round uint, parts [position, position, fingerprint bin of 8, or of none if it cannot be read, …]]. The first position of
// a part is left out, as one empty bin and one of a single zero byte, where it is the second one of the part before.

func appendRangeDigests(dst []byte, m *protocol.RangeDigests) ([]byte, error) {
	e := begin(dst, TypeRangeDigests, 2)
	e.uint("round", m.Round)
	if len(m.Parts) > protocol.MaxRangeParts {
		e.fail("parts", ErrTooLarge)
		return e.end()
	}
	e.array("parts", 5*len(m.Parts))
	for i := range m.Parts {
		p := &m.Parts[i]
		if i > 0 && p.Lower == m.Parts[i-1].Upper {
			e.bin("lower", nil)
			e.bin("lower", sameAsBefore)
		} else {
			e.position("lower", p.Lower)
		}
		e.position("upper", p.Upper)
		if p.Damaged {
			e.bin("fingerprint", nil)
			continue
		}
		e.bin("fingerprint", binary.BigEndian.AppendUint64(nil, p.Fingerprint))
	}
	return e.end()
}

// sameAsBefore stands for the path of a position that was told just before: no position has a path and no key.
var sameAsBefore = []byte{0}

func parseRangeDigests(body []byte) (*protocol.RangeDigests, error) {
	m := new(protocol.RangeDigests)
	d := open(TypeRangeDigests, body)
	d.next("round")
	m.Round = d.uint("round")
	d.next("parts")
	n := d.array("parts", 5*protocol.MaxRangeParts)
	if n%5 != 0 {
		d.fail("parts", ErrTruncated)
	}
	if d.err == nil && n > 0 {
		m.Parts = make([]protocol.Part, n/5)
	}
	for i := range m.Parts {
		p := &m.Parts[i]
		key, path := d.bin("lower", maxPositionKey), d.bin("lower", crdt.MaxPathBytes)
		if i > 0 && len(key) == 0 && string(path) == string(sameAsBefore) {
			p.Lower = m.Parts[i-1].Upper
		} else {
			p.Lower = d.toPosition("lower", key, path)
		}
		p.Upper = d.position("upper")
		switch b := d.bin("fingerprint", 8); {
		case len(b) == 8:
			p.Fingerprint = binary.BigEndian.Uint64(b)
		case len(b) == 0:
			p.Damaged = true
		default:
			d.fail("fingerprint", ErrTruncated)
		}
		if d.err != nil {
			break
		}
	}
	return m, d.close()
}

// RangeAnswer: [round uint, refused bool, text str, stable vector, differs [index uint, pieces uint, …]].

func appendRangeAnswer(dst []byte, m *protocol.RangeAnswer) ([]byte, error) {
	e := begin(dst, TypeRangeAnswer, 5)
	e.uint("round", m.Round)
	e.bool("refused", m.Refused)
	e.str("text", cut(m.Text, protocol.MaxRefusalText), protocol.MaxRefusalText)
	e.vector("stable", m.Stable)
	if len(m.Differs) > protocol.MaxRangeParts {
		e.fail("differs", ErrTooLarge)
		return e.end()
	}
	e.array("differs", 2*len(m.Differs))
	for _, r := range m.Differs {
		if r.Index < 0 || r.Index >= protocol.MaxRangeParts || r.Pieces < 0 {
			e.fail("differs", ErrValue)
		}
		e.uint("index", uint64(r.Index))
		e.uint("pieces", uint64(r.Pieces))
	}
	return e.end()
}

func parseRangeAnswer(body []byte) (*protocol.RangeAnswer, error) {
	m := new(protocol.RangeAnswer)
	d := open(TypeRangeAnswer, body)
	d.next("round")
	m.Round = d.uint("round")
	d.next("refused")
	m.Refused = d.bool("refused")
	d.next("text")
	m.Text = d.str("text", protocol.MaxRefusalText)
	d.next("stable")
	m.Stable = d.vector("stable")
	d.next("differs")
	n := d.array("differs", 2*protocol.MaxRangeParts)
	if n%2 != 0 {
		d.fail("differs", ErrTruncated)
	}
	for range n / 2 {
		r := protocol.RangeDifference{Index: d.small("index", protocol.MaxRangeParts-1), Pieces: d.small("pieces", 1<<31-1)}
		if d.err != nil {
			break
		}
		m.Differs = append(m.Differs, r)
	}
	return m, d.close()
}

// RangeCells: [round uint, reply bool, claims uint, spans [position, position, …], horizon vector, documents as in Delta].

func appendRangeCells(dst []byte, m *protocol.RangeCells) ([]byte, error) {
	e := begin(dst, TypeRangeCells, 6)
	e.uint("round", m.Round)
	e.bool("reply", m.Reply)
	e.uint("claims", m.Claims)
	if len(m.Spans) > protocol.MaxRangeSpans {
		e.fail("spans", ErrTooLarge)
		return e.end()
	}
	e.array("spans", 4*len(m.Spans))
	for _, g := range m.Spans {
		e.position("lower", g.Lower)
		e.position("upper", g.Upper)
	}
	e.vector("horizon", m.Horizon)
	e.documents(m.Documents)
	return e.end()
}

func parseRangeCells(body []byte) (*protocol.RangeCells, error) {
	m := new(protocol.RangeCells)
	d := open(TypeRangeCells, body)
	d.next("round")
	m.Round = d.uint("round")
	d.next("reply")
	m.Reply = d.bool("reply")
	d.next("claims")
	m.Claims = d.uint("claims")
	d.next("spans")
	n := d.array("spans", 4*protocol.MaxRangeSpans)
	if n%4 != 0 {
		d.fail("spans", ErrTruncated)
	}
	for range n / 4 {
		g := protocol.Range{Lower: d.position("lower"), Upper: d.position("upper")}
		if d.err != nil {
			break
		}
		m.Spans = append(m.Spans, g)
	}
	d.next("horizon")
	m.Horizon = d.vector("horizon")
	d.next("documents")
	m.Documents = d.documents()
	return m, d.close()
}

// maxPositionKey: the place after a document has its key and one byte more.
const maxPositionKey = crdt.MaxKeyBytes + 1

func (e *encoder) position(field string, p protocol.Position) {
	if len(p.Key) > maxPositionKey || len(p.Path) > crdt.MaxPathBytes {
		e.fail(field, ErrTooLarge)
		return
	}
	if p.Key == "" && p.Path != "" {
		e.fail(field, ErrValue)
	}
	e.bin(field, []byte(p.Key))
	e.bin(field, []byte(p.Path))
}

func (d *decoder) position(field string) protocol.Position {
	return d.toPosition(field, d.bin(field, maxPositionKey), d.bin(field, crdt.MaxPathBytes))
}

func (d *decoder) toPosition(field string, key, path []byte) protocol.Position {
	if len(key) == 0 && len(path) > 0 {
		d.fail(field, ErrValue)
	}
	return protocol.Position{Key: string(key), Path: crdt.PathKey(path)}
}

func (d *decoder) small(field string, most uint64) int {
	n := d.uint(field)
	if n > most {
		d.fail(field, ErrValue)
		return 0
	}
	return int(n)
}
