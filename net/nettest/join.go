package nettest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// A node that nobody knows may ask to join, and nothing else; whom the gate lets in may connect.
func testJoin(t *testing.T, make Maker) {
	n := make(t, 3, Options{Allow: func(int, replica.PeerID) bool { return false }})
	asker, asked, other := n.Transports[0], n.Transports[1], n.Transports[2]
	ctx := withPatience(t)
	question := protocol.JoinRequest{Space: [32]byte{1}, Ticket: [32]byte{2}, Proof: [64]byte{3}, Statements: []byte("statements")}
	addr := asked.Addrs()[0]
	if answer, err := asker.Join(ctx, addr, asked.Self(), question); err != nil || answer.Code != protocol.JoinBusy {
		t.Errorf("a node without a gate: %v, %v", answer, err)
	}
	var welcome atomic.Bool
	asked.SetGate(replica.Gate{
		Allow: func(p replica.PeerID) bool { return welcome.Load() && p == asker.Self() },
		Join: func(_ context.Context, p replica.PeerID, q protocol.JoinRequest) protocol.JoinAnswer {
			if p != asker.Self() || q.Space != question.Space || q.Proof != question.Proof || string(q.Statements) != "statements" {
				return protocol.JoinAnswer{Code: protocol.JoinProof, Text: "another question"}
			}
			return protocol.JoinAnswer{Statements: []byte("granted")}
		},
	})
	if answer, err := asker.Join(ctx, addr, asked.Self(), question); err != nil || answer.Code != protocol.Joined || string(answer.Statements) != "granted" {
		t.Errorf("the question: %v, %v", answer, err)
	}
	if answer, err := other.Join(ctx, addr, asked.Self(), question); err != nil || answer.Code != protocol.JoinProof || answer.Text != "another question" {
		t.Errorf("by another node: %v, %v", answer, err)
	}
	var closed *replica.CloseError
	if _, err := asker.Join(ctx, addr, other.Self(), question); !errors.As(err, &closed) || closed.Code != replica.CloseWrongPeer {
		t.Errorf("to another node than was meant: %v", err)
	}
	if _, err := asker.Dial(ctx, addr, asked.Self()); !errors.As(err, &closed) || closed.Code != replica.CloseNotAllowed {
		t.Errorf("asking lets nobody in: %v", err)
	}
	if asked.Listed(asker.Self()) {
		t.Error("a node that is on no list is listed")
	}
	asker.SetGate(replica.Gate{Allow: func(p replica.PeerID) bool { return p == asked.Self() }})
	welcome.Store(true)
	connect(t, asker, asked)
}
