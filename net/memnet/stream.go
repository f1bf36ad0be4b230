package memnet

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// stream is one end of a stream; twin is the other. link.mu guards all but the reader.
type stream struct {
	conn    *conn
	twin    *stream
	space   string
	opener  bool
	in, out *pipe
	reader  *wire.Reader

	closed  *replica.CloseError // closed at this end
	writing bool
}

var _ replica.Stream = (*stream)(nil)

// pipe is one direction.
type pipe struct {
	changed *sync.Cond
	chunks  []chunk
	size    int                 // bytes in chunks
	ended   error               // what the reader gets after the last chunk
	stopped *replica.CloseError // what the writer gets
}

type chunk struct {
	data []byte
	due  time.Time // zero: at once
}

func newStreams(c, remote *conn, space string) *stream {
	forth, back := &pipe{changed: sync.NewCond(&c.link.mu)}, &pipe{changed: sync.NewCond(&c.link.mu)}
	s := &stream{conn: c, space: space, opener: true, in: back, out: forth}
	s.twin = &stream{conn: remote, twin: s, space: space, in: forth, out: back}
	s.reader = wire.NewReader(readSide{s}, 0)
	s.twin.reader = wire.NewReader(readSide{s.twin}, 0)
	return s
}

// over returns why this end can neither read nor write. The mutex is held.
func (s *stream) over() error {
	if s.closed != nil {
		return s.closed
	}
	return s.conn.err
}

func (s *stream) WriteFrames(frames ...[]byte) error {
	l := s.conn.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for s.writing && s.over() == nil {
		s.out.changed.Wait()
	}
	s.writing = true
	defer func() { s.writing = false; s.out.changed.Broadcast() }()
	for _, f := range frames {
		if err := s.write(f); err != nil {
			return err
		}
		l.frame()
	}
	return s.over()
}

func (s *stream) write(f []byte) error {
	l, p := s.conn.link, s.out
	for len(f) > 0 {
		if err := s.over(); err != nil {
			return err
		}
		if p.stopped != nil && !l.cut {
			return p.stopped
		}
		n := min(len(f), streamWindow-p.size)
		if n == 0 {
			p.changed.Wait()
			continue
		}
		c := chunk{data: append([]byte(nil), f[:n]...)}
		if d := l.delay(); d > 0 {
			c.due = time.Now().Add(d)
			if last := len(p.chunks) - 1; last >= 0 && c.due.Before(p.chunks[last].due) {
				c.due = p.chunks[last].due
			}
			time.AfterFunc(time.Until(c.due), p.changed.Broadcast)
		}
		p.chunks = append(p.chunks, c)
		p.size += n
		s.conn.sent += uint64(n)
		f = f[n:]
		p.changed.Broadcast()
	}
	return nil
}

func (s *stream) ReadFrame() ([]byte, error) {
	f, err := s.reader.ReadFrame()
	var bad *wire.FrameError
	if errors.As(err, &bad) {
		code := replica.CloseMalformed
		if errors.Is(err, wire.ErrTooLarge) {
			code = replica.CloseTooLarge
		}
		s.shut(code, bad.Error())
		s.conn.link.mu.Lock()
		defer s.conn.link.mu.Unlock()
		return nil, s.over()
	}
	if err == nil {
		s.conn.link.network.messages.Add(1)
	}
	return f, err
}

type readSide struct{ s *stream }

// Read blocks until bytes have arrived.
func (r readSide) Read(b []byte) (int, error) {
	s, l, p := r.s, r.s.conn.link, r.s.in
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := s.over(); err != nil {
			return 0, err
		}
		if !l.cut {
			if len(p.chunks) > 0 && !p.chunks[0].due.After(time.Now()) {
				n := p.take(b)
				s.conn.received += uint64(n)
				p.changed.Broadcast()
				return n, nil
			}
			if len(p.chunks) == 0 && p.ended != nil {
				return 0, p.ended
			}
		}
		p.changed.Wait()
	}
}

func (p *pipe) take(b []byte) int {
	n := copy(b, p.chunks[0].data)
	p.size -= n
	if n < len(p.chunks[0].data) {
		p.chunks[0].data = p.chunks[0].data[n:]
	} else {
		p.chunks[0].data = nil
		p.chunks = p.chunks[1:]
	}
	return n
}

func (s *stream) Close(code replica.CloseCode) error {
	s.shut(code, "")
	return nil
}

func (s *stream) shut(code replica.CloseCode, reason string) {
	l := s.conn.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.closed != nil {
		return
	}
	s.closed = &replica.CloseError{Code: code, Reason: reason}
	remote := &replica.CloseError{Code: code, Remote: true}
	if s.out.ended = remote; code == replica.CloseDone && !s.writing {
		s.out.ended = io.EOF
	}
	s.in.stopped = remote
	s.in.chunks, s.in.size = nil, 0
	s.in.changed.Broadcast()
	s.out.changed.Broadcast()
	if s.twin.closed == nil {
		return
	}
	// Both ends are closed: it is gone, and its opener may open another.
	for _, end := range []*stream{s, s.twin} {
		delete(end.conn.streams, end)
		if end.opener {
			<-end.conn.credits
		}
	}
}
