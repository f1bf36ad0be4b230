package quicnet

import (
	"context"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/replica"
)

// Accept implements replica.Transport. Refused connections are logged and never returned.
func (t *Transport) Accept(ctx context.Context) (replica.Conn, error) {
	if t.ctx.Err() != nil {
		return nil, net.ErrClosed
	}
	select {
	case c := <-t.accepted:
		return c, nil
	case <-t.ctx.Done():
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (t *Transport) acceptLoop() {
	for {
		select {
		case t.slots <- struct{}{}:
		case <-t.ctx.Done():
			return
		}
		qc, err := t.listener.Accept(t.ctx)
		if err != nil {
			return // the listener is closed: it ends for no other reason
		}
		t.running.Go(func() {
			defer func() { <-t.slots }()
			t.admit(qc)
		})
	}
}

// admit judges one connection whose peer is proven, greets it, and hands it to Accept.
func (t *Transport) admit(qc *quic.Conn) {
	if !t.track(qc) {
		closeConn(qc, replica.CloseDone, "node closed")
		return
	}
	addr := qc.RemoteAddr().String()
	peer, err := peerOf(qc.ConnectionState().TLS)
	if err != nil {
		t.refusals.log("refused a connection", "address", addr, "reason", refuse(qc, replica.CloseNotAllowed, err.Error()))
		return
	}
	if qc.ConnectionState().TLS.NegotiatedProtocol == JoinALPN {
		t.admitJoin(qc, peer)
		return
	}
	if refused := t.check(peer, replica.PeerID{}); refused != nil {
		t.refusals.log("refused a connection", "address", addr, "peer", peer, "reason", refuse(qc, refused.Code, refused.Reason))
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.config.HandshakeTimeout)
	defer cancel()
	c, err := t.answer(ctx, qc)
	if err != nil {
		if t.ctx.Err() == nil {
			t.refusals.log("a connection failed before it was set up", "address", addr, "peer", peer, "reason", err)
		}
		closeConn(qc, replica.CloseInternal, "connection could not be set up")
		return
	}
	select {
	case t.accepted <- c:
	case <-c.Done():
	case <-t.ctx.Done():
	}
}
