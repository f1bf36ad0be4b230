package mesh

import (
	"slices"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

const (
	// refreshAfter is how much older a peer's knowledge that a node is alive may be than ours before it is told again. It is well
	// below aliveFor, also over several hops.
	refreshAfter = 4 * time.Minute
	// newsBytes bounds the addresses of one message, so that it fits into a frame of the control stream.
	newsBytes = 8 << 10
)

// Teller remembers what one peer knows, for the length of a connection.
type Teller struct {
	known map[protocol.PeerID]mark
}

// mark is what the peer knows of one node.
type mark struct {
	addrs uint64 // a hash of them
	seen  time.Time
}

// NewTeller returns a Teller for a peer that knows nothing.
func NewTeller() *Teller { return &Teller{known: make(map[protocol.PeerID]mark)} }

// Heard notes what the peer itself says.
func (t *Teller) Heard(w protocol.Whereabouts, now time.Time) {
	if len(t.known) < 2*MaxPeers { // a peer that tells of more hears some of it again
		t.known[w.Peer] = mark{hashOf(w.Addrs), now.Add(-w.Age)}
	}
}

// News returns what the peer should hear of, as one message holds it; call it again until it returns nothing. share returns those
// addresses of a node that the peer may know; none leaves the node out.
func (b *Book) News(t *Teller, now time.Time, share func(p protocol.PeerID, addrs []string) []string) []protocol.Whereabouts {
	var news []protocol.Whereabouts
	size := 0
	for _, p := range b.Peers() {
		k := b.peers[p]
		if now.Sub(k.Seen) >= aliveFor { // that this node cannot reach it says nothing
			continue
		}
		addrs := share(p, b.Addrs(p))
		addrs = addrs[:min(len(addrs), protocol.MaxAddrs)]
		m, told := t.known[p]
		fresh := mark{hashOf(addrs), k.Seen}
		if len(addrs) == 0 || told && m.addrs == fresh.addrs && fresh.seen.Sub(m.seen) < refreshAfter {
			continue
		}
		for _, a := range addrs {
			size += len(a)
		}
		if len(news) == protocol.MaxKnown || size > newsBytes {
			break
		}
		t.known[p] = fresh
		news = append(news, protocol.Whereabouts{Peer: p, Age: max(now.Sub(k.Seen), 0).Truncate(time.Second), Addrs: addrs})
	}
	return news
}

// hashOf does not depend on the order.
func hashOf(addrs []string) uint64 {
	sorted := slices.Sorted(slices.Values(addrs))
	var h xxh3.Hasher
	for _, a := range sorted {
		_, _ = h.WriteString(a)
		_, _ = h.Write([]byte{0})
	}
	return h.Sum64()
}
