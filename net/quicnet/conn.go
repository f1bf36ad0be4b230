package quicnet

import (
	"context"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// conn implements replica.Conn. Three goroutines belong to it, and one more for each stream that was opened and not yet named; they end with the
// connection.
type conn struct {
	t       *Transport
	qc      *quic.Conn
	peer    replica.PeerID
	hello   wire.Hello
	dialled bool
	skew    time.Duration
	opened  chan *stream // named by the peer, waiting for AcceptStream
	control *control
}

var _ replica.Conn = (*conn)(nil)

func (t *Transport) newConn(qc *quic.Conn, hello wire.Hello, control *control, dialled bool, skew time.Duration) *conn {
	peer, _ := peerOf(qc.ConnectionState().TLS) // it has been proven
	c := &conn{
		t: t, qc: qc, peer: peer, hello: hello, dialled: dialled, skew: skew,
		opened: make(chan *stream, maxIncomingStreams), control: control,
	}
	t.running.Go(c.readControl)
	t.running.Go(c.acceptLoop)
	t.running.Go(c.beat)
	return c
}

// beat sends something now and then that a peer that has restarted, and does not know this connection, answers with a stateless reset. Without
// it a connection on which nothing happens would go on until IdleTimeout.
func (c *conn) beat() {
	frame, err := wire.AppendBeat(nil)
	if err != nil {
		panic(err) // it is always the same
	}
	tick := time.NewTicker(c.t.config.KeepAlive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if c.write(frame) != nil {
				return
			}
		case <-c.Done():
			return
		}
	}
}

func (c *conn) Peer() replica.PeerID  { return c.peer }
func (c *conn) RemoteAddr() string    { return c.qc.RemoteAddr().String() }
func (c *conn) Dialled() bool         { return c.dialled }
func (c *conn) Skew() time.Duration   { return c.skew }
func (c *conn) Done() <-chan struct{} { return c.qc.Context().Done() }
func (c *conn) Err() error            { return causeOf(c.qc) }

// PeerAddrs implements replica.Conn.
func (c *conn) PeerAddrs() []string { return c.hello.Addrs }

// PeerSoftware returns the name and version of the peer's program. It is not part of replica.Conn.
func (c *conn) PeerSoftware() (software, version string) { return c.hello.Software, c.hello.Version }

// Traffic counts QUIC packets whole: headers, acknowledgements and repetitions included, UDP and IP headers not.
func (c *conn) Traffic() (sent, received uint64) {
	stats := c.qc.ConnectionStats()
	return stats.BytesSent, stats.BytesReceived
}

// Close does not wait until what was written has arrived: to be sure, let the peer answer first.
func (c *conn) Close(code replica.CloseCode, reason string) error {
	return closeConn(c.qc, code, reason)
}

// OpenStream blocks while the peer has as many streams of ours open as it allows.
func (c *conn) OpenStream(ctx context.Context, space string) (replica.Stream, error) {
	open, err := wire.AppendSpaceOpen(nil, space)
	if err != nil {
		return nil, err
	}
	if err := c.Err(); err != nil {
		return nil, err
	}
	qs, err := c.qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, c.translate(err)
	}
	s := newStream(c, qs, space)
	if err := s.WriteFrames(open); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *conn) AcceptStream(ctx context.Context) (string, replica.Stream, error) {
	if err := c.Err(); err != nil {
		return "", nil, err
	}
	select {
	case s := <-c.opened:
		return s.space, s, nil
	case <-c.Done():
		return "", nil, c.Err()
	case <-ctx.Done():
		return "", nil, ctx.Err()
	}
}

// translate prefers the reason for which the whole connection ended.
func (c *conn) translate(err error) error {
	if ended := c.Err(); ended != nil {
		return ended
	}
	return translate(err)
}

// acceptLoop reads the names of the streams that the peer opens. Each is read by itself, so that one that comes slowly holds up no other;
// how many there are at once is bounded by maxIncomingStreams.
func (c *conn) acceptLoop() {
	for {
		qs, err := c.qc.AcceptStream(c.qc.Context())
		if err != nil {
			return
		}
		c.t.running.Go(func() { c.readName(qs) })
	}
}

func (c *conn) readName(qs *quic.Stream) {
	s := newStream(c, qs, "")
	s.reader.SetLimit(wire.MaxControlFrameBytes)
	qs.SetReadDeadline(time.Now().Add(c.t.config.HandshakeTimeout))
	b, err := s.reader.ReadFrame()
	if err == nil {
		s.space, err = wire.ParseSpaceOpen(b)
	}
	if err != nil {
		s.Close(replica.CloseMalformed)
		return
	}
	qs.SetReadDeadline(time.Time{})
	s.reader.SetLimit(wire.MaxFrameBytes)
	select {
	case c.opened <- s:
	case <-c.Done():
	}
}
