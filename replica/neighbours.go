package replica

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/mesh"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

const (
	// meshPause is how long something may wait for others to be done with: choosing whom to be connected with, telling who is where.
	meshPause = time.Second
	// meshInterval is how often that is looked at although nothing happened.
	meshInterval = 15 * time.Second
	// meshDialTimeout bounds each address of a node that was chosen, for there may be others.
	meshDialTimeout = 4 * time.Second
	// enoughHold and refusedHold bound how long a node is left alone that has enough peers, or does not allow this one.
	enoughHold  = 2 * time.Minute
	refusedHold = 10 * time.Minute
	// maxConns bounds the connections with peers, whoever they are.
	maxConns = 256
	// bookInterval is how often where peers are goes to the disk, with whatever is being committed; after bookPatience also alone.
	bookInterval = 30 * time.Second
	bookPatience = 10 * time.Minute
	// bookBatch bounds how many records of it go into one commit.
	bookBatch = 128
)

// neighbours is what a node knows of where others are, and whom it chooses among them.
type neighbours struct {
	mu       sync.Mutex // taken after peerTable.mu where both are; nobody else is asked anything while it is held
	book     *mesh.Book
	dialling map[PeerID]bool // chosen, and being dialled
	rng      *rand.Rand
	wake     chan struct{} // for meshLoop; holds one
	readied  time.Time     // when records were last made ready to be stored
	alone    time.Time     // when they were last committed by themselves

	ready   sync.Mutex        // guards the next; nothing is locked while it is held
	records map[PeerID][]byte // to be stored with the next commit; nil: to be forgotten
}

func (n *neighbours) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// loadNeighbours reads where peers were. What cannot be read is left out: it only saves a search.
func (r *Replica) loadNeighbours(snap store.Snapshot) {
	now := r.cfg.Now()
	r.near = neighbours{
		book: mesh.NewBook(), dialling: make(map[PeerID]bool), wake: make(chan struct{}, 1),
		rng: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), readied: now, alone: now,
		records: make(map[PeerID][]byte),
	}
	records, err := docstore.Peers(snap)
	if err != nil {
		r.log.Warn("where peers were cannot be read", "error", err)
		return
	}
	for p, record := range records {
		if err := r.near.book.Restore(p, record); err != nil {
			r.log.Warn("where a peer was cannot be read", "peer", p, "error", err)
		}
	}
}

// Learn notes addresses at which a peer is said to be, as by a ticket or on the local network. The node connects with it if it needs more
// peers, and finds it there if it loses it.
func (r *Replica) Learn(p PeerID, source mesh.Source, addrs ...string) {
	if r.cfg.Transport == nil || p == r.Self() || p.IsZero() {
		return
	}
	r.near.mu.Lock()
	r.near.book.Learn(p, source, r.cfg.Now(), addrs...)
	r.near.mu.Unlock()
	r.near.poke()
}

// SeenAt returns addresses at which peers see this node and which it does not know itself: those of a router that translates addresses, at which others
// may reach it, too.
func (r *Replica) SeenAt() []string {
	if r.cfg.Transport == nil {
		return nil
	}
	own := r.Addrs()
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	r.near.mu.Lock()
	defer r.near.mu.Unlock()
	var seen []string
	for _, pc := range r.peers.conns {
		if addr := pc.seenAt; isReachable(addr) && slices.ContainsFunc(own, isReachable) && !slices.Contains(own, addr) && !slices.Contains(seen, addr) {
			seen = append(seen, addr)
		}
	}
	slices.Sort(seen)
	return seen[:min(len(seen), protocol.MaxAddrs)]
}

// mayMeet reports whether a connection with a peer would be allowed here.
func (r *Replica) mayMeet(p PeerID) bool { return p != r.Self() && r.isWelcome(p) }

// Companions returns the nodes with rights in a space that is kept here, sorted: those to look for beside the ones on the transport's list.
func (r *Replica) Companions() []PeerID {
	all := make(map[PeerID]struct{})
	for _, s := range r.ownedSpaces() {
		for _, p := range s.permissions().Members() {
			all[p] = struct{}{}
		}
	}
	delete(all, r.Self())
	return slices.SortedFunc(maps.Keys(all), func(p, q PeerID) int { return bytes.Compare(p[:], q[:]) })
}

