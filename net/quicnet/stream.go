package quicnet

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// gatherBytes bounds the copy that joins small frames into one write; a larger frame is written by itself.
const gatherBytes = 64 << 10

// stream implements replica.Stream.
type stream struct {
	c      *conn
	qs     *quic.Stream
	space  string
	reader *wire.Reader
	turn   turn                               // for a large frame
	closed atomic.Pointer[replica.CloseError] // closed at this end

	mu     sync.Mutex // held while writing
	gather []byte
}

var _ replica.Stream = (*stream)(nil)

func newStream(c *conn, qs *quic.Stream, space string) *stream {
	s := &stream{c: c, qs: qs, space: space, reader: wire.NewReader(qs, 0), turn: turn{turns: c.t.large}}
	s.reader.BeforeLarge(largeFrame, func() { s.turn.take(qs.Context()) })
	return s
}

// WriteFrames returns when all but the last of the bytes are on their way.
func (s *stream) WriteFrames(frames ...[]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.over(); err != nil {
		return err
	}
	for len(frames) > 0 {
		next, rest := s.next(frames)
		if _, err := s.qs.Write(next); err != nil {
			return s.translate(err)
		}
		frames = rest
	}
	return nil
}

// next returns what to write now: one frame, or several small ones joined, for each write costs a wake-up of the
// connection.
func (s *stream) next(frames [][]byte) (now []byte, rest [][]byte) {
	n, size := 0, 0
	for n < len(frames) && size+len(frames[n]) <= gatherBytes {
		size += len(frames[n])
		n++
	}
	if n <= 1 {
		return frames[0], frames[1:]
	}
	s.gather = s.gather[:0]
	for _, f := range frames[:n] {
		s.gather = append(s.gather, f...)
	}
	return s.gather, frames[n:]
}

func (s *stream) ReadFrame() ([]byte, error) {
	s.turn.end()
	f, err := s.reader.ReadFrame()
	if err != nil {
		s.turn.end()
	}
	var bad *wire.FrameError
	switch {
	case err == nil, errors.Is(err, io.EOF) && s.over() == nil:
		return f, err
	case errors.As(err, &bad) && errors.Is(err, wire.ErrTooLarge):
		s.shut(replica.CloseTooLarge, bad.Error())
	case errors.As(err, &bad):
		s.shut(replica.CloseMalformed, bad.Error())
	}
	return nil, s.translate(err)
}

// Close with CloseDone lets what was written arrive; the peer then reads io.EOF. If a write is blocked, that is cut off, and the peer sees
// the code in place of the end. With another code the peer sees that code after the frames whose WriteFrames had returned.
func (s *stream) Close(code replica.CloseCode) error {
	s.shut(code, "")
	return nil
}

func (s *stream) shut(code replica.CloseCode, reason string) {
	if !s.closed.CompareAndSwap(nil, &replica.CloseError{Code: code, Reason: reason}) {
		return
	}
	s.qs.CancelRead(quic.StreamErrorCode(code))
	s.turn.end()
	if !s.mu.TryLock() { // somebody writes, and may be blocked: only an abort ends that
		s.qs.CancelWrite(quic.StreamErrorCode(code))
		return
	}
	defer s.mu.Unlock()
	if code == replica.CloseDone {
		s.qs.Close()
		return
	}
	s.qs.SetReliableBoundary()
	s.qs.CancelWrite(quic.StreamErrorCode(code))
}

// over returns why this end can neither read nor write.
func (s *stream) over() error {
	if closed := s.closed.Load(); closed != nil {
		return closed
	}
	return s.c.Err()
}

func (s *stream) translate(err error) error {
	if over := s.over(); over != nil {
		return over
	}
	return translate(err)
}
