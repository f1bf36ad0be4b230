package quicnet

import (
	"context"
	"fmt"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// A node that is not known can say one thing: a Join frame, over a connection that names JoinALPN. It gets one answer, and the
// connection is closed. Nothing else can be said over it, in either direction, and no space is named before the question was found good.

// maxJoins bounds the nodes that ask at once; those beyond are told to come again. A node that says nothing holds its place for
// Config.HandshakeTimeout.
const maxJoins = 4

// admitJoin hears one question.
func (t *Transport) admitJoin(qc *quic.Conn, peer replica.PeerID) {
	select {
	case t.joins <- struct{}{}:
		defer func() { <-t.joins }()
	default:
		closeConn(qc, replica.CloseSlow, "too many nodes ask to join at once: try again")
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, t.config.HandshakeTimeout)
	defer cancel()
	if err := t.answerJoin(ctx, qc, peer); err != nil {
		t.refusals.log("a node that asked to join was not answered", "address", qc.RemoteAddr(), "peer", peer, "reason", err)
		closeConn(qc, replica.CloseMalformed, "no question to join in time")
		return
	}
	select { // the asker closes when it has the answer
	case <-qc.Context().Done():
	case <-ctx.Done():
	}
	closeConn(qc, replica.CloseDone, "")
}

func (t *Transport) answerJoin(ctx context.Context, qc *quic.Conn, peer replica.PeerID) error {
	qs, err := qc.AcceptStream(ctx)
	if err != nil {
		return translate(err)
	}
	defer unblock(ctx, qs)()
	b, err := wire.NewReader(qs, wire.MaxControlFrameBytes).ReadFrame()
	if err != nil {
		return translate(err)
	}
	question, err := wire.ParseJoin(b)
	if err != nil {
		return err
	}
	answer := protocol.JoinAnswer{Code: protocol.JoinBusy, Text: "the node is starting"}
	if g := t.gate.Load(); g != nil && g.Join != nil {
		answer = g.Join(ctx, peer, question)
	}
	if answer.Code != protocol.Joined {
		t.refusals.log("refused a node that asked to join", "address", qc.RemoteAddr(), "peer", peer, "reason", answer.Code)
	}
	if b, err = wire.AppendJoinAnswer(nil, answer); err != nil {
		return err
	}
	if _, err := qs.Write(b); err != nil {
		return translate(err)
	}
	return qs.Close()
}

// Join implements replica.Transport.
func (t *Transport) Join(ctx context.Context, addr string, peer replica.PeerID, r protocol.JoinRequest) (protocol.JoinAnswer, error) {
	within, leave, ok := t.enter(ctx)
	if !ok {
		return protocol.JoinAnswer{}, fmt.Errorf("join through %s: %w", addr, net.ErrClosed)
	}
	defer leave()
	a, err := t.join(within, addr, peer, r)
	if err != nil {
		return a, fmt.Errorf("join through %s: %w", addr, err)
	}
	return a, nil
}

func (t *Transport) join(ctx context.Context, addr string, expected replica.PeerID, r protocol.JoinRequest) (a protocol.JoinAnswer, err error) {
	question, err := wire.AppendJoin(nil, r)
	if err != nil {
		return a, err
	}
	addrs, err := resolve(ctx, addr)
	if err != nil {
		return a, err
	}
	config := t.sockets.tls.Clone()
	config.NextProtos = []string{JoinALPN}
	qc, err := t.dialFirst(ctx, addrs, config)
	if err != nil {
		return a, err
	}
	if !t.track(qc) {
		closeConn(qc, replica.CloseDone, "node closed")
		return a, net.ErrClosed
	}
	peer, err := peerOf(qc.ConnectionState().TLS)
	switch {
	case err != nil:
		return a, refuse(qc, replica.CloseNotAllowed, err.Error())
	case peer == t.self:
		return a, refuse(qc, replica.CloseSameIdentity, "both ends are "+peer.String())
	case peer != expected:
		return a, refuse(qc, replica.CloseWrongPeer, fmt.Sprintf("expected %s, found %s", expected, peer))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*t.config.HandshakeTimeout) // the other side waits for its disk
	defer cancel()
	defer closeConn(qc, replica.CloseDone, "")
	qs, err := qc.OpenStreamSync(ctx)
	if err != nil {
		return a, translate(err)
	}
	defer unblock(ctx, qs)()
	if _, err := qs.Write(question); err != nil {
		return a, translate(err)
	}
	b, err := wire.NewReader(qs, wire.MaxControlFrameBytes).ReadFrame()
	if err != nil {
		if ended := causeOf(qc); ended != nil {
			return a, ended
		}
		return a, fmt.Errorf("no answer: %w", translate(err))
	}
	return wire.ParseJoinAnswer(b)
}
