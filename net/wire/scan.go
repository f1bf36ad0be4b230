package wire

import "encoding/binary"

// scan reports whether b is exactly one msgpack value within maxBodyDepth and maxBodyElements whose lengths all fit. It
// neither recurses nor allocates, so it is safe on any bytes; what passes is safe to hand to a decoder.
func scan(b []byte) error {
	var left [maxBodyDepth + 1]int // values still to come, for each level that is open
	left[0] = 1
	depth, pos, elements := 0, 0, 0
	for depth >= 0 {
		if left[depth] == 0 {
			depth--
			continue
		}
		left[depth]--
		if elements++; elements > maxBodyElements {
			return ErrTooLarge
		}
		size, children, err := head(b[pos:])
		if err != nil {
			return err
		}
		rest := len(b) - pos
		if size > rest || children > rest-size { // a child takes a byte at least
			return ErrTruncated
		}
		pos += size
		if children > 0 {
			if depth++; depth > maxBodyDepth {
				return ErrTooLarge
			}
			left[depth] = children
		}
	}
	if pos != len(b) {
		return ErrTrailing
	}
	return nil
}

// maxDeclared stands for every declared length that cannot fit into a frame, so that sums stay small.
const maxDeclared = 2 * MaxFrameBytes

// head returns what the value at the start of b takes without its children, and how many those are.
func head(b []byte) (size, children int, err error) {
	if len(b) == 0 {
		return 0, 0, ErrTruncated
	}
	c := b[0]
	switch {
	case c < 0x80 || c >= 0xe0: // small integers
		return 1, 0, nil
	case c < 0x90:
		return 1, 2 * int(c&0x0f), nil
	case c < 0xa0:
		return 1, int(c & 0x0f), nil
	case c < 0xc0:
		return 1 + int(c&0x1f), 0, nil
	}
	switch c {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return 1, 0, nil
	case 0xc4, 0xc5, 0xc6: // bin 8, 16, 32
		return sized(b, 1<<(c-0xc4), 0)
	case 0xc7, 0xc8, 0xc9: // ext 8, 16, 32, with a type byte
		return sized(b, 1<<(c-0xc7), 1)
	case 0xca, 0xcb: // float 32, 64
		return 1 + 4<<(c-0xca), 0, nil
	case 0xcc, 0xcd, 0xce, 0xcf: // uint 8 to 64
		return 1 + 1<<(c-0xcc), 0, nil
	case 0xd0, 0xd1, 0xd2, 0xd3: // int 8 to 64
		return 1 + 1<<(c-0xd0), 0, nil
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext 1 to 16
		return 2 + 1<<(c-0xd4), 0, nil
	case 0xd9, 0xda, 0xdb: // str 8, 16, 32
		return sized(b, 1<<(c-0xd9), 0)
	case 0xdc, 0xdd: // array 16, 32
		n, err := declared(b, 2<<(c-0xdc))
		return 1 + 2<<(c-0xdc), n, err
	case 0xde, 0xdf: // map 16, 32
		n, err := declared(b, 2<<(c-0xde))
		return 1 + 2<<(c-0xde), 2 * n, err
	}
	return 0, 0, ErrKind // 0xc1 is never used
}

// sized measures a value whose length takes width bytes after the first.
func sized(b []byte, width, extra int) (size, children int, err error) {
	n, err := declared(b, width)
	return 1 + width + extra + n, 0, err
}

func declared(b []byte, width int) (int, error) {
	if len(b) < 1+width {
		return 0, ErrTruncated
	}
	var n uint32
	switch width {
	case 1:
		n = uint32(b[1])
	case 2:
		n = uint32(binary.BigEndian.Uint16(b[1:]))
	default:
		n = binary.BigEndian.Uint32(b[1:])
	}
	return int(min(n, maxDeclared)), nil
}
