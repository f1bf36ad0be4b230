package mesh

import (
	"bytes"
	"cmp"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Source says who named an address.
type Source uint8

// The sources. Their values are stored.
const (
	FromPeers  Source = 1 // other peers
	FromItself Source = 2 // the node itself, or the packets that came from it
	FromTicket Source = 3 // a ticket
	FromMDNS   Source = 4 // the local network
)

func (s Source) String() string {
	switch s {
	case FromPeers:
		return "peers"
	case FromItself:
		return "itself"
	case FromTicket:
		return "ticket"
	case FromMDNS:
		return "mdns"
	}
	return "unknown"
}

const (
	// MaxPeers bounds the nodes of a book. Beyond it those go that nobody was connected with for the longest time.
	MaxPeers = 1024
	// aliveFor is how long a node is taken for alive after somebody was connected with it.
	aliveFor = 15 * time.Minute
	// minRetry and maxRetry bound how long a node is left alone after it could not be reached; the time doubles in between.
	minRetry = 5 * time.Second
	maxRetry = 30 * time.Minute
	// reviveAfter is how much later somebody else must have been connected with it for it to be tried before that.
	reviveAfter = time.Minute
)

// Address is one place where a node may be.
type Address struct {
	Addr   string
	Source Source
	Heard  time.Time // when it was last named
	Good   time.Time // when it last led to the node; zero: never
	Failed time.Time // when it last did not
}

// last is when anything good was heard of an address.
func (a Address) last() time.Time {
	if a.Good.After(a.Heard) {
		return a.Good
	}
	return a.Heard
}

// Known is what a book says of one node.
type Known struct {
	Peer protocol.PeerID
	// Seen is when anybody was last connected with it, as far as is known; zero: never.
	Seen time.Time
	// Addrs are at most protocol.MaxAddrs, those first that are most likely right.
	Addrs []Address

	retry    time.Time // not to be dialled before
	failed   time.Time // when it could not be reached
	failures int
}

// Book holds where nodes are. The zero Book is not ready: use NewBook. Who owns it calls one method at a time.
type Book struct {
	peers map[protocol.PeerID]*Known
	dirty map[protocol.PeerID]struct{} // changed in a way worth storing
}

// NewBook returns an empty book.
func NewBook() *Book {
	return &Book{peers: make(map[protocol.PeerID]*Known), dirty: make(map[protocol.PeerID]struct{})}
}

// Learn notes addresses at which a node was said to be, at that time.
func (b *Book) Learn(p protocol.PeerID, source Source, heard time.Time, addrs ...string) {
	k := b.open(p)
	for _, addr := range addrs {
		if addr == "" || len(addr) > protocol.MaxAddrBytes {
			continue
		}
		i := slices.IndexFunc(k.Addrs, func(a Address) bool { return a.Addr == addr })
		if i < 0 {
			k.Addrs = append(k.Addrs, Address{Addr: addr, Source: source, Heard: heard})
			k.failures, k.retry = 0, time.Time{} // it has moved
			b.dirty[p] = struct{}{}
			continue
		}
		a := &k.Addrs[i]
		if heard.After(a.Heard) {
			a.Heard = heard
		}
		if source == FromItself {
			a.Source = source
		}
	}
	k.sort()
	k.Addrs = k.Addrs[:min(len(k.Addrs), protocol.MaxAddrs)]
	b.trim(p)
}

// Say notes the addresses at which a node itself, with which there is a connection, says to be; what others had said is over.
func (b *Book) Say(p protocol.PeerID, now time.Time, addrs ...string) {
	k := b.open(p)
	before := len(k.Addrs)
	k.Addrs = slices.DeleteFunc(k.Addrs, func(a Address) bool {
		return (a.Source == FromPeers || a.Source == FromItself) && !slices.Contains(addrs, a.Addr)
	})
	if len(k.Addrs) != before {
		b.dirty[p] = struct{}{}
	}
	b.Learn(p, FromItself, now, addrs...)
	b.See(p, now)
}

// See notes that somebody was connected with the node at that time.
func (b *Book) See(p protocol.PeerID, at time.Time) {
	k := b.open(p)
	if !at.After(k.Seen) {
		return
	}
	if at.Sub(k.Seen) > aliveFor {
		b.dirty[p] = struct{}{}
	}
	k.Seen = at
	if k.failures > 0 && at.Sub(k.failed) > reviveAfter {
		k.retry = time.Time{} // others reach it again
	}
	b.trim(p)
}

// Reached notes that an address led to the node.
func (b *Book) Reached(p protocol.PeerID, addr string, now time.Time) {
	k := b.open(p)
	k.failures, k.retry = 0, time.Time{}
	for i := range k.Addrs {
		if k.Addrs[i].Addr == addr {
			k.Addrs[i].Good = now
		}
	}
	k.sort()
	b.See(p, now)
}

// Missed notes that an address did not lead to the node.
func (b *Book) Missed(p protocol.PeerID, addr string, now time.Time) {
	k := b.open(p)
	for i := range k.Addrs {
		if k.Addrs[i].Addr == addr {
			k.Addrs[i].Failed = now
		}
	}
	k.sort()
}

// Fail notes that the node could not be reached at any address, so that it is left alone for a while, longer each time.
func (b *Book) Fail(p protocol.PeerID, now time.Time) {
	k := b.open(p)
	k.failures++
	k.failed = now
	b.Hold(p, now.Add(min(minRetry<<min(k.failures-1, 16), maxRetry)))
}

// Hold leaves the node alone until that time.
func (b *Book) Hold(p protocol.PeerID, until time.Time) { b.open(p).retry = until }

// Addrs returns the addresses of a node, those first that are most likely right.
func (b *Book) Addrs(p protocol.PeerID) []string {
	k := b.peers[p]
	if k == nil {
		return nil
	}
	addrs := make([]string, 0, len(k.Addrs))
	for _, a := range k.Addrs {
		addrs = append(addrs, a.Addr)
	}
	return addrs
}

// Known returns what the book says of a node.
func (b *Book) Known(p protocol.PeerID) (Known, bool) {
	k := b.peers[p]
	if k == nil {
		return Known{Peer: p}, false
	}
	out := *k
	out.Addrs = slices.Clone(k.Addrs)
	return out, true
}

// Peers returns the nodes that have an address, in ascending order.
func (b *Book) Peers() []protocol.PeerID {
	peers := make([]protocol.PeerID, 0, len(b.peers))
	for p, k := range b.peers {
		if len(k.Addrs) > 0 {
			peers = append(peers, p)
		}
	}
	slices.SortFunc(peers, compare)
	return peers
}

// Forget removes a node.
func (b *Book) Forget(p protocol.PeerID) {
	if b.peers[p] != nil {
		delete(b.peers, p)
		b.dirty[p] = struct{}{}
	}
}

// Candidates returns the nodes that may be dialled now, in ascending order.
func (b *Book) Candidates(now time.Time) []Candidate {
	var list []Candidate
	for _, p := range b.Peers() {
		if k := b.peers[p]; !k.retry.After(now) {
			list = append(list, Candidate{Peer: p, Alive: k.isAlive(now)})
		}
	}
	return list
}

func (k *Known) isAlive(now time.Time) bool { return now.Sub(k.Seen) < aliveFor && k.failures == 0 }

func (b *Book) open(p protocol.PeerID) *Known {
	k := b.peers[p]
	if k == nil {
		k = &Known{Peer: p}
		b.peers[p] = k
	}
	return k
}

// trim keeps the book within its bound; the node named stays.
func (b *Book) trim(keep protocol.PeerID) {
	if len(b.peers) <= MaxPeers {
		return
	}
	var worst *Known
	for p, k := range b.peers {
		if p != keep && (worst == nil || k.Seen.Before(worst.Seen) || k.Seen.Equal(worst.Seen) && compare(p, worst.Peer) < 0) {
			worst = k
		}
	}
	b.Forget(worst.Peer)
}

// sort puts first what worked, or was named, last; what failed since comes after what did not.
func (k *Known) sort() {
	slices.SortStableFunc(k.Addrs, func(x, y Address) int {
		return cmp.Or(
			compareBool(x.Failed.After(x.last()), y.Failed.After(y.last())),
			y.last().Compare(x.last()),
			cmp.Compare(x.Addr, y.Addr),
		)
	})
}

func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}

func compare(p, q protocol.PeerID) int { return bytes.Compare(p[:], q[:]) }
