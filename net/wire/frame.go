package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Type is the byte that names the kind of a frame. Values are never reused.
type Type uint8

// The frame types. Hello goes first in both directions of the control stream, SpaceOpen is the first frame of a space stream,
// Join and its answers have a connection of their own, the others are the messages of a session.
const (
	TypeHello     Type = 0x01
	TypeSpaceOpen Type = 0x02
	TypeAddresses Type = 0x03 // on the control stream
	TypeBeat      Type = 0x04 // the same

	TypeJoin        Type = 0x05
	TypeJoined      Type = 0x06
	TypeJoinRefused Type = 0x07

	TypeVectors Type = 0x10
	TypeDelta   Type = 0x11
	TypeAck     Type = 0x12
	TypeLevel   Type = 0x13
	TypeRefusal Type = 0x14
	TypeMembers Type = 0x15

	TypeSnapshotOffer   Type = 0x16
	TypeSnapshotRequest Type = 0x17
	TypeSnapshotBegin   Type = 0x18
	TypeSnapshotPiece   Type = 0x19

	TypeOpening  Type = 0x1a
	TypeBranches Type = 0x1b

	TypeGrants       Type = 0x20
	TypeRepairOpen   Type = 0x1c
	TypeRangeDigests Type = 0x1d
	TypeRangeAnswer  Type = 0x1e
	TypeRangeCells   Type = 0x1f

	TypePacked Type = 0x24 // any other of a session, compressed
	TypeClock  Type = 0x25
)

func (t Type) String() string {
	switch t {
	case TypeHello:
		return "Hello"
	case TypeSpaceOpen:
		return "SpaceOpen"
	case TypeJoin:
		return "Join"
	case TypeJoined:
		return "Joined"
	case TypeJoinRefused:
		return "JoinRefused"
	case TypeGrants:
		return "Grants"
	case TypeAddresses:
		return "Addresses"
	case TypeBeat:
		return "Beat"
	case TypeVectors:
		return "Vectors"
	case TypeDelta:
		return "Delta"
	case TypeAck:
		return "Ack"
	case TypeLevel:
		return "Level"
	case TypeRefusal:
		return "Refusal"
	case TypeClock:
		return "Clock"
	case TypeSnapshotOffer:
		return "SnapshotOffer"
	case TypeSnapshotRequest:
		return "SnapshotRequest"
	case TypeSnapshotBegin:
		return "SnapshotBegin"
	case TypeSnapshotPiece:
		return "SnapshotPiece"
	case TypeMembers:
		return "Members"
	case TypeOpening:
		return "Opening"
	case TypeBranches:
		return "Branches"
	case TypeRepairOpen:
		return "RepairOpen"
	case TypeRangeDigests:
		return "RangeDigests"
	case TypeRangeAnswer:
		return "RangeAnswer"
	case TypeRangeCells:
		return "RangeCells"
	case TypePacked:
		return "Packed"
	}
	return fmt.Sprintf("type %#02x", uint8(t))
}

// Marshal appends m as a whole frame, packed where that pays. After an error dst is returned as it was.
func Marshal(dst []byte, m protocol.Message) ([]byte, error) {
	out, err := appendMessage(dst, m)
	if err != nil {
		return out, err
	}
	return pack(out, len(dst))
}

func appendMessage(dst []byte, m protocol.Message) ([]byte, error) {
	switch m := m.(type) {
	case *protocol.Vectors:
		return appendVectors(dst, m)
	case *protocol.Delta:
		return appendDelta(dst, m)
	case *protocol.Ack:
		return appendAck(dst, m)
	case *protocol.Level:
		return appendLevel(dst, m)
	case *protocol.Refusal:
		return appendRefusal(dst, m)
	case *protocol.Clock:
		return appendClock(dst, m)
	case *protocol.SnapshotOffer:
		return appendSnapshotOffer(dst, m)
	case *protocol.SnapshotRequest:
		return appendSnapshotRequest(dst, m)
	case *protocol.SnapshotBegin:
		return appendSnapshotBegin(dst, m)
	case *protocol.SnapshotPiece:
		return appendSnapshotPiece(dst, m)
	case *protocol.Members:
		return appendMembers(dst, m)
	case *protocol.Opening:
		return appendOpening(dst, m)
	case *protocol.Branches:
		return appendBranches(dst, m)
	case *protocol.Grants:
		return appendGrants(dst, m)
	case *protocol.RepairOpen:
		return appendRepairOpen(dst, m)
	case *protocol.RangeDigests:
		return appendRangeDigests(dst, m)
	case *protocol.RangeAnswer:
		return appendRangeAnswer(dst, m)
	case *protocol.RangeCells:
		return appendRangeCells(dst, m)
	}
	return dst, fmt.Errorf("wire: no frame for a message of type %T", m)
}

// Unmarshal parses one whole frame. The message shares memory with b: packed cells are not copied. A frame type that this version does
// not know gives (nil, nil), whatever its body.
func Unmarshal(b []byte) (protocol.Message, error) {
	t, body, err := split(b)
	if err != nil {
		return nil, err
	}
	switch t {
	case TypeVectors:
		return message(parseVectors(body))
	case TypeDelta:
		return message(parseDelta(body))
	case TypeAck:
		return message(parseAck(body))
	case TypeLevel:
		return message(parseLevel(body))
	case TypeRefusal:
		return message(parseRefusal(body))
	case TypeClock:
		return message(parseClock(body))
	case TypeSnapshotOffer:
		return message(parseSnapshotOffer(body))
	case TypeSnapshotRequest:
		return message(parseSnapshotRequest(body))
	case TypeSnapshotBegin:
		return message(parseSnapshotBegin(body))
	case TypeSnapshotPiece:
		return message(parseSnapshotPiece(body))
	case TypeMembers:
		return message(parseMembers(body))
	case TypeOpening:
		return message(parseOpening(body))
	case TypeBranches:
		return message(parseBranches(body))
	case TypeGrants:
		return message(parseGrants(body))
	case TypeRepairOpen:
		return message(parseRepairOpen(body))
	case TypeRangeDigests:
		return message(parseRangeDigests(body))
	case TypeRangeAnswer:
		return message(parseRangeAnswer(body))
	case TypeRangeCells:
		return message(parseRangeCells(body))
	case TypePacked:
		return unpack(body)
	case TypeHello, TypeSpaceOpen, TypeAddresses, TypeBeat, TypeJoin, TypeJoined, TypeJoinRefused:
		return nil, &FrameError{t, "type", ErrUnexpected}
	}
	return nil, nil
}

// message keeps a nil pointer from becoming a non-nil interface.
func message[M protocol.Message](m M, err error) (protocol.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// split takes a whole frame apart, after checking that its length is what it says.
func split(b []byte) (Type, []byte, error) {
	if len(b) < headerBytes+1 {
		return 0, nil, &FrameError{0, "length", ErrTruncated}
	}
	t := Type(b[headerBytes])
	n := binary.BigEndian.Uint32(b)
	switch left := uint32(min(len(b)-headerBytes, MaxFrameBytes)); {
	case n > MaxFrameBytes-headerBytes:
		return t, nil, &FrameError{t, "length", ErrTooLarge}
	case n > left:
		return t, nil, &FrameError{t, "length", ErrTruncated}
	case n < left:
		return t, nil, &FrameError{t, "length", ErrTrailing}
	}
	return t, b[headerBytes+1:], nil
}
