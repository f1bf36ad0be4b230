package replay

import (
	"fmt"
	"sync"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// fleet gives each replica its transport, under the same identity each time that the replica is opened.
type fleet struct {
	kind Transport
	mem  *memnet.Network

	mu         sync.Mutex
	identities map[string]quicnet.Identity
	allowed    map[replica.PeerID]bool
}

func newFleet(kind Transport) *fleet {
	return &fleet{
		kind: kind, mem: memnet.New(1),
		identities: make(map[string]quicnet.Identity), allowed: make(map[replica.PeerID]bool),
	}
}

// phone returns a transport for the replica of that name, which may have one at a time.
func (f *fleet) phone(name string) (*phone, error) {
	if f.kind == MemoryTransport {
		return &phone{Transport: f.mem.Node(name)}, nil
	}
	id, err := f.identity(name)
	if err != nil {
		return nil, fmt.Errorf("make an identity for %s: %w", name, err)
	}
	t, err := quicnet.New(quicnet.Config{Identity: id, Listen: "127.0.0.1:0", Allow: f.allows})
	if err != nil {
		return nil, fmt.Errorf("listen for %s: %w", name, err)
	}
	return &phone{Transport: t}, nil
}

func (f *fleet) identity(name string) (quicnet.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, ok := f.identities[name]
	if ok {
		return id, nil
	}
	id, err := quicnet.GenerateIdentity()
	if err == nil {
		f.identities[name] = id
		f.allowed[id.PeerID()] = true
	}
	return id, err
}

func (f *fleet) allows(p replica.PeerID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.allowed[p]
}

// forget takes back the identity of a replica that will not be opened again.
func (f *fleet) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.allowed, f.identities[name].PeerID())
	delete(f.identities, name)
}
