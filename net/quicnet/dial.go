package quicnet

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/replica"
)

const (
	// dialStagger is the head start that each address of a name has before the next is tried too.
	dialStagger = 250 * time.Millisecond
	// maxDialAddrs bounds how many addresses of one name are tried.
	maxDialAddrs = 4
)

// Dial implements replica.Transport. addr is host:port. If a name has several addresses they are tried one after the other, soon
// overlapping, and the first that completes the QUIC handshake counts.
func (t *Transport) Dial(ctx context.Context, addr string, peer replica.PeerID) (replica.Conn, error) {
	within, leave, ok := t.enter(ctx)
	if !ok {
		return nil, fmt.Errorf("dial %s: %w", addr, net.ErrClosed)
	}
	defer leave()
	c, err := t.dial(within, addr, peer)
	if err != nil {
		if t.ctx.Err() != nil {
			err = net.ErrClosed
		}
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, addr string, expected replica.PeerID) (*conn, error) {
	addrs, err := resolve(ctx, addr)
	if err != nil {
		return nil, err
	}
	qc, err := t.dialFirst(ctx, addrs, t.sockets.tls)
	if err != nil {
		return nil, err
	}
	if !t.track(qc) {
		closeConn(qc, replica.CloseDone, "node closed")
		return nil, net.ErrClosed
	}
	peer, err := peerOf(qc.ConnectionState().TLS)
	if err != nil {
		return nil, refuse(qc, replica.CloseNotAllowed, err.Error())
	}
	if refused := t.check(peer, expected); refused != nil {
		pause(qc.Context(), refusalPause(qc))
		return nil, refuse(qc, refused.Code, refused.Reason)
	}
	within, cancel := context.WithTimeout(ctx, t.config.HandshakeTimeout)
	defer cancel()
	c, err := t.greet(within, qc)
	if err != nil {
		closeConn(qc, replica.CloseDone, "dial gave up")
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return c, nil
}

// refusalPause is how long a dialler waits before it refuses: it is done with the handshake before the accepter is, which would never
// hear of a connection that was closed by then, and could not log why.
func refusalPause(qc *quic.Conn) time.Duration {
	return min(max(3*qc.ConnectionStats().SmoothedRTT, 50*time.Millisecond), 500*time.Millisecond)
}

func resolve(ctx context.Context, addr string) ([]*net.UDPAddr, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "udp", service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return nil, fmt.Errorf("address %q names no host", addr)
	}
	ips, err := net.DefaultResolver.LookupIPAddr(ctx, host)
	if err != nil {
		return nil, err
	}
	var addrs []*net.UDPAddr
	for _, ip := range ips[:min(len(ips), maxDialAddrs)] {
		addrs = append(addrs, &net.UDPAddr{IP: ip.IP, Port: port, Zone: ip.Zone})
	}
	return addrs, nil
}

type dialled struct {
	qc  *quic.Conn
	err error
}

// dialFirst returns the first connection that comes up. The others are given up; one that came up all the same is closed.
func (t *Transport) dialFirst(ctx context.Context, addrs []*net.UDPAddr, config *tls.Config) (*quic.Conn, error) {
	if len(addrs) == 1 {
		return t.dialOne(ctx, addrs[0], config)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialled, len(addrs))
	for i, addr := range addrs {
		go func() {
			if !pause(ctx, time.Duration(i)*dialStagger) {
				results <- dialled{nil, ctx.Err()}
				return
			}
			qc, err := t.dialOne(ctx, addr, config)
			results <- dialled{qc, err}
		}()
	}
	var first *quic.Conn
	var errs []error
	for range addrs {
		switch r := <-results; {
		case r.err != nil:
			errs = append(errs, r.err)
		case first == nil:
			first = r.qc
			cancel()
		default:
			closeConn(r.qc, replica.CloseDuplicate, "another address was faster")
		}
	}
	if first == nil {
		return nil, errors.Join(errs...)
	}
	return first, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Transport) dialOne(ctx context.Context, addr *net.UDPAddr, config *tls.Config) (*quic.Conn, error) {
	socket, err := t.sockets.towards(addr.IP)
	if err != nil {
		return nil, err
	}
	qc, err := socket.Dial(ctx, addr, config, t.config.quic())
	return qc, translate(err)
}
