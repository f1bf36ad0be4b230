package wire

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Packed: [size uint, block bin]. The block is the type and body of another frame, size bytes long, compressed with S2 (a
// superset of Snappy's block format).
//
// Bulk frames repeat themselves: the paths and the writer of one document are those of the next. A frame that holds a single
// small change does not, so it is sent as it is.

const (
	// packFrom is the least size of a frame that is worth packing.
	packFrom = 1 << 10
	// packGain is the part of a frame, one in packGain, that packing must save to be worth the unpacking.
	packGain = 8
	// maxPackRatio bounds what a byte of a block unpacks to, so that a flood of small frames stays a small flood.
	maxPackRatio = 64
)

var packBuffers = sync.Pool{New: func() any { return new([]byte) }}

// pack replaces the frame that begins at start, and ends out, by its packed form if that is clearly smaller.
func pack(out []byte, start int) ([]byte, error) {
	size := len(out) - start
	if size < packFrom {
		return out, nil
	}
	buf := packBuffers.Get().(*[]byte)
	defer packBuffers.Put(buf)
	plain := out[start+headerBytes:]
	if most := s2.MaxEncodedLen(len(plain)); cap(*buf) < most {
		*buf = make([]byte, most)
	}
	block := s2.Encode((*buf)[:cap(*buf)], plain)
	if len(block)+size/packGain > size || len(plain) > maxPackRatio*len(block) {
		return out, nil
	}
	if start == 0 { // frames are kept, to be sent to others: not in memory of the size that they had
		out = make([]byte, 0, len(block)+32)
	}
	e := begin(out[:start], TypePacked, 2)
	e.uint("size", uint64(len(plain)))
	e.bin("block", block)
	return e.end()
}

// unpack parses a packed frame and then the frame in it. Its size is bounded before memory is taken for it, like that of
// any other frame.
func unpack(body []byte) (protocol.Message, error) {
	d := open(TypePacked, body)
	d.next("size")
	size := d.uint("size")
	d.next("block")
	block := d.bin("block", MaxFrameBytes)
	if err := d.close(); err != nil {
		return nil, err
	}
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return nil, &FrameError{TypePacked, "block", fmt.Errorf("%w: %w", ErrPacking, err)}
	case size > MaxFrameBytes-headerBytes, size > uint64(maxPackRatio*len(block)):
		return nil, &FrameError{TypePacked, "size", ErrTooLarge}
	case uint64(n) != size || n == 0:
		return nil, &FrameError{TypePacked, "size", ErrValue}
	}
	frame := make([]byte, headerBytes+n)
	binary.BigEndian.PutUint32(frame, uint32(n))
	if _, err := s2.Decode(frame[headerBytes:], block); err != nil {
		return nil, &FrameError{TypePacked, "block", fmt.Errorf("%w: %w", ErrPacking, err)}
	}
	if Type(frame[headerBytes]) == TypePacked {
		return nil, &FrameError{TypePacked, "block", ErrUnexpected}
	}
	return Unmarshal(frame)
}
