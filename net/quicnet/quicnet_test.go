package quicnet_test

import (
	"crypto/ed25519"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// identity returns the same identity for the same number.
func identity(t testing.TB, number byte) quicnet.Identity {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = number
	id, err := quicnet.NewIdentity(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// mute is a UDP socket whose writes can be made to vanish.
type mute struct {
	*net.UDPConn
	muted atomic.Bool
}

func (m *mute) WriteTo(b []byte, addr net.Addr) (int, error) {
	if m.muted.Load() {
		return len(b), nil
	}
	return m.UDPConn.WriteTo(b, addr)
}

func (m *mute) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	if m.muted.Load() {
		return len(b), len(oob), nil
	}
	return m.UDPConn.WriteMsgUDP(b, oob, addr)
}

func listen(t testing.TB) *mute {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return &mute{UDPConn: conn}
}

func open(t testing.TB, config quicnet.Config) *quicnet.Transport {
	t.Helper()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Listen == "" {
		config.Listen = "127.0.0.1:0"
	}
	if config.Allow == nil {
		config.InsecureAllowAny = true
	}
	tr, err := quicnet.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return tr
}

func makeNet(t testing.TB, n int, o nettest.Options) *nettest.Net {
	out := new(nettest.Net)
	sockets := make([]*mute, n)
	for i := range n {
		sockets[i] = listen(t)
		config := quicnet.Config{
			Identity: identity(t, byte(i+1)), PacketConn: sockets[i], IdleTimeout: 3 * time.Second,
		}
		if o.Allow != nil {
			config.Allow = func(peer replica.PeerID) bool { return o.Allow(i, peer) }
		}
		if o.Now != nil {
			config.Now = func() time.Time { return o.Now(i) }
		}
		out.Transports = append(out.Transports, open(t, config))
	}
	out.Silence = func(i int) { sockets[i].muted.Store(true) }
	return out
}

func TestTransport(t *testing.T) { nettest.Run(t, makeNet) }
