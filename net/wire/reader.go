package wire

import (
	"encoding/binary"
	"errors"
	"io"
)

const (
	readChunk = 32 << 10
	// keepBuffer is the largest buffer that a Reader holds on to while it waits: a stream that once carried a large frame
	// does not keep its memory.
	keepBuffer = 512 << 10
)

// Reader cuts a stream of bytes into frames, in one buffer that it reuses. A buffer grows only as bytes arrive, so a peer that
// declares a large frame and sends nothing costs next to nothing.
type Reader struct {
	r     io.Reader
	limit int
	buf   []byte // buf[pos:] is read and not yet returned
	pos   int
}

// NewReader returns a Reader of frames of at most limit bytes, the length field included; zero means MaxFrameBytes.
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 || limit > MaxFrameBytes {
		limit = MaxFrameBytes
	}
	return &Reader{r: r, limit: limit}
}

// SetLimit sets the limit for the frames to come.
func (r *Reader) SetLimit(limit int) { r.limit = min(limit, MaxFrameBytes) }

// ReadFrame returns the next frame whole, length and type included. It is valid until the next call. A clean end is io.EOF; an end
// within a frame, a frame without a type and one over the limit are *FrameErrors, the last before the frame is read.
func (r *Reader) ReadFrame() ([]byte, error) {
	if err := r.fill(headerBytes); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(r.buf[r.pos:])
	switch {
	case n == 0:
		return nil, &FrameError{0, "length", ErrTruncated}
	case n > uint32(r.limit-headerBytes):
		return nil, &FrameError{0, "length", ErrTooLarge}
	}
	size := headerBytes + int(n)
	if err := r.fill(size); err != nil {
		return nil, err
	}
	frame := r.buf[r.pos : r.pos+size : r.pos+size]
	r.pos += size
	return frame, nil
}

// fill reads until n bytes are there.
func (r *Reader) fill(n int) error {
	if len(r.buf)-r.pos >= n {
		return nil
	}
	r.compact()
	for len(r.buf) < n {
		if len(r.buf) == cap(r.buf) {
			grown := make([]byte, len(r.buf), max(readChunk, min(4*cap(r.buf), n)))
			copy(grown, r.buf)
			r.buf = grown
		}
		m, err := r.r.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+m]
		if err != nil && len(r.buf) < n {
			return r.ended(err)
		}
	}
	return nil
}

// compact moves what is left to the front, or into a small buffer in place of a large one.
func (r *Reader) compact() {
	rest := r.buf[r.pos:]
	if cap(r.buf) > keepBuffer && len(rest) < readChunk {
		r.buf = append(make([]byte, 0, readChunk), rest...)
	} else {
		r.buf = r.buf[:copy(r.buf, rest)]
	}
	r.pos = 0
}

func (r *Reader) ended(err error) error {
	if errors.Is(err, io.EOF) && len(r.buf) > 0 {
		return &FrameError{0, "length", ErrTruncated}
	}
	return err
}