// meshLoop keeps the node connected as package mesh has it.
func (r *Replica) meshLoop() {
	for {
		if r.cfg.Degree > 0 {
			r.choose()
		}
		r.readyNeighbours(false)
		if sleep(r.ctx, meshPause) != nil {
			return
		}
		r.peers.mu.Lock()
		moved := r.peers.moved
		r.peers.mu.Unlock()
		timer := time.NewTimer(meshInterval)
		select {
		case <-r.near.wake:
		case <-moved:
		case <-timer.C:
		case <-r.ctx.Done():
		}
		timer.Stop()
	}
}

// choose dials and drops what mesh.Plan says, and lets the peers be told what is new.
func (r *Replica) choose() {
	now := r.cfg.Now()
	t, n := &r.peers, &r.near
	n.mu.Lock()
	candidates := n.book.Candidates(now)
	n.mu.Unlock()
	candidates = slices.DeleteFunc(candidates, func(c mesh.Candidate) bool { return !r.mayMeet(c.Peer) })
	t.mu.Lock()
	n.mu.Lock()
	moves := mesh.Plan(r.Self(), r.links(now), candidates, mesh.Limits{Degree: r.cfg.Degree, Max: r.cfg.MaxPeers}, n.rng)
	var drop []*peerConn
	for _, p := range moves.Drop {
		drop = append(drop, t.conns[p])
	}
	if r.ctx.Err() == nil { // Close waits for what was started before
		for _, p := range moves.Dial {
			n.dialling[p] = true
			r.wg.Go(func() { r.reach(p) })
		}
	}
	for _, pc := range t.conns {
		pc.poke()
	}
	n.mu.Unlock()
	t.mu.Unlock()
	for _, pc := range drop {
		r.hold(pc.peer, enoughHold)
		pc.Close(CloseEnough, "there are enough peers here, and others for you")
	}
}

// links lists the connections, and those being dialled; both mutexes are held.
func (r *Replica) links(now time.Time) []mesh.Link {
	t, n := &r.peers, &r.near
	kept := make(map[PeerID]bool, len(t.dials))
	for p := range t.dials {
		kept[p.ID] = true
	}
	var links []mesh.Link
	for id, pc := range t.conns {
		n.book.See(id, now)
		links = append(links, mesh.Link{
			Peer: id, Up: true, Keep: pc.keep || kept[id], Age: now.Sub(pc.since), Peers: int(pc.others.Load()),
		})
	}
	for id := range n.dialling {
		if t.conns[id] == nil {
			links = append(links, mesh.Link{Peer: id})
		}
	}
	return links
}

// hold leaves a node alone for about that long.
func (r *Replica) hold(p PeerID, d time.Duration) {
	r.near.mu.Lock()
	defer r.near.mu.Unlock()
	r.near.book.Hold(p, r.cfg.Now().Add(d/2+time.Duration(r.near.rng.Int64N(int64(d)))))
}

// reach dials a node that was chosen, at each of its addresses, and serves the connection until it ends.
func (r *Replica) reach(p PeerID) {
	n := &r.near
	conn, err := r.dialKnown(r.ctx, p)
	if err == nil {
		err = r.serve(conn, false)
	} else {
		r.log.Debug("a node that was heard of cannot be reached", "peer", p, "error", err)
	}
	r.afterwards(p, err)
	n.mu.Lock()
	delete(n.dialling, p)
	n.mu.Unlock()
	n.poke()
}

// afterwards leaves a node alone that wants to be.
func (r *Replica) afterwards(p PeerID, err error) {
	var closed *CloseError
	if !errors.As(err, &closed) {
		return
	}
	switch closed.Code {
	case CloseEnough:
		r.hold(p, enoughHold)
	case CloseNotAllowed, CloseVersion, CloseSameIdentity:
		r.hold(p, refusedHold)
	}
}

var errNowhere = errors.New("nobody has said where the node is")

// dialKnown dials a node at the addresses where it may be, one after the other.
func (r *Replica) dialKnown(ctx context.Context, p PeerID) (Conn, error) {
	n := &r.near
	n.mu.Lock()
	addrs := n.book.Addrs(p)
	n.mu.Unlock()
	if len(addrs) == 0 {
		return nil, errNowhere
	}
	var errs []error
	for _, addr := range addrs {
		within, cancel := context.WithTimeout(ctx, meshDialTimeout)
		conn, err := r.dialAt(within, addr, p)
		cancel()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n.mu.Lock()
		if err == nil {
			n.book.Reached(p, addr, r.cfg.Now())
			n.mu.Unlock()
			return conn, nil
		}
		n.book.Missed(p, addr, r.cfg.Now())
		n.mu.Unlock()
		errs = append(errs, err)
	}
	n.mu.Lock()
	n.book.Fail(p, r.cfg.Now())
	n.mu.Unlock()
	return nil, errors.Join(errs...)
}

