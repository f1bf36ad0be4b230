package protocol

import "time"

// Control is one of *Addresses: what two nodes tell each other about themselves, beside the sessions of their spaces. It is not
// changed after it was made.
type Control interface{ control() }

// Addresses tells a peer where other nodes are, and how this one stands. What it says are claims: who answers at an address
// is proven when it is dialled.
type Addresses struct {
	// Seen is the address that the sender sees the receiver at.
	Seen string
	// Peers is how many nodes the sender is connected with.
	Peers int
	// Known are nodes of which the receiver may know, those of which there is news: at most MaxKnown.
	Known []Whereabouts
}

// Whereabouts is where a node can be reached.
type Whereabouts struct {
	Peer PeerID
	// Age is how long ago somebody, from whom this comes, was last connected with it; to the second.
	Age time.Duration
	// Addrs are the addresses at which it listens, at most MaxAddrs of them, each of at most MaxAddrBytes.
	Addrs []string
}

// The limits of an Addresses; it is also bounded as a whole, as everything that belongs to a connection.
const (
	MaxKnown     = 64
	MaxAddrs     = 8
	MaxAddrBytes = 256
)

func (*Addresses) control() {}
