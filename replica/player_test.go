package replica_test

import (
	"testing"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// player is a peer that says what a test wants.
type player struct {
	t      *testing.T
	tr     *memnet.Transport
	conn   replica.Conn
	stream replica.Stream
}

func dialAs(t *testing.T, network *memnet.Network, name, addr, space string) *player {
	t.Helper()
	p := &player{t: t, tr: network.Node(name)}
	t.Cleanup(func() { p.tr.Close() })
	var err error
	if p.conn, err = p.tr.Dial(t.Context(), addr, replica.PeerID{}); err != nil {
		t.Fatal(err)
	}
	if p.stream, err = p.conn.OpenStream(t.Context(), space); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *player) say(m protocol.Message) {
	p.t.Helper()
	frame, err := p.tr.Marshal(nil, m)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.stream.WriteFrames(frame); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message.
func (p *player) next() protocol.Message {
	p.t.Helper()
	frame, err := p.stream.ReadFrame()
	if err != nil {
		p.t.Fatal(err)
	}
	m, err := p.tr.Unmarshal(frame)
	if err != nil {
		p.t.Fatal(err)
	}
	return m
}

// hear returns the next message of a kind, and skips others: it is not for two of which either may be the first.
func hear[M protocol.Message](p *player) M {
	p.t.Helper()
	for {
		if m, ok := p.next().(M); ok {
			return m
		}
	}
}
