package quicnet_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

func link(t testing.TB, a, b *quicnet.Transport) (dialler, accepter replica.Conn) {
	t.Helper()
	ctx := withPatience(t)
	dialler, err := a.Dial(ctx, b.Addrs()[0], b.Self())
	if err != nil {
		t.Fatal(err)
	}
	if accepter, err = b.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	return dialler, accepter
}

func stream(t testing.TB, a, b replica.Conn) (opener, accepter replica.Stream) {
	t.Helper()
	ctx := withPatience(t)
	opener, err := a.OpenStream(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	if _, accepter, err = b.AcceptStream(ctx); err != nil {
		t.Fatal(err)
	}
	return opener, accepter
}

// blob is a frame of a type that nobody knows, with n bytes that depend on number.
func blob(number, n int) []byte {
	b := append(binary.BigEndian.AppendUint32(nil, uint32(n+1)), 0xee)
	return append(b, bytes.Repeat([]byte{byte(number)}, n)...)
}

// exchange sends frames both ways and checks each.
func exchange(t testing.TB, a, b replica.Stream, frames, size int) {
	t.Helper()
	var wg sync.WaitGroup
	for _, dir := range [][2]replica.Stream{{a, b}, {b, a}} {
		wg.Go(func() {
			for i := range frames {
				if err := dir[0].WriteFrames(blob(i, size)); err != nil {
					t.Errorf("WriteFrames: %v", err)
					return
				}
			}
		})
		wg.Go(func() {
			for i := range frames {
				if f, err := dir[1].ReadFrame(); err != nil || !bytes.Equal(f, blob(i, size)) {
					t.Errorf("frame %d: %d bytes, %v", i, len(f), err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// roaming is a socket that can move to another port, as when a laptop changes networks or a NAT forgets it.
type roaming struct {
	mu     sync.Mutex
	now    net.PacketConn
	before []net.PacketConn
	until  time.Time
	closed bool
}

func newRoaming(t testing.TB) *roaming {
	r := new(roaming)
	r.move(t)
	return r
}

func (r *roaming) move(t testing.TB) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = conn.SetReadDeadline(r.until)
	if r.now != nil {
		r.before = append(r.before, r.now)
		_ = r.now.SetReadDeadline(time.Unix(1, 0)) // what still comes there is lost
	}
	r.now = conn
}

func (r *roaming) current() net.PacketConn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *roaming) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		conn := r.current()
		n, addr, err := conn.ReadFrom(b)
		if err == nil || conn == r.current() {
			return n, addr, err
		}
	}
}

func (r *roaming) WriteTo(b []byte, addr net.Addr) (int, error) { return r.current().WriteTo(b, addr) }
func (r *roaming) LocalAddr() net.Addr                          { return r.current().LocalAddr() }
func (r *roaming) SetDeadline(t time.Time) error                { return r.SetReadDeadline(t) }
func (r *roaming) SetWriteDeadline(time.Time) error             { return nil }

func (r *roaming) SetReadDeadline(t time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.until = t
	return r.now.SetReadDeadline(t)
}

func (r *roaming) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return net.ErrClosed
	}
	r.closed = true
	for _, conn := range r.before {
		conn.Close()
	}
	return r.now.Close()
}

func TestConnectionSurvivesAChangeOfAddress(t *testing.T) {
	socket := newRoaming(t)
	a := open(t, quicnet.Config{Identity: identity(t, 1), PacketConn: socket})
	b := open(t, quicnet.Config{Identity: identity(t, 2)})
	ca, cb := link(t, a, b)
	sa, sb := stream(t, ca, cb)
	exchange(t, sa, sb, 50, 1000)
	for range 3 {
		before := cb.RemoteAddr()
		socket.move(t)
		exchange(t, sa, sb, 50, 1000)
		if after := cb.RemoteAddr(); after == before || after != socket.LocalAddr().String() {
			t.Errorf("the accepter sees the peer at %s, before %s, it is at %s", after, before, socket.LocalAddr())
		}
	}
	if ca.Err() != nil || cb.Err() != nil {
		t.Errorf("the connection ended: %v, %v", ca.Err(), cb.Err())
	}
}

func TestBadNetwork(t *testing.T) {
	for name, loss := range map[string]nettest.Loss{
		"a tenth is lost":         {Drop: 0.1},
		"a third is repeated":     {Duplicate: 0.3},
		"a fifth is out of order": {Reorder: 0.2},
		"everything at once":      {Drop: 0.05, Duplicate: 0.05, Reorder: 0.1, MinDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sockets []*nettest.LossyPacketConn
			var nodes []*quicnet.Transport
			for i := range 2 {
				socket := nettest.NewLossyPacketConn(listen(t).UDPConn, uint64(i+1), loss)
				sockets = append(sockets, socket)
				nodes = append(nodes, open(t, quicnet.Config{Identity: identity(t, byte(i+1)), PacketConn: socket}))
			}
			ca, cb := link(t, nodes[0], nodes[1])
			sa, sb := stream(t, ca, cb)
			exchange(t, sa, sb, 100, 5000)
			for _, s := range sockets {
				c := s.Counts()
				if loss.Drop > 0 && c.Dropped == 0 || loss.Duplicate > 0 && c.Duplicated == 0 || loss.Reorder > 0 && c.Reordered == 0 {
					t.Errorf("the network was too good: %+v", c)
				}
			}
		})
	}
}

// restart ends a node without a word to anybody, and opens it again at the address of its socket.
func restart(t *testing.T, node *quicnet.Transport, socket *mute, id byte) {
	t.Helper()
	socket.muted.Store(true)
	node.Close()
	again, err := net.ListenUDP("udp", socket.LocalAddr().(*net.UDPAddr))
	if errors.Is(err, syscall.EADDRINUSE) {
		t.Skipf("the port was taken meanwhile: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	open(t, quicnet.Config{Identity: identity(t, id), PacketConn: &mute{UDPConn: again}})
}

// TestRestartedNodeIsNoticedAtOnce kills a node without a word and starts it again: its stateless reset tells the peer long before the
// idle timeout.
func TestRestartedNodeIsNoticedAtOnce(t *testing.T) {
	socket := listen(t)
	a := open(t, quicnet.Config{Identity: identity(t, 1), KeepAlive: 100 * time.Millisecond})
	b := open(t, quicnet.Config{Identity: identity(t, 2), PacketConn: socket})
	ca, cb := link(t, a, b)
	sa, sb := stream(t, ca, cb)
	exchange(t, sa, sb, 1, 10)

	start := time.Now()
	restart(t, b, socket, 2)
	select {
	case <-ca.Done():
	case <-time.After(patience):
		t.Fatal("the connection goes on")
	}
	if took := time.Since(start); took > 10*time.Second || !strings.Contains(ca.Err().Error(), "restarted") {
		t.Errorf("after %s: %v", took, ca.Err())
	}
}

// plain hides what a UDP socket can do beside reading and writing. Over it QUIC does not probe for larger packets, each of which would have a
// peer that was restarted answer.
type plain struct{ net.PacketConn }

// TestIdlePeerIsNoticedToHaveRestarted is the same for a connection on which nothing happens, not even what QUIC does when it is young.
func TestIdlePeerIsNoticedToHaveRestarted(t *testing.T) {
	a := open(t, quicnet.Config{Identity: identity(t, 1), PacketConn: plain{listen(t).UDPConn}, KeepAlive: 100 * time.Millisecond})
	socket := listen(t)
	b := open(t, quicnet.Config{Identity: identity(t, 2), PacketConn: socket})
	ca, _ := link(t, a, b)
	restart(t, b, socket, 2)
	select {
	case <-ca.Done():
	case <-time.After(patience): // shorter than IdleTimeout
		t.Fatal("the connection goes on")
	}
	if !strings.Contains(ca.Err().Error(), "restarted") {
		t.Errorf("it ended with %v", ca.Err())
	}
}

func TestDialByName(t *testing.T) {
	a := open(t, quicnet.Config{Identity: identity(t, 1)})
	b := open(t, quicnet.Config{Identity: identity(t, 2)})
	_, port, err := net.SplitHostPort(b.Addrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	// The name may stand for ::1 too, where nobody answers.
	c, err := a.Dial(withPatience(t), "localhost:"+port, b.Self())
	if err != nil {
		t.Fatal(err)
	}
	c.Close(replica.CloseDone, "")
	for _, addr := range []string{"", "localhost", ":7440", "host:port", "[::1"} {
		if _, err := a.Dial(withPatience(t), addr, b.Self()); err == nil {
			t.Errorf("Dial(%q) succeeded", addr)
		}
	}
}

func TestDialOnlyNode(t *testing.T) {
	config := quicnet.Config{Identity: identity(t, 1), InsecureAllowAny: true}
	a, err := quicnet.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if len(a.Addrs()) != 0 {
		t.Errorf("a node that only dials is at %v", a.Addrs())
	}
	b := open(t, quicnet.Config{Identity: identity(t, 2)})
	ca, cb := link(t, a, b)
	sb, sa := stream(t, cb, ca) // the accepter opens
	exchange(t, sa, sb, 10, 100)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept: %v", err)
	}
}

func TestAllInterfaces(t *testing.T) {
	b := open(t, quicnet.Config{Identity: identity(t, 2), Listen: "0.0.0.0:0"})
	a := open(t, quicnet.Config{Identity: identity(t, 1), Listen: "0.0.0.0:0"})
	for _, addr := range b.Addrs() {
		host, _, err := net.SplitHostPort(addr)
		if ip := net.ParseIP(host); err != nil || ip == nil || ip.IsUnspecified() {
			t.Errorf("address %q cannot be dialled", addr)
		}
		if c, err := a.Dial(withPatience(t), addr, b.Self()); err != nil {
			t.Errorf("Dial %s: %v", addr, err)
		} else if got := c.(interface{ PeerAddrs() []string }).PeerAddrs(); fmt.Sprint(got) != fmt.Sprint(b.Addrs()) {
			t.Errorf("the peer says that it is at %v, want %v", got, b.Addrs())
		}
	}
}

func TestManyPeersShareOneSocket(t *testing.T) {
	hub := open(t, quicnet.Config{Identity: identity(t, 1)})
	for i := range 10 {
		leaf := open(t, quicnet.Config{Identity: identity(t, byte(i+2))})
		dialler, accepter := hub, leaf
		if i%2 == 0 {
			dialler, accepter = leaf, hub
		}
		ca, cb := link(t, dialler, accepter)
		sa, sb := stream(t, ca, cb)
		exchange(t, sa, sb, 3, 100)
		at := ca
		if dialler == hub {
			at = cb
		}
		if at.RemoteAddr() != hub.Addrs()[0] {
			t.Errorf("the hub is seen at %s, it listens at %s", at.RemoteAddr(), hub.Addrs()[0])
		}
	}
}

func TestBadConfigs(t *testing.T) {
	id := identity(t, 1)
	for name, config := range map[string]quicnet.Config{
		"no identity":            {InsecureAllowAny: true},
		"nobody is allowed":      {Identity: id},
		"keep-alive too long":    {Identity: id, InsecureAllowAny: true, KeepAlive: time.Minute},
		"bad address":            {Identity: id, InsecureAllowAny: true, Listen: "nowhere"},
		"version over the limit": {Identity: id, InsecureAllowAny: true, Version: string(make([]byte, wire.MaxSoftwareBytes+1))},
	} {
		if tr, err := quicnet.New(config); err == nil {
			tr.Close()
			t.Errorf("%s: no error", name)
		}
	}
	used := open(t, quicnet.Config{Identity: id})
	if tr, err := quicnet.New(quicnet.Config{Identity: id, InsecureAllowAny: true, Listen: used.Addrs()[0]}); err == nil {
		tr.Close()
		t.Error("two nodes listen on one port")
	}
}

func BenchmarkTransport(b *testing.B) {
	nettest.Bench(b, func(t testing.TB, n int, _ nettest.Options) *nettest.Net {
		out := new(nettest.Net)
		for i := range n {
			out.Transports = append(out.Transports, open(t, quicnet.Config{Identity: identity(t, byte(i+1))}))
		}
		return out
	})
}
