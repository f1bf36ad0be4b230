package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	readChunk = 32 << 10
	growth    = 4 // times the size that was too small
	// keepBuffer is the largest buffer that a Reader holds on to while it waits: a stream that once carried a large frame
	// does not keep its memory.
	keepBuffer = 512 << 10
)

// Reader cuts a stream of bytes into frames. Small ones are copied out of a buffer that it reuses; a large one is read into memory of its own
// size, which goes to the caller. Memory is taken only as bytes arrive, so a peer that declares a large frame and sends nothing costs next to
// nothing.
type Reader struct {
	r     io.Reader
	limit int
	buf   []byte // buf[pos:] is read and not yet returned
	pos   int

	large  int    // frames beyond this size are announced; zero: none
	before func() // announces one
	told   bool   // for the frame being read
}

// NewReader returns a Reader of frames of at most limit bytes, the length field included; zero means MaxFrameBytes.
func NewReader(r io.Reader, limit int) *Reader {
	if limit <= 0 || limit > MaxFrameBytes {
		limit = MaxFrameBytes
	}
	return &Reader{r: r, limit: limit}
}

// BeforeLarge has a function called for each frame of more than so many bytes, when half a megabyte of it has arrived and before memory
// is taken for the rest. It may wait.
func (r *Reader) BeforeLarge(size int, f func()) { r.large, r.before = size, f }

// SetLimit sets the limit for the frames to come.
func (r *Reader) SetLimit(limit int) { r.limit = min(limit, MaxFrameBytes) }

// ReadFrame returns the next frame whole, length and type included, in memory that is the caller's. A clean end is io.EOF; an end
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
	if r.pos == 0 && cap(r.buf) == size {
		frame := r.buf
		r.buf = nil
		return frame, nil
	}
	frame := make([]byte, size)
	r.pos += copy(frame, r.buf[r.pos:])
	return frame, nil
}

// fill reads until n bytes are there.
func (r *Reader) fill(n int) error {
	if len(r.buf)-r.pos >= n {
		return nil
	}
	r.compact()
	r.told = false
	for len(r.buf) < n {
		if len(r.buf) == cap(r.buf) {
			if r.before != nil && n > r.large && cap(r.buf) >= keepBuffer && !r.told {
				r.told = true
				r.before()
			}
			r.move(r.buf, max(readChunk, min(growth*cap(r.buf), n)))
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
		r.move(rest, readChunk)
	} else {
		r.buf = r.buf[:copy(r.buf, rest)]
	}
	r.pos = 0
}

// outgrown are buffers in which large frames began, of the sizes that a buffer grows through: readChunk times growth, and so on. A crowd of
// peers that send large frames would leave as much garbage as frames else.
var outgrown [3]sync.Pool

// outgrownOf returns the pool for buffers of a size, nil if there is none.
func outgrownOf(size int) *sync.Pool {
	for i, of := 0, readChunk*growth; i < len(outgrown); i, of = i+1, of*growth {
		if size == of {
			return &outgrown[i]
		}
	}
	return nil
}

// move puts bytes of the buffer into one of another size.
func (r *Reader) move(bytes []byte, size int) {
	to := []byte(nil)
	if pool := outgrownOf(size); pool != nil {
		if b, ok := pool.Get().(*[]byte); ok {
			to = *b
		}
	}
	if to == nil {
		to = make([]byte, 0, size)
	}
	from := r.buf
	r.buf = append(to, bytes...)
	if pool := outgrownOf(cap(from)); pool != nil {
		from = from[:0]
		pool.Put(&from)
	}
}

func (r *Reader) ended(err error) error {
	if errors.Is(err, io.EOF) && len(r.buf) > 0 {
		return &FrameError{0, "length", ErrTruncated}
	}
	return err
}
