package replica

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/replica/mesh"
)

// Redialling waits a random time up to a bound that doubles from the first to the second of these, and begins
// anew after a connection that lasted a minute.
const (
	minBackoff    = 250 * time.Millisecond
	maxBackoff    = 30 * time.Second
	stableAfter   = time.Minute
	dialTimeout   = 10 * time.Second
	tendInterval  = 5 * time.Second // retries what a peer refused for its clock
	compareEvery  = 6               // intervals between comparisons of digests
	offerDelay    = 100 * time.Millisecond
	maxPeerErrors = 256 // addresses whose last error is kept
)

// peerTable is the connections of a replica and the peers that it dials.
type peerTable struct {
	mu     sync.Mutex
	conns  map[PeerID]*peerConn
	dials  map[Peer]context.CancelFunc
	errors map[Peer]peerError // the last failure to dial
	gone   map[PeerID]goneClock
	moved  chan struct{} // closed and replaced when conns changes
}

type peerError struct {
	err  error
	when time.Time
}

// peerConn is one connection and its sessions.
type peerConn struct {
	Conn
	peer   PeerID
	since  time.Time
	clock  peerClock
	keep   bool // this node was told to stay connected with the peer
	mu     sync.Mutex
	open   map[*Space]*session
	offers map[*Space]struct{} // that are being offered

	others atomic.Int64  // connections that the peer says it has
	wake   chan struct{} // for tellNews; holds one
	teller *mesh.Teller  // guarded by neighbours.mu, as is the next
	seenAt string        // where the peer sees this node
}

func (r *Replica) startNetwork() {
	r.peers = peerTable{
		conns: make(map[PeerID]*peerConn), dials: make(map[Peer]context.CancelFunc),
		errors: make(map[Peer]peerError), moved: make(chan struct{}), gone: make(map[PeerID]goneClock),
	}
	r.cfg.Transport.SetGate(Gate{Allow: r.hasRights, Join: r.answerJoin})
	r.wg.Go(r.acceptLoop)
	r.wg.Go(r.tendLoop)
	r.wg.Go(r.damageLoop)
	r.wg.Go(r.scrubLoop)
	r.wg.Go(r.clockLoop)
	r.wg.Go(r.meshLoop)
	for _, p := range r.cfg.Peers {
		r.AddPeer(p)
	}
	r.dialHomes()
}

// AddPeer dials a peer, and dials it again whenever the connection is lost, until RemovePeer or Close.
func (r *Replica) AddPeer(p Peer) {
	if r.cfg.Transport == nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	r.peers.mu.Lock()
	if _, ok := r.peers.dials[p]; ok || r.ctx.Err() != nil {
		r.peers.mu.Unlock()
		cancel()
		return
	}
	r.peers.dials[p] = cancel
	r.wg.Go(func() { r.dialLoop(ctx, p) })
	r.peers.mu.Unlock()
}

// RemovePeer stops dialling a peer. A connection with it stays until it ends.
func (r *Replica) RemovePeer(p Peer) {
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	if cancel, ok := r.peers.dials[p]; ok {
		cancel()
		delete(r.peers.dials, p)
		delete(r.peers.errors, p)
	}
}

func (r *Replica) acceptLoop() {
	for {
		conn, err := r.cfg.Transport.Accept(r.ctx)
		if err != nil {
			if r.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
				r.log.Error("no more connections are accepted", "error", err)
			}
			return
		}
		r.wg.Go(func() { _ = r.serve(conn, false) }) // it logs why it ended
	}
}

