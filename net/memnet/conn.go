package memnet

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

var (
	errLost    = errors.New("connection lost")
	errTimeout = errors.New("connection timed out: nothing heard from the peer")
)

// link is one connection: two ends, and what lies between them. Its mutex guards both ends and all their streams.
type link struct {
	network *Network
	faults  Faults
	over    atomic.Bool // both ends have ended

	mu         sync.Mutex
	ends       [2]*conn // the dialler's, the accepter's
	rng        *rand.Rand
	framesLeft int // until it breaks; zero: it does not
	cut        bool
	idle       *time.Timer
}

func (l *link) pair() pair { return pairOf(l.ends[0].t.id, l.ends[1].t.id) }

func (l *link) setCut(cut bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cut == l.cut {
		return
	}
	l.cut = cut
	if cut {
		l.idle = time.AfterFunc(IdleTimeout, func() { l.end(errTimeout) })
		return
	}
	l.idle.Stop()
	l.wake()
	// An end that closed while it was cut said so to nobody, and answers no more.
	for i, c := range l.ends {
		if c.err != nil {
			l.ends[1-i].finish(errLost)
		}
	}
}

// lose ends both ends at once.
func (l *link) lose() { l.end(errLost) }

func (l *link) end(err error) {
	l.mu.Lock()
	l.ends[0].finish(err)
	l.ends[1].finish(err)
	l.mu.Unlock()
}

// frame counts one frame on its way, and breaks the connection when its time has come. The mutex is held.
func (l *link) frame() {
	if l.framesLeft == 0 {
		return
	}
	if l.framesLeft--; l.framesLeft == 0 {
		l.ends[0].finish(errLost)
		l.ends[1].finish(errLost)
	}
}

// delay draws how long bytes are under way. The mutex is held.
func (l *link) delay() time.Duration {
	d := l.faults.MinDelay
	if spread := l.faults.MaxDelay - d; spread > 0 {
		d += time.Duration(l.rng.Int64N(int64(spread) + 1))
	}
	return d
}

// wake lets every blocked reader and writer look again. The mutex is held.
func (l *link) wake() {
	for _, c := range l.ends {
		for s := range c.streams {
			s.in.changed.Broadcast()
			s.out.changed.Broadcast()
		}
	}
}

// conn is one end.
type conn struct {
	link    *link
	t       *Transport
	other   *Transport
	dialled bool
	skew    time.Duration
	addrs   []string // of the peer
	control *stream

	incoming chan *stream
	credits  chan struct{} // one for each stream that this end has opened
	done     chan struct{}

	// guarded by link.mu
	err            error
	streams        map[*stream]struct{}
	sent, received uint64
}

var _ replica.Conn = (*conn)(nil)

func newConn(l *link, t, other *Transport, dialled bool) *conn {
	return &conn{
		link: l, t: t, other: other, dialled: dialled, skew: other.wall().Sub(t.wall()), addrs: other.Addrs(),
		incoming: make(chan *stream, maxStreams), credits: make(chan struct{}, maxStreams),
		done: make(chan struct{}), streams: map[*stream]struct{}{},
	}
}

func (c *conn) remote() *conn {
	if c.dialled {
		return c.link.ends[1]
	}
	return c.link.ends[0]
}

// finish ends this end; only the first reason counts. The mutex is held.
func (c *conn) finish(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	close(c.done)
	c.link.wake()
	if c.remote().err == nil {
		return
	}
	c.link.over.Store(true)
	if c.link.idle != nil {
		c.link.idle.Stop()
	}
}

func (c *conn) Peer() replica.PeerID  { return c.other.id }
func (c *conn) RemoteAddr() string    { return scheme + c.other.name }
func (c *conn) PeerAddrs() []string   { return c.addrs }
func (c *conn) Dialled() bool         { return c.dialled }
func (c *conn) Skew() time.Duration   { return c.skew }
func (c *conn) Done() <-chan struct{} { return c.done }

func (c *conn) Err() error {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.err
}

func (c *conn) Traffic() (sent, received uint64) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.sent, c.received
}

func (c *conn) OpenStream(ctx context.Context, space string) (replica.Stream, error) {
	if _, err := wire.AppendSpaceOpen(nil, space); err != nil {
		return nil, err
	}
	if err := c.ended(ctx); err != nil {
		return nil, err
	}
	select {
	case c.credits <- struct{}{}:
	case <-c.done:
		return nil, c.Err()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := newStreams(c, c.remote(), space)
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.streams[s], c.remote().streams[s.twin] = struct{}{}, struct{}{}
	c.remote().incoming <- s.twin // never blocks: it has room for as many as there are credits
	c.link.frame()
	return s, nil
}

func (c *conn) ended(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	return ctx.Err()
}

func (c *conn) AcceptStream(ctx context.Context) (string, replica.Stream, error) {
	if err := c.ended(ctx); err != nil {
		return "", nil, err
	}
	select {
	case s := <-c.incoming:
		return s.space, s, nil
	case <-c.done:
		return "", nil, c.Err()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
}

// openControl makes the stream on which both ends tell each other about themselves.
func (l *link) openControl() {
	s := newStreams(l.ends[0], l.ends[1], "")
	for _, end := range []*stream{s, s.twin} {
		end.reader.SetLimit(wire.MaxControlFrameBytes)
		end.conn.control = end
		end.conn.streams[end] = struct{}{}
	}
}

func (c *conn) Tell(m protocol.Control) error {
	b, err := wire.MarshalControl(nil, m)
	if err != nil {
		return err
	}
	return c.control.WriteFrames(b)
}

func (c *conn) Hear() (protocol.Control, error) {
	for {
		b, err := c.control.ReadFrame()
		if err != nil {
			return nil, err
		}
		if m, err := wire.UnmarshalControl(b); m != nil || err != nil {
			return m, err
		}
	}
}

func (c *conn) Close(code replica.CloseCode, reason string) error {
	c.link.mu.Lock()
	c.finish(&replica.CloseError{Code: code, Reason: reason})
	if !c.link.cut {
		c.remote().finish(&replica.CloseError{Code: code, Reason: reason, Remote: true})
	}
	c.link.mu.Unlock()
	return nil
}
