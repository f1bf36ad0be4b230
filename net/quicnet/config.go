package quicnet

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// Config configures a Transport. Identity and one of Allow and InsecureAllowAny are needed; the zero value of each other field is its
// default.
type Config struct {
	// Identity is the node's key.
	Identity Identity
	// Listen is the UDP address to accept connections at: host:port, where host may be empty (all interfaces) and port 0
	// (any free port). Empty means that the node only dials.
	Listen string
	// Allow reports whether a peer may be connected with, whichever side dials. It is asked for each new connection, from several
	// goroutines, so the list may change at any time; connections that are open are not asked about again.
	Allow func(replica.PeerID) bool
	// InsecureAllowAny lets everybody in who can reach the port, if Allow is nil. For trials and tests.
	InsecureAllowAny bool

	// HandshakeTimeout bounds each step of setting up a connection; zero means 5 s.
	HandshakeTimeout time.Duration
	// IdleTimeout is the silence after which a peer is taken for dead; zero means 30 s. The shorter of both sides'
	// counts. Less finds dead peers sooner and breaks connections on a bad network.
	IdleTimeout time.Duration
	// KeepAlive is how often something is sent on an idle connection; zero means 5 s. It has to be well below
	// IdleTimeout. So long it takes at most until it is noticed that a peer was killed and is there again.
	KeepAlive time.Duration

	// Logger gets refused connections and warnings; nil means slog.Default. Never keys nor contents.
	Logger *slog.Logger
	// Now is the wall clock told to peers; nil means time.Now.
	Now func() time.Time
	// Software and Version name this program to peers; empty means "anabranch" and nothing.
	Software, Version string
	// Advertise lists addresses told to peers in place of those listened on: for a node behind a port forwarding.
	Advertise []string
	// PacketConn is used in place of a socket of the transport's own, which closes it in the end; Listen only says whether to
	// accept then. For tests, and sockets made elsewhere.
	PacketConn net.PacketConn
}

const (
	// maxIncomingStreams bounds the spaces that one side opens on a connection, and the control stream.
	maxIncomingStreams = 64
	// The windows bound what a peer can have sent and nobody has read. They grow from start to max while a stream is read fast enough;
	// connWindowMax is the budget of one peer. On loopback and with 20 ms of delay, larger and smaller ones made no difference
	// beyond that between two runs.
	streamWindowStart = 256 << 10
	streamWindowMax   = 4 << 20
	connWindowStart   = 512 << 10
	connWindowMax     = 8 << 20
)

func (c Config) withDefaults() (Config, error) {
	if c.Identity.key == nil {
		return c, errors.New("quicnet: Config.Identity is missing")
	}
	if c.Allow == nil {
		if !c.InsecureAllowAny {
			return c, errors.New("quicnet: Config.Allow is missing: list the peers that may connect, or set InsecureAllowAny")
		}
		c.Allow = func(replica.PeerID) bool { return true }
	}
	c.HandshakeTimeout = defaulted(c.HandshakeTimeout, 5*time.Second)
	c.IdleTimeout = defaulted(c.IdleTimeout, 30*time.Second)
	c.KeepAlive = defaulted(c.KeepAlive, min(5*time.Second, c.IdleTimeout/3))
	if c.KeepAlive > c.IdleTimeout/2 {
		return c, fmt.Errorf("quicnet: Config.KeepAlive of %s is more than half the IdleTimeout of %s: a single lost packet would end a connection", c.KeepAlive, c.IdleTimeout)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Software == "" {
		c.Software = "anabranch"
	}
	if _, err := wire.AppendHello(nil, wire.Hello{Addrs: c.Advertise, Software: c.Software, Version: c.Version}); err != nil {
		return c, fmt.Errorf("quicnet: Config cannot be told to peers: %w", err)
	}
	return c, nil
}

func defaulted(d, value time.Duration) time.Duration {
	if d <= 0 {
		return value
	}
	return d
}

func (c Config) quic() *quic.Config {
	return &quic.Config{
		HandshakeIdleTimeout:           c.HandshakeTimeout,
		MaxIdleTimeout:                 c.IdleTimeout,
		KeepAlivePeriod:                c.KeepAlive,
		InitialStreamReceiveWindow:     streamWindowStart,
		MaxStreamReceiveWindow:         streamWindowMax,
		InitialConnectionReceiveWindow: connWindowStart,
		MaxConnectionReceiveWindow:     connWindowMax,
		MaxIncomingStreams:             maxIncomingStreams,
		MaxIncomingUniStreams:          -1,
		// What was written before a stream is closed with a code arrives before the code: a Refusal frame is read by the peer.
		EnableStreamResetPartialDelivery: true,
	}
}
