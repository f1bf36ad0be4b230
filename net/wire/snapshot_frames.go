package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// SnapshotOffer:   [stable bin].
// SnapshotRequest: [from position, v bin, and what is in snapshot_known.go, or not].
// SnapshotBegin:   [state uint, from position, vv bin, stable bin, horizon bin, documents uint, bytes uint, round uint or not].
// SnapshotPiece:   [state uint, lower position, upper position, documents as in Delta, partial bool, spared bin, equal bin or not].
//
// A position is two elements, as in the frames of a repair.

func appendSnapshotOffer(dst []byte, m *protocol.SnapshotOffer) ([]byte, error) {
	e := begin(dst, TypeSnapshotOffer, 1)
	e.vector("stable", m.Stable)
	return e.end()
}

func parseSnapshotOffer(body []byte) (*protocol.SnapshotOffer, error) {
	m := new(protocol.SnapshotOffer)
	d := open(TypeSnapshotOffer, body)
	d.next("stable")
	m.Stable = d.vector("stable")
	return m, d.close()
}

func appendSnapshotRequest(dst []byte, m *protocol.SnapshotRequest) ([]byte, error) {
	e := begin(dst, TypeSnapshotRequest, 3+knownElements(m.Known))
	e.position("from", m.From)
	e.vector("v", m.V)
	e.known(m.From, m.Known)
	return e.end()
}

func parseSnapshotRequest(body []byte) (*protocol.SnapshotRequest, error) {
	m := new(protocol.SnapshotRequest)
	d := open(TypeSnapshotRequest, body)
	m.From = d.place("from")
	d.next("v")
	m.V = d.vector("v")
	m.Known = d.known(m.From)
	return m, d.close()
}

func appendSnapshotBegin(dst []byte, m *protocol.SnapshotBegin) ([]byte, error) {
	e := begin(dst, TypeSnapshotBegin, 8+elementIf(m.Round != 0))
	e.uint("state", m.State)
	e.position("from", m.From)
	e.vector("vv", m.VV)
	e.vector("stable", m.Stable)
	e.vector("horizon", m.Horizon)
	e.uint("documents", m.Documents)
	e.uint("bytes", m.Bytes)
	e.round(m.Round)
	return e.end()
}

func parseSnapshotBegin(body []byte) (*protocol.SnapshotBegin, error) {
	m := new(protocol.SnapshotBegin)
	d := open(TypeSnapshotBegin, body)
	d.next("state")
	m.State = d.uint("state")
	m.From = d.place("from")
	d.next("vv")
	m.VV = d.vector("vv")
	d.next("stable")
	m.Stable = d.vector("stable")
	d.next("horizon")
	m.Horizon = d.vector("horizon")
	d.next("documents")
	m.Documents = d.uint("documents")
	d.next("bytes")
	m.Bytes = d.uint("bytes")
	m.Round = d.round()
	return m, d.close()
}

func appendSnapshotPiece(dst []byte, m *protocol.SnapshotPiece) ([]byte, error) {
	e := begin(dst, TypeSnapshotPiece, 8+elementIf(m.Equal))
	e.fail("upper", checkPieceRange(m))
	e.fail("equal", checkEqual(m))
	size := 0
	for i := range m.Documents {
		size += len(m.Documents[i].Key) + len(m.Documents[i].Cells)
	}
	if size > MaxFrameBytes {
		e.fail("length", ErrTooLarge)
	}
	if e.err != nil {
		return e.end()
	}
	e.uint("state", m.State)
	e.position("lower", m.Lower)
	e.position("upper", m.Upper)
	e.documents(m.Documents)
	e.bool("partial", m.Partial)
	e.vector("spared", m.Spared)
	e.equal(m)
	return e.end()
}

func parseSnapshotPiece(body []byte) (*protocol.SnapshotPiece, error) {
	m := new(protocol.SnapshotPiece)
	d := open(TypeSnapshotPiece, body)
	d.next("state")
	m.State = d.uint("state")
	m.Lower = d.place("lower")
	m.Upper = d.place("upper")
	d.next("documents")
	m.Documents = d.documents()
	d.next("partial")
	m.Partial = d.bool("partial")
	d.next("spared")
	m.Spared = d.vector("spared")
	d.equal(m)
	d.fail("upper", checkPieceRange(m))
	return m, d.close()
}

func checkPieceRange(m *protocol.SnapshotPiece) error {
	if !m.IsLast() && m.Upper.Compare(m.Lower) <= 0 {
		return ErrOrder
	}
	return nil
}

// place reads a position that is two elements of the body.
func (d *decoder) place(field string) protocol.Position {
	d.next(field)
	key := d.bin(field, maxPositionKey)
	d.next(field)
	return d.toPosition(field, key, d.bin(field, crdt.MaxPathBytes))
}