func (r *Replica) dialLoop(ctx context.Context, p Peer) {
	backoff := minBackoff
	known := p.ID
	for ctx.Err() == nil {
		if r.waitWhileConnected(ctx, known) != nil {
			return
		}
		began := time.Now()
		conn, err := r.dial(ctx, p)
		if err == nil {
			known = conn.Peer()
			err = r.serve(conn, true)
		}
		r.noteDial(ctx, p, err)
		if isEnough(err) && r.waitWhileOthersDo(ctx) != nil {
			return
		}
		if time.Since(began) > stableAfter {
			backoff = minBackoff
		}
		if sleep(ctx, time.Duration(rand.Int64N(int64(backoff)))+backoff/8) != nil {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// dial dials a peer where it is said to be, and otherwise where it was heard of.
func (r *Replica) dial(ctx context.Context, p Peer) (Conn, error) {
	within, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := r.dialAt(within, p.Addr, p.ID)
	if err == nil || p.ID.IsZero() {
		return conn, err
	}
	if conn, kerr := r.dialKnown(ctx, p.ID); kerr == nil {
		return conn, nil
	}
	return nil, err
}

// isEnough reports whether the peer closed a connection because it has others.
func isEnough(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && closed.Code == CloseEnough && closed.Remote
}

// waitWhileOthersDo returns after a while, or when this node has fewer connections than it wants.
func (r *Replica) waitWhileOthersDo(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, enoughHold+time.Duration(rand.Int64N(int64(enoughHold))))
	defer cancel()
	for {
		r.peers.mu.Lock()
		connected, moved := len(r.peers.conns), r.peers.moved
		r.peers.mu.Unlock()
		if connected < min(r.cfg.Degree, 2) {
			return r.ctx.Err()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return r.ctx.Err()
		}
	}
}

func (r *Replica) noteDial(ctx context.Context, p Peer, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	r.log.Info("connection failed or ended; it is dialled again", "address", p.Addr, "error", err)
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	if _, ok := r.peers.errors[p]; ok || len(r.peers.errors) < maxPeerErrors {
		r.peers.errors[p] = peerError{err, r.cfg.Now()}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitWhileConnected returns when there is no connection with the peer, whoever dialled it.
func (r *Replica) waitWhileConnected(ctx context.Context, id PeerID) error {
	for {
		r.peers.mu.Lock()
		_, connected := r.peers.conns[id]
		moved := r.peers.moved
		r.peers.mu.Unlock()
		if id.IsZero() || !connected {
			return ctx.Err()
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// serve runs the sessions of a connection until it ends, and returns why.
func (r *Replica) serve(conn Conn, keep bool) error {
	pc := &peerConn{
		Conn: conn, peer: conn.Peer(), since: r.cfg.Now(), keep: keep, open: make(map[*Space]*session),
		offers: make(map[*Space]struct{}), wake: make(chan struct{}, 1), teller: mesh.NewTeller(),
	}
	pc.clock.set(pc.since.Add(conn.Skew()), pc.since)
	if pc.peer == r.cfg.Transport.Self() {
		conn.Close(CloseSameIdentity, "both nodes have the identity "+pc.peer.String())
		return &CloseError{Code: CloseSameIdentity, Reason: "the node dialled has this node's own identity"}
	}
	if r.isFull(pc) {
		conn.Close(CloseEnough, "this node has as many connections as it takes")
		return &CloseError{Code: CloseEnough}
	}
	if !r.enter(pc) {
		conn.Close(CloseDuplicate, "there is a connection already")
		return &CloseError{Code: CloseDuplicate}
	}
	defer r.depart(pc)
	r.judgeClocks()
	r.log.Info("connected", "peer", pc.peer, "address", conn.RemoteAddr(), "dialled", conn.Dialled())
	var streams sync.WaitGroup
	defer streams.Wait()
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close(CloseDone, "the node is closing") })
	defer stop()
	streams.Go(func() { r.offerAll(ctx, pc) })
	streams.Go(func() { r.acquaint(ctx, pc) })
	for {
		name, stream, err := conn.AcceptStream(ctx)
		if err != nil {
			cancel()
			conn.Close(CloseDone, "")
			r.log.Info("disconnected", "peer", pc.peer, "reason", err)
			return err
		}
		streams.Go(func() { r.accept(ctx, pc, name, stream) })
	}
}

// isFull reports whether there is no place for one more peer.
func (r *Replica) isFull(pc *peerConn) bool {
	t := &r.peers
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns) >= maxConns && t.conns[pc.peer] == nil && !pc.keep
}

// enter makes pc the connection with its peer, unless it is to be the one that there is.
func (r *Replica) enter(pc *peerConn) bool {
	t := &r.peers
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.conns[pc.peer]; old != nil {
		if !pc.replaces(old, slices.Compare(selfBytes(r), pc.peer[:]) < 0) {
			return false
		}
		if old.Dialled() == pc.Dialled() && !pc.Dialled() && old.Err() == nil {
			r.log.Warn("a peer connected again while its old connection is open: it was restarted, or two nodes have one identity",
				"peer", pc.peer, "old", old.RemoteAddr(), "new", pc.RemoteAddr())
		}
		go old.Close(CloseDuplicate, "replaced by another connection")
	}
	t.conns[pc.peer] = pc
	close(t.moved)
	t.moved = make(chan struct{})
	return true
}

// replaces reports whether a connection takes the place of the one that there is. Of two that the two sides dialled at the same time, the one
// that the smaller peer ID dialled stays. Otherwise the newer one does: nobody dials a peer that he is connected with, so the peer has
// lost the older one, in a restart perhaps.
func (pc *peerConn) replaces(old *peerConn, weAreSmaller bool) bool {
	atOnce := old.Dialled() != pc.Dialled() && pc.since.Sub(old.since).Abs() <= dialTimeout
	return !atOnce || pc.Dialled() == weAreSmaller || old.Err() != nil
}

func selfBytes(r *Replica) []byte { id := r.cfg.Transport.Self(); return id[:] }

func (r *Replica) depart(pc *peerConn) {
	t := &r.peers
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conns[pc.peer] == pc {
		delete(t.conns, pc.peer)
		t.keepClock(pc)
		close(t.moved)
		t.moved = make(chan struct{})
	}
}

// offerAll opens a stream for each space. Who accepted the connection waits a moment, for the dialler
// most likely opens the same ones.
func (r *Replica) offerAll(ctx context.Context, pc *peerConn) {
	if !pc.Dialled() && sleep(ctx, offerDelay) != nil {
		return
	}
	r.mu.Lock()
	spaces := make([]*Space, 0, len(r.spaces))
	for _, s := range r.spaces {
		spaces = append(spaces, s)
	}
	r.mu.Unlock()
	var all sync.WaitGroup
	for _, s := range spaces {
		if r.mayOffer(pc, s) {
			all.Go(func() { r.offer(ctx, pc, s) })
		}
	}
	all.Wait()
}

// offerSpace opens a stream for a space on each connection that has none and may have one.
func (r *Replica) offerSpace(s *Space) {
	if r.cfg.Transport == nil {
		return
	}
	r.peers.mu.Lock()
	defer r.peers.mu.Unlock()
	for _, pc := range r.peers.conns {
		if r.ctx.Err() == nil && r.mayOffer(pc, s) {
			r.wg.Go(func() { r.offer(r.ctx, pc, s) })
		}
	}
}

// offer runs sessions of a space over streams that this side opens, until the connection ends or the peer turns
// out to have opened one itself.
func (r *Replica) offer(ctx context.Context, pc *peerConn, s *Space) {
	if !pc.beginOffer(s) {
		return
	}
	defer pc.endOffer(s)
	backoff := minBackoff
	for ctx.Err() == nil && pc.Err() == nil && r.mayOffer(pc, s) {
		if !pc.has(s) {
			stream, err := pc.OpenStream(ctx, s.wireName())
			if err != nil {
				return
			}
			ses := newSession(s, pc, stream, true)
			if !pc.add(ses) {
				stream.Close(CloseDuplicate)
				return
			}
			began := time.Now()
			err = r.runSession(ctx, ses)
			if time.Since(began) > stableAfter {
				backoff = minBackoff
			}
			var closed *CloseError
			if errors.As(err, &closed) && (closed.Code == CloseDuplicate || closed.Code == CloseUnknownSpace) {
				return
			}
		}
		if sleep(ctx, backoff+time.Duration(rand.Int64N(int64(backoff)))) != nil {
			return
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// accept runs the session of a stream that the peer opened.
func (r *Replica) accept(ctx context.Context, pc *peerConn, name string, stream Stream) {
	s, err := r.keep(pc.peer, name)
	if err != nil {
		r.log.Info("a space that a peer offers is not kept here", "space", name, "peer", pc.peer, "reason", err)
		stream.Close(CloseUnknownSpace)
		return
	}
	ses := newSession(s, pc, stream, false)
	if !pc.add(ses) {
		stream.Close(CloseDuplicate)
		return
	}
	_ = r.runSession(ctx, ses) // noted there
}

var errNotKept = errors.New("this node is configured not to keep it")

// keep returns the space that a peer names, and makes it if it is one without a key and may be kept.
func (r *Replica) keep(peer PeerID, name string) (*Space, error) {
	if id, err := ParseSpaceID(name); err == nil {
		if s := r.ownedSpace(id); s != nil {
			return s, nil
		}
		return nil, errors.New("this node has not joined it")
	}
	if !r.cfg.Transport.Listed(peer) {
		return nil, errors.New("the peer is not on the list of those that share spaces without a key")
	}
	r.mu.Lock()
	s, ok := r.spaces[name]
	_, dropped := r.dropped[name]
	r.mu.Unlock()
	switch {
	case ok && s.trust != nil:
		return nil, errors.New("here a space with a key has that name")
	case ok:
		return s, nil
	case dropped:
		return nil, errors.New("it was removed here")
	case !r.cfg.KeepSpace(name):
		return nil, errNotKept
	}
	return r.Space(name)
}

func (r *Replica) runSession(ctx context.Context, ses *session) error {
	err := ses.run(ctx)
	ses.conn.remove(ses)
	if ctx.Err() == nil && ses.conn.Err() == nil && isNews(err) {
		r.log.Warn("a session ended", "space", ses.space.name, "peer", ses.conn.peer, "error", err)
		ses.noteError(err)
	}
	return err
}

// isNews reports whether the end of a session is worth telling: an orderly one is not, and for one that was closed here
// the reason was told then.
func isNews(err error) bool {
	var closed *CloseError
	if errors.As(err, &closed) {
		return closed.Remote && closed.Code != CloseDone && closed.Code != CloseDuplicate
	}
	return err != nil
}

func (pc *peerConn) has(s *Space) bool {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	return pc.open[s] != nil
}

// add makes ses the session of its space. Where both sides opened a stream, the dialler's stays.
func (pc *peerConn) add(ses *session) bool {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if old := pc.open[ses.space]; old != nil {
		if ses.byUs != pc.Dialled() {
			return false
		}
		go old.stream.Close(CloseDuplicate)
	}
	pc.open[ses.space] = ses
	return true
}

func (pc *peerConn) remove(ses *session) {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	if pc.open[ses.space] == ses {
		delete(pc.open, ses.space)
	}
}

// tendLoop retries, now and then, what peers refused for its clock, and compares digests.
func (r *Replica) tendLoop() {
	for n := 1; sleep(r.ctx, tendInterval) == nil; n++ {
		for _, s := range r.ownedSpaces() { // grants expire
			s.enforce()
		}
		r.enforceConnections()
		for _, ses := range r.allSessions() {
			ses.mu.Lock()
			ses.proto.RetryHeld()
			if n%compareEvery == 0 {
				ses.proto.CompareDigests()
			}
			ses.mu.Unlock()
			ses.tendRepair()
			ses.poke()
			ses.pokeRepairs()
		}
		for _, s := range r.allSpaces() {
			s.chooseSource()
		}
		r.logProgress()
	}
}

func (r *Replica) allSessions() []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*session
	for _, s := range r.spaces {
		s.mu.Lock()
		for ses := range s.sessions {
			all = append(all, ses)
		}
		s.mu.Unlock()
	}
	return all
}
