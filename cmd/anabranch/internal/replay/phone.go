package replay

import (
	"context"
	"errors"
	"sync"

	"github.com/anabranch-db/anabranch/replica"
)

// phone is a transport that dials only during a sync, and can end it: a replica by itself would keep the connection, and
// what it writes next would be at the other side at once.
type phone struct {
	replica.Transport

	mu      sync.Mutex
	lifted  bool
	dialled []replica.Conn
}

var errHungUp = errors.New("the sync is over")

func (p *phone) pickUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifted = true
}

// Dial implements replica.Transport.
func (p *phone) Dial(ctx context.Context, addr string, peer replica.PeerID) (replica.Conn, error) {
	conn, err := p.Transport.Dial(ctx, addr, peer)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.lifted {
		conn.Close(replica.CloseDone, "")
		return nil, errHungUp
	}
	p.dialled = append(p.dialled, conn)
	return conn, nil
}

// hangUp ends the connections of the sync, and returns the bytes that went over them in both directions.
func (p *phone) hangUp() (bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifted = false
	for _, c := range p.dialled {
		c.Close(replica.CloseDone, "")
		<-c.Done()
		sent, received := c.Traffic()
		bytes += sent + received
	}
	p.dialled = nil
	return bytes
}
