package quicnet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// backlog is how many connections are set up or wait for Accept at once; further ones wait in the QUIC library, which refuses them beyond a
// bound of its own.
const backlog = 32

// Transport implements replica.Transport. All connections, dialled or accepted, share one UDP socket.
type Transport struct {
	config   Config
	self     replica.PeerID
	refusals *refusals

	sockets  *sockets
	listener *quic.Listener // nil if it only dials

	accepted chan *conn
	slots    chan struct{} // one for each connection between the QUIC handshake and Accept
	ctx      context.Context
	cancel   context.CancelFunc
	running  sync.WaitGroup

	gate  atomic.Pointer[replica.Gate]
	joins chan struct{} // one for each node that asks to join
	large chan struct{} // one for each turn that is taken

	mu     sync.Mutex
	closed bool
	conns  map[*quic.Conn]struct{}
}

var _ replica.Transport = (*Transport)(nil)

// New opens the socket and, if it listens, begins to accept. Close it in the end.
func New(config Config) (*Transport, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Transport{
		config: config, self: config.Identity.PeerID(),
		refusals: &refusals{logger: config.Logger, now: config.Now},
		accepted: make(chan *conn), slots: make(chan struct{}, backlog),
		joins: make(chan struct{}, maxJoins), large: make(chan struct{}, largeTurns),
		conns: map[*quic.Conn]struct{}{},
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	accept, dial, err := t.tlsConfigs()
	if err != nil {
		return nil, err
	}
	if t.sockets, err = openSockets(config, dial); err != nil {
		return nil, err
	}
	if config.Listen == "" {
		return t, nil
	}
	if t.listener, err = t.sockets.main.Listen(accept, config.quic()); err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", config.Listen, err), t.sockets.close())
	}
	t.running.Go(t.acceptLoop)
	return t, nil
}

// Self implements replica.Transport.
func (t *Transport) Self() replica.PeerID { return t.self }

// Addrs implements replica.Transport. For a socket on all interfaces these are the addresses of the interfaces at present.
func (t *Transport) Addrs() []string {
	if t.listener == nil {
		return nil
	}
	return localAddrs(t.listener.Addr())
}

// SetGate implements replica.Transport.
func (t *Transport) SetGate(g replica.Gate) { t.gate.Store(&g) }

// Listed implements replica.Transport.
func (t *Transport) Listed(peer replica.PeerID) bool { return t.config.Allow(peer) }

func (t *Transport) allows(peer replica.PeerID) bool {
	if t.config.Allow(peer) {
		return true
	}
	g := t.gate.Load()
	return g != nil && g.Allow != nil && g.Allow(peer)
}

// Marshal implements replica.Transport.
func (t *Transport) Marshal(dst []byte, m protocol.Message) ([]byte, error) {
	return wire.Marshal(dst, m)
}

// Unmarshal implements replica.Transport.
func (t *Transport) Unmarshal(b []byte) (protocol.Message, error) { return wire.Unmarshal(b) }

// Close implements replica.Transport. Peers are told; it does not wait for their answers.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	open := make([]*quic.Conn, 0, len(t.conns))
	for qc := range t.conns {
		open = append(open, qc)
	}
	t.mu.Unlock()

	t.cancel()
	var err error
	if t.listener != nil {
		err = t.listener.Close()
	}
	for _, qc := range open {
		closeConn(qc, replica.CloseDone, "node closed")
	}
	t.running.Wait()
	return errors.Join(err, t.sockets.close())
}

// enter counts a dial, which Close waits for, and reports false if the transport is closed already. The context that it returns ends with ctx
// and with the transport; call leave in the end.
func (t *Transport) enter(ctx context.Context) (within context.Context, leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, nil, false
	}
	t.running.Add(1)
	within, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(t.ctx, cancel)
	return within, func() { stop(); cancel(); t.running.Done() }, true
}

// track notes an open connection, so that Close can close it, and reports false if the transport is closed already.
func (t *Transport) track(qc *quic.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.conns[qc] = struct{}{}
	context.AfterFunc(qc.Context(), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.conns, qc)
	})
	return true
}

// maxReasonBytes bounds the reason that is sent with a close: it has to fit into a packet.
const maxReasonBytes = 512

func closeConn(qc *quic.Conn, code replica.CloseCode, reason string) error {
	if len(reason) > maxReasonBytes {
		reason = reason[:maxReasonBytes]
	}
	return qc.CloseWithError(quic.ApplicationErrorCode(code), reason)
}

func (t *Transport) hello() wire.Hello {
	addrs := t.config.Advertise
	if len(addrs) == 0 {
		addrs = t.Addrs()
	}
	return wire.Hello{
		Major: wire.Major, Minor: wire.Minor, Wall: t.config.Now(),
		Addrs: addrs[:min(len(addrs), wire.MaxAddrs)], Software: t.config.Software, Version: t.config.Version,
	}
}

// check judges a proven peer before anything is said to it, and returns how to close the connection if it is refused.
func (t *Transport) check(peer, expected replica.PeerID) *replica.CloseError {
	switch {
	case peer == t.self:
		return &replica.CloseError{Code: replica.CloseSameIdentity,
			Reason: "both ends are " + peer.String() + ": a node dialled itself, or a store directory was copied"}
	case !expected.IsZero() && peer != expected:
		return &replica.CloseError{Code: replica.CloseWrongPeer, Reason: fmt.Sprintf("expected %s, found %s", expected, peer)}
	case !t.allows(peer):
		return &replica.CloseError{Code: replica.CloseNotAllowed, Reason: fmt.Sprintf("%s does not allow %s", t.self, peer)}
	}
	return nil
}
