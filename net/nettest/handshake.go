package nettest

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

func testIdentity(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	self, other := n.Transports[0].Self(), n.Transports[1].Self()
	if self == other || self.IsZero() || other.IsZero() {
		t.Fatalf("identities %s and %s", self, other)
	}
	if a.Peer() != other || b.Peer() != self {
		t.Errorf("peers %s and %s, want %s and %s", a.Peer(), b.Peer(), other, self)
	}
	if !a.Dialled() || b.Dialled() {
		t.Errorf("Dialled: %v and %v, want true and false", a.Dialled(), b.Dialled())
	}
	if a.RemoteAddr() == "" || b.RemoteAddr() == "" {
		t.Errorf("RemoteAddr: %q and %q", a.RemoteAddr(), b.RemoteAddr())
	}
	select {
	case <-a.Done():
		t.Error("Done is closed on an open connection")
	default:
	}
	if a.Err() != nil || b.Err() != nil {
		t.Errorf("Err on open connections: %v and %v", a.Err(), b.Err())
	}
	// Without an expectation any allowed peer will do.
	c, err := n.Transports[1].Dial(withPatience(t), n.Transports[0].Addrs()[0], replica.PeerID{})
	if err != nil || c.Peer() != self {
		t.Fatalf("Dial without an expected peer: %v", err)
	}
}

func testWrongPeer(t *testing.T, make Maker) {
	n := make(t, 3, Options{})
	_, err := n.Transports[0].Dial(withPatience(t), n.Transports[1].Addrs()[0], n.Transports[2].Self())
	closed := wantClose(t, "Dial", err, replica.CloseWrongPeer, false)
	for _, id := range []replica.PeerID{n.Transports[1].Self(), n.Transports[2].Self()} {
		if !strings.Contains(closed.Reason, id.String()) {
			t.Errorf("reason %q does not name %s", closed.Reason, id)
		}
	}
	wantNoAccept(t, n.Transports[1])
}

func testNotAllowed(t *testing.T, make Maker) {
	n := make(t, 2, Options{Allow: func(i int, _ replica.PeerID) bool { return i == 0 }})
	_, err := n.Transports[0].Dial(withPatience(t), n.Transports[1].Addrs()[0], n.Transports[1].Self())
	wantClose(t, "Dial", err, replica.CloseNotAllowed, true)
	wantNoAccept(t, n.Transports[1])
}

func testDialNotAllowed(t *testing.T, make Maker) {
	n := make(t, 2, Options{Allow: func(i int, _ replica.PeerID) bool { return i == 1 }})
	_, err := n.Transports[0].Dial(withPatience(t), n.Transports[1].Addrs()[0], replica.PeerID{})
	wantClose(t, "Dial", err, replica.CloseNotAllowed, false)
	wantNoAccept(t, n.Transports[1])
}

func testSameIdentity(t *testing.T, make Maker) {
	n := make(t, 1, Options{})
	_, err := n.Transports[0].Dial(withPatience(t), n.Transports[0].Addrs()[0], replica.PeerID{})
	var closed *replica.CloseError
	if !errors.As(err, &closed) || closed.Code != replica.CloseSameIdentity {
		t.Fatalf("Dial to itself: %v, want CloseSameIdentity", err)
	}
	wantNoAccept(t, n.Transports[0])
}

// wantNoAccept fails if a refused connection is handed out. It is heard of before or never: the dialler has its refusal.
func wantNoAccept(t *testing.T, tr replica.Transport) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if c, err := tr.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Accept after a refusal: %v, %v", c, err)
	}
}

func testNobody(t *testing.T, make Maker) {
	n := make(t, 2, Options{})
	addr := n.Transports[1].Addrs()[0]
	if err := n.Transports[1].Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := n.Transports[0].Dial(ctx, addr, replica.PeerID{})
	if err == nil || !strings.Contains(err.Error(), addr) {
		t.Fatalf("Dial where nobody listens: %v, want an error that names %s", err, addr)
	}
	for name, call := range map[string]func() error{
		"Dial":   func() error { _, err := n.Transports[1].Dial(withPatience(t), addr, replica.PeerID{}); return err },
		"Accept": func() error { _, err := n.Transports[1].Accept(withPatience(t)); return err },
	} {
		if err := call(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s on a closed transport: %v, want net.ErrClosed", name, err)
		}
	}
	if err := n.Transports[1].Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

func testSkew(t *testing.T, make Maker) {
	const ahead = 42 * time.Minute
	n := make(t, 2, Options{Now: func(i int) time.Time { return time.Now().Add(time.Duration(i) * ahead) }})
	a, b := connect(t, n.Transports[0], n.Transports[1])
	if got := a.Skew(); (got - ahead).Abs() > time.Second {
		t.Errorf("the peer is %s ahead, Skew says %s", ahead, got)
	}
	if got := b.Skew(); (got + ahead).Abs() > time.Second {
		t.Errorf("the peer is %s behind, Skew says %s", ahead, got)
	}
}

func testContexts(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	soon, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for name, call := range map[string]func(context.Context) error{
		"Dial": func(ctx context.Context) error {
			_, err := n.Transports[0].Dial(ctx, n.Transports[1].Addrs()[0], replica.PeerID{})
			return err
		},
		"Accept":       func(ctx context.Context) error { _, err := n.Transports[1].Accept(ctx); return err },
		"OpenStream":   func(ctx context.Context) error { _, err := a.OpenStream(ctx, "s"); return err },
		"AcceptStream": func(ctx context.Context) error { _, _, err := b.AcceptStream(ctx); return err },
	} {
		if err := call(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a cancelled context: %v", name, err)
		}
	}
	if _, err := n.Transports[1].Accept(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Accept until the deadline: %v", err)
	}
	if _, _, err := b.AcceptStream(soon); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("AcceptStream until the deadline: %v", err)
	}
	open(t, a, b, "still usable")
}

func testTwoConnections(t *testing.T, make Maker) {
	n := make(t, 2, Options{})
	a1, b1 := connect(t, n.Transports[0], n.Transports[1])
	b2, a2 := connect(t, n.Transports[1], n.Transports[0])
	if err := a1.Close(replica.CloseDuplicate, "one is enough"); err != nil {
		t.Fatalf("Close: %v", err)
	}
	within(t, "Done at the peer", b1.Done())
	s, r := open(t, a2, b2, "other")
	if err := s.WriteFrames(frame(t, n.Transports[0], 7, 0)); err != nil {
		t.Fatalf("WriteFrames on the other connection: %v", err)
	}
	readNumber(t, n.Transports[1], r, 7)
}
