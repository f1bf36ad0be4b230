package memnet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

const scheme = "mem:"

// Transport is one node of a Network.
type Transport struct {
	network  *Network
	name     string
	id       replica.PeerID
	accepted chan *conn
	done     chan struct{}
	close    sync.Once

	mu    sync.Mutex
	allow func(replica.PeerID) bool
	gate  replica.Gate
	now   func() time.Time
}

var _ replica.Transport = (*Transport)(nil)

// SetAllow sets which peers may connect and be connected to; at first all may.
func (t *Transport) SetAllow(allow func(replica.PeerID) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.allow = allow
}

// SetNow sets the node's wall clock, from which Conn.Skew comes; at first it is time.Now.
func (t *Transport) SetNow(now func() time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
}

// SetGate implements replica.Transport.
func (t *Transport) SetGate(g replica.Gate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.gate = g
}

// Listed implements replica.Transport.
func (t *Transport) Listed(id replica.PeerID) bool {
	t.mu.Lock()
	allow := t.allow
	t.mu.Unlock()
	return allow(id)
}

func (t *Transport) allows(id replica.PeerID) bool {
	if t.Listed(id) {
		return true
	}
	t.mu.Lock()
	g := t.gate
	t.mu.Unlock()
	return g.Allow != nil && g.Allow(id)
}

func (t *Transport) wall() time.Time {
	t.mu.Lock()
	now := t.now
	t.mu.Unlock()
	return now()
}

// Self implements replica.Transport.
func (t *Transport) Self() replica.PeerID { return t.id }

// Addrs implements replica.Transport.
func (t *Transport) Addrs() []string { return []string{scheme + t.name} }

// Marshal implements replica.Transport.
func (t *Transport) Marshal(dst []byte, m protocol.Message) ([]byte, error) {
	return wire.Marshal(dst, m)
}

// Unmarshal implements replica.Transport.
func (t *Transport) Unmarshal(b []byte) (protocol.Message, error) { return wire.Unmarshal(b) }

var errNoAnswer = errors.New("no answer")

// Dial implements replica.Transport.
func (t *Transport) Dial(ctx context.Context, addr string, peer replica.PeerID) (replica.Conn, error) {
	c, err := t.dial(ctx, addr, peer)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, addr string, peer replica.PeerID) (*conn, error) {
	if err := t.ended(ctx); err != nil {
		return nil, err
	}
	other, faults := t.network.lookup(addr)
	if other == nil {
		return nil, errors.New("no node listens there")
	}
	if err := t.travel(ctx, other, 2*faults.MinDelay); err != nil {
		return nil, err
	}
	switch {
	case other.id == t.id:
		return nil, &replica.CloseError{Code: replica.CloseSameIdentity}
	case !peer.IsZero() && other.id != peer:
		return nil, &replica.CloseError{Code: replica.CloseWrongPeer, Reason: fmt.Sprintf("expected %s, found %s", peer, other.id)}
	case !t.allows(other.id):
		return nil, &replica.CloseError{Code: replica.CloseNotAllowed}
	case !other.allows(t.id):
		return nil, &replica.CloseError{Code: replica.CloseNotAllowed, Remote: true}
	}
	l := t.network.link(t, other)
	select {
	case other.accepted <- l.ends[1]:
		return l.ends[0], nil
	case <-other.done:
		l.lose()
		return nil, errNoAnswer
	case <-ctx.Done():
		l.lose()
		return nil, ctx.Err()
	}
}

func (t *Transport) ended(ctx context.Context) error {
	select {
	case <-t.done:
		return net.ErrClosed
	default:
		return ctx.Err()
	}
}

// travel waits for the handshake to go there and back.
func (t *Transport) travel(ctx context.Context, other *Transport, roundTrip time.Duration) error {
	cut := t.network.isCut(t.id, other.id)
	if cut {
		roundTrip = DialTimeout
	}
	if roundTrip > 0 {
		timer := time.NewTimer(roundTrip)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.done:
			return net.ErrClosed
		}
	}
	if cut {
		return errNoAnswer
	}
	return nil
}

// Accept implements replica.Transport.
func (t *Transport) Accept(ctx context.Context) (replica.Conn, error) {
	if err := t.ended(ctx); err != nil {
		return nil, err
	}
	select {
	case c := <-t.accepted:
		return c, nil
	case <-t.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close implements replica.Transport.
func (t *Transport) Close() error {
	t.close.Do(func() {
		t.network.remove(t)
		close(t.done)
		t.network.each(func(*link) bool { return true }, func(l *link) {
			for _, c := range l.ends {
				if c.t == t {
					c.Close(replica.CloseDone, "node closed")
				}
			}
		})
	})
	return nil
}