// acquaint exchanges with a peer who is where, for as long as the connection lasts.
func (r *Replica) acquaint(ctx context.Context, pc *peerConn) {
	r.near.mu.Lock()
	r.near.book.Say(pc.peer, r.cfg.Now(), listening(pc)...)
	r.near.mu.Unlock()
	r.near.poke()
	var telling sync.WaitGroup
	telling.Go(func() { r.tellNews(ctx, pc) })
	defer telling.Wait()
	for {
		m, err := pc.Hear()
		if err != nil {
			return
		}
		if a, ok := m.(*protocol.Addresses); ok && r.cfg.Degree > 0 {
			r.hearNews(pc, a)
		}
	}
}

// hearNews takes what a peer says. What it says of nodes with which this one may not be connected is left out, so
// that a peer cannot fill the book with names that it made up.
func (r *Replica) hearNews(pc *peerConn, a *protocol.Addresses) {
	pc.others.Store(int64(a.Peers))
	now := r.cfg.Now()
	known := slices.DeleteFunc(slices.Clone(a.Known), func(w protocol.Whereabouts) bool { return !r.mayMeet(w.Peer) })
	n := &r.near
	n.mu.Lock()
	defer n.mu.Unlock()
	pc.seenAt = a.Seen
	for _, w := range known {
		pc.teller.Heard(w, now)
		n.book.Learn(w.Peer, mesh.FromPeers, now.Add(-w.Age), usable(pc, w.Addrs)...)
		n.book.See(w.Peer, now.Add(-w.Age))
	}
	n.poke()
}

// tellNews tells a peer what is new, now and then.
func (r *Replica) tellNews(ctx context.Context, pc *peerConn) {
	if r.cfg.Degree == 0 {
		return
	}
	said := -1 // connections
	for {
		m := r.news(pc)
		if len(m.Known) > 0 || m.Peers != said {
			if pc.Tell(m) != nil {
				return
			}
			said = m.Peers
		}
		if len(m.Known) > 0 {
			continue // there may be more
		}
		if sleep(ctx, meshPause) != nil {
			return
		}
		select {
		case <-pc.wake:
		case <-ctx.Done():
			return
		}
	}
}

// news says how this node stands, and what is new of those of whom the peer may know.
func (r *Replica) news(pc *peerConn) *protocol.Addresses {
	r.peers.mu.Lock()
	m := &protocol.Addresses{Seen: pc.RemoteAddr(), Peers: len(r.peers.conns)}
	r.peers.mu.Unlock()
	n := &r.near
	n.mu.Lock()
	peers := n.book.Peers()
	n.mu.Unlock()
	may := make(map[PeerID]bool, len(peers))
	for _, p := range peers {
		may[p] = p != pc.peer && r.mayMeet(p) && r.mayIntroduce(pc.peer, p)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	m.Known = n.book.News(pc.teller, r.cfg.Now(), func(p PeerID, addrs []string) []string {
		if !may[p] {
			return nil
		}
		return usable(pc, addrs)
	})
	return m
}

func (pc *peerConn) poke() {
	select {
	case pc.wake <- struct{}{}:
	default:
	}
}

// readyNeighbours makes records of where peers are, now and then, for the next commit, and lets one happen if there was none for long.
func (r *Replica) readyNeighbours(always bool) {
	n := &r.near
	now := r.cfg.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !always && now.Sub(n.readied).Abs() < bookInterval {
		return
	}
	n.readied = now
	n.ready.Lock()
	defer n.ready.Unlock()
	for _, p := range n.book.Dirty(bookBatch - len(n.records)) {
		record, _ := n.book.Record(nil, p)
		n.records[p] = record
	}
	if !always && len(n.records) > 0 && now.Sub(n.alone).Abs() >= bookPatience {
		n.alone = now
		r.wg.Go(r.storeAlone)
	}
}

// storeNeighbours adds what is ready to a batch.
func (n *neighbours) storeNeighbours(b *store.Batch) {
	n.ready.Lock()
	defer n.ready.Unlock()
	for p, record := range n.records {
		if record != nil {
			docstore.PutPeer(b, p, record)
		} else {
			docstore.ForgetPeer(b, p)
		}
	}
	clear(n.records)
}

// storeAlone commits what is ready although nothing else is to be.
func (r *Replica) storeAlone() {
	r.mu.Lock()
	if !r.closed {
		r.near.storeNeighbours(r.group.batch)
	}
	r.mu.Unlock()
	r.poke()
}
