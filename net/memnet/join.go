package memnet

import (
	"context"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Join implements replica.Transport. What is asked and answered goes through the frames, as over a real network.
func (t *Transport) Join(ctx context.Context, addr string, peer replica.PeerID, r protocol.JoinRequest) (protocol.JoinAnswer, error) {
	a, err := t.join(ctx, addr, peer, r)
	if err != nil {
		return a, fmt.Errorf("join through %s: %w", addr, err)
	}
	return a, nil
}

func (t *Transport) join(ctx context.Context, addr string, peer replica.PeerID, r protocol.JoinRequest) (a protocol.JoinAnswer, err error) {
	if err := t.ended(ctx); err != nil {
		return a, err
	}
	other, faults := t.network.lookup(addr)
	if other == nil {
		return a, errors.New("no node listens there")
	}
	if other.id != peer {
		return a, &replica.CloseError{Code: replica.CloseWrongPeer, Reason: fmt.Sprintf("expected %s, found %s", peer, other.id)}
	}
	if err := t.travel(ctx, other, 2*faults.MinDelay); err != nil {
		return a, err
	}
	b, err := wire.AppendJoin(nil, r)
	if err == nil {
		r, err = wire.ParseJoin(b)
	}
	if err != nil {
		return a, err
	}
	other.mu.Lock()
	g := other.gate
	other.mu.Unlock()
	if g.Join == nil {
		return protocol.JoinAnswer{Code: protocol.JoinBusy}, nil
	}
	if b, err = wire.AppendJoinAnswer(nil, g.Join(ctx, t.id, r)); err != nil {
		return a, err
	}
	return wire.ParseJoinAnswer(b)
}
