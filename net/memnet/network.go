package memnet

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

const (
	// IdleTimeout is how long a connection outlives the link below it.
	IdleTimeout = 30 * time.Second
	// DialTimeout is how long Dial tries a link that is cut.
	DialTimeout = 5 * time.Second

	maxStreams   = 64        // that one side may have open
	streamWindow = 256 << 10 // bytes that a writer may be ahead of a reader
	backlog      = 16        // connections that wait for Accept
)

// Faults are what goes wrong on connections dialled while they are set. The zero value is a perfect network.
type Faults struct {
	// BreakAfter is the mean number of frames, both directions together, after which a connection breaks and loses what is
	// under way; zero means never.
	BreakAfter int
	// MinDelay and MaxDelay bound how long bytes are under way.
	MinDelay, MaxDelay time.Duration
}

// Network is a set of nodes and the links between them. Its methods may be called from several goroutines.
type Network struct {
	seed uint64

	mu     sync.Mutex
	faults Faults
	nodes  map[string]*Transport // by name, those that are open
	links  map[*link]struct{}
	cut    map[pair]bool
	dials  map[pair]uint64

	messages atomic.Uint64
}

// pair is two nodes in ascending order.
type pair [2]replica.PeerID

func pairOf(a, b replica.PeerID) pair {
	if slices.Compare(a[:], b[:]) > 0 {
		a, b = b, a
	}
	return pair{a, b}
}

// New returns a network without nodes, whole and without faults. All that is random comes from seed.
func New(seed uint64) *Network {
	return &Network{
		seed: seed, nodes: map[string]*Transport{}, links: map[*link]struct{}{},
		cut: map[pair]bool{}, dials: map[pair]uint64{},
	}
}

// ID returns the peer ID that Node gives to the node of that name.
func ID(name string) replica.PeerID { return sha256.Sum256([]byte("memnet " + name)) }

// Node returns a new node at the address "mem:" + name. A node that was closed may be made again.
func (n *Network) Node(name string) *Transport { return n.add(name, ID(name)) }

// NodeAt returns the node of that name at another address: "mem:" + addr.
func (n *Network) NodeAt(name, addr string) *Transport { return n.add(addr, ID(name)) }

// Transport returns a new node with the given peer ID, at the address "mem:" + peer.String().
func (n *Network) Transport(peer replica.PeerID) *Transport { return n.add(peer.String(), peer) }

func (n *Network) add(name string, id replica.PeerID) *Transport {
	t := &Transport{
		network: n, name: name, id: id, now: time.Now,
		allow:    func(replica.PeerID) bool { return true },
		accepted: make(chan *conn, backlog), done: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.nodes[name] != nil {
		panic("memnet: there is already a node " + name)
	}
	n.nodes[name] = t
	return t
}

// SetFaults sets the faults of connections dialled from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// Cut makes the link between two nodes lose everything, silently, as a pulled cable does. A connection that stays cut for IdleTimeout
// ends on both sides.
func (n *Network) Cut(a, b replica.PeerID) {
	n.setCut(func(p pair) bool { return p == pairOf(a, b) }, pairOf(a, b))
}

// Partition cuts all links between nodes of different groups and mends those within one. A node in no group
// is alone.
func (n *Network) Partition(groups ...[]replica.PeerID) {
	group := map[replica.PeerID]int{}
	for i, g := range groups {
		for _, id := range g {
			group[id] = i + 1
		}
	}
	apart := func(p pair) bool { return group[p[0]] == 0 || group[p[0]] != group[p[1]] }
	n.mu.Lock()
	var ids []replica.PeerID
	for _, t := range n.nodes {
		ids = append(ids, t.id)
	}
	n.cut = map[pair]bool{}
	n.mu.Unlock()
	var pairs []pair
	for i, a := range ids {
		for _, b := range ids[:i] {
			pairs = append(pairs, pairOf(a, b))
		}
	}
	n.setCut(apart, pairs...)
}

// Heal mends all links.
func (n *Network) Heal() {
	n.mu.Lock()
	n.cut = map[pair]bool{}
	n.mu.Unlock()
	n.setCut(func(pair) bool { return false })
}

func (n *Network) setCut(cut func(pair) bool, pairs ...pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range pairs {
		if cut(p) {
			n.cut[p] = true
		}
	}
	for l := range n.links {
		l.setCut(n.cut[l.pair()])
	}
}

// Break ends all connections between two nodes at once; what is under way is lost.
func (n *Network) Break(a, b replica.PeerID) {
	n.each(func(l *link) bool { return l.pair() == pairOf(a, b) }, (*link).lose)
}

// BreakAll ends all connections.
func (n *Network) BreakAll() { n.each(func(*link) bool { return true }, (*link).lose) }

// Messages returns how many frames the nodes have received so far.
func (n *Network) Messages() uint64 { return n.messages.Load() }

// Connections returns how many connections are open.
func (n *Network) Connections() int {
	count := 0
	n.each(func(*link) bool { return true }, func(*link) { count++ })
	return count
}

// each calls do for the connections that are open, without holding the mutex.
func (n *Network) each(which func(*link) bool, do func(*link)) {
	n.mu.Lock()
	n.prune()
	var links []*link
	for l := range n.links {
		if which(l) {
			links = append(links, l)
		}
	}
	n.mu.Unlock()
	for _, l := range links {
		do(l)
	}
}

// prune forgets the connections that have ended at both ends. The mutex is held.
func (n *Network) prune() {
	maps.DeleteFunc(n.links, func(l *link, _ struct{}) bool { return l.over.Load() })
}

// lookup returns the node at addr, nil if none is there, and the present faults.
func (n *Network) lookup(addr string) (t *Transport, faults Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[strings.TrimPrefix(addr, scheme)], n.faults
}

func (n *Network) isCut(a, b replica.PeerID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[pairOf(a, b)]
}

// link makes the two ends of a connection.
func (n *Network) link(dialler, accepter *Transport) *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := pairOf(dialler.id, accepter.id)
	n.dials[p]++
	seed := sha256.Sum256(slices.Concat(p[0][:], p[1][:], binary.BigEndian.AppendUint64(nil, n.dials[p])))
	l := &link{network: n, faults: n.faults, rng: rand.New(rand.NewPCG(n.seed, binary.BigEndian.Uint64(seed[:])))}
	if mean := n.faults.BreakAfter; mean > 0 {
		l.framesLeft = 1 + l.rng.IntN(2*mean)
	}
	l.ends[0] = newConn(l, dialler, accepter, true)
	l.ends[1] = newConn(l, accepter, dialler, false)
	l.openControl()
	n.prune()
	n.links[l] = struct{}{}
	l.setCut(n.cut[p])
	return l
}

func (n *Network) remove(t *Transport) {
	n.mu.Lock()
	if n.nodes[t.name] == t {
		delete(n.nodes, t.name)
	}
	n.mu.Unlock()
}
