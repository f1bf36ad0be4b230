package wire

import (
	"fmt"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// MarshalControl appends a message of the control stream as a whole frame. After an error dst is returned as it was.
func MarshalControl(dst []byte, m protocol.Control) ([]byte, error) {
	if m, ok := m.(*protocol.Addresses); ok {
		return appendAddresses(dst, m)
	}
	return dst, fmt.Errorf("wire: no frame for a message of type %T", m)
}

// UnmarshalControl parses one whole frame of the control stream, after Hello. A frame type that this version does not know gives
// (nil, nil), whatever its body.
func UnmarshalControl(b []byte) (protocol.Control, error) {
	t, body, err := split(b)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxControlFrameBytes {
		return nil, &FrameError{t, "length", ErrTooLarge}
	}
	switch t {
	case TypeAddresses:
		m, err := parseAddresses(body)
		if err != nil {
			return nil, err
		}
		return m, nil
	case TypeHello, TypeSpaceOpen:
		return nil, &FrameError{t, "type", ErrUnexpected}
	}
	return nil, nil
}
