package replica

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// rebaseRecords is about how many records one commit of a rebase rewrites.
const rebaseRecords = 4096

// restartEvery is how long a session lasts at least before it is ended for a rebase, to hear anew what the peer holds.
const restartEvery = 3 * time.Second

// HeldStatus describes writes of this node that were made with a clock that was ahead, and are here only.
type HeldStatus struct {
	Space string
	// Until is the greatest of their times: then they can be sent as they are.
	Until time.Time
	// WaitsFor are peers that may have some of them, and have not said what they hold. When all of them have, and the clock is
	// right, the writes are re-issued with sound times.
	WaitsFor []PeerID
	// Reason says what they wait for.
	Reason string
}

func (r *Replica) heldStatus() []HeldStatus {
	if r.cfg.Transport == nil && r.mayHold() { // nobody looks at it otherwise
		r.mu.Lock()
		r.lookAtHeld()
		r.mu.Unlock()
	}
	if held := r.held.Load(); held != nil {
		return *held
	}
	return nil
}

// rebasing is what one space has to re-issue.
type rebasing struct {
	space    *Space
	holds    []docstore.Hold
	blockers []docstore.Blocker
}

// rebase looks for own writes that lie too far in the future. Once this node's clock agrees with those of most peers, and it is known
// that nobody has them, it gives them sound times.
func (r *Replica) rebase() {
	if !r.mayHold() {
		r.held.Store(nil)
		return
	}
	if at, err := r.tryRebase(); errors.Is(err, docstore.ErrCorrupt) {
		at.mendHeld(err)
	}
}

// tryRebase returns the space at which it failed, if it did.
func (r *Replica) tryRebase() (at *Space, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ready := r.lookAtHeld(); !ready || r.quiesce() != nil {
		return nil, nil
	}
	// Now that nothing moves, once more.
	if all, ready := r.lookAtHeld(); ready && r.fence(all) {
		at, err = r.reissue(all)
		r.afterRebase(all, err)
	}
	return at, err
}

// mendHeld mends what keeps a rebase from being done, with what is here: a repair with a peer waits for the rebase. What peers have
// of it comes back when they may be told of everything again.
func (s *Space) mendHeld(why error) {
	s.noteDamage(why.Error())
	s.mu.Lock()
	d := &s.damage
	early := time.Since(d.heldMended) < minRepairPause // it reads all of the space
	if !early {
		d.heldMended = time.Now()
	}
	s.mu.Unlock()
	if early {
		return
	}
	err := s.mendBroken(nil)
	if err == nil {
		_, err = s.repair(s.r.ctx, docstore.VerifyOptions{})
	}
	if err != nil {
		s.r.log.Error("damage that keeps held writes from being re-issued could not be mended", "space", s.name, "error", err)
	}
}

// lookAtHeld finds what is held, says so, and reports whether it can be re-issued. It is called with mu held.
func (r *Replica) lookAtHeld() (all []rebasing, ready bool) {
	all, err := r.findHeld()
	if err != nil {
		r.log.Error("what this node's own writes wait for cannot be read", "error", err)
		return nil, false
	}
	reason, ready := r.judgeHeld(all)
	r.noteHeld(all, reason)
	return all, ready && len(all) > 0
}

// holdLimit returns the time beyond which own writes are held: that which most peers take, and not more than would be sound here.
func (r *Replica) holdLimit() hlc.Time { return min(r.clockLimit(), latest(r.now(), r.cfg.MaxDrift)) }

// mayHold reports whether any space may have something to be held. It costs next to nothing.
func (r *Replica) mayHold() bool {
	limit := r.holdLimit()
	for _, s := range r.allSpaces() {
		s.mu.Lock()
		for id, own := range s.durable.owned {
			if own.Next != 0 || s.durable.VV.Get(id) > limit {
				s.mu.Unlock()
				return true
			}
		}
		s.mu.Unlock()
	}
	return false
}

func (r *Replica) allSpaces() []*Space {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.spaces))
}

// quiesce returns, with mu held, when everything is durable and published. Writers wait meanwhile.
func (r *Replica) quiesce() error {
	r.paused = true
	defer func() {
		r.paused = false
		r.roomy.Broadcast()
	}()
	for r.last != nil && !r.last.isDone() || !r.group.isEmpty() {
		if r.closed {
			return ErrClosed
		}
		g := r.last // also one that is committed and not published yet
		if g == nil || g.isDone() {
			g = r.group
		}
		r.mu.Unlock()
		r.poke()
		err := g.wait()
		r.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// findHeld is called with mu held.
func (r *Replica) findHeld() ([]rebasing, error) {
	snap, err := r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	var all []rebasing
	limit := r.holdLimit()
	for _, s := range r.spaces {
		s.mu.Lock()
		b := rebasing{space: s}
		b.holds, err = s.state.Holds(snap, s.exposure, limit)
		b.blockers = s.blockers(b.holds)
		s.mu.Unlock()
		if err != nil {
			return nil, fmt.Errorf("space %q: %w", s.name, err)
		}
		if len(b.holds) > 0 {
			all = append(all, b)
		}
	}
	return all, nil
}

// blockers is called with r.mu and mu held.
func (s *Space) blockers(holds []docstore.Hold) []docstore.Blocker {
	var known []PeerID
	now := s.r.cfg.Now()
	for _, m := range s.members.List(now) {
		if s.members.Counts(m.Peer, now, s.r.cfg.MaxOffline) {
			known = append(known, m.Peer)
		}
	}
	for p := range s.r.peers.known() {
		known = append(known, p)
	}
	var all []docstore.Blocker
	for _, h := range holds {
		all = append(all, s.state.Blockers(s.exposure, h, known, s.r.feed)...)
	}
	return all
}

// known yields the peers that are dialled.
func (t *peerTable) known() map[PeerID]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := make(map[PeerID]struct{})
	for p := range t.dials {
		if !p.ID.IsZero() {
			ids[p.ID] = struct{}{}
		}
	}
	return ids
}

// judgeHeld says what held writes wait for, and whether they wait for nothing. It ends sessions whose peers have to say anew what they
// hold. It is called with mu held.
func (r *Replica) judgeHeld(all []rebasing) (reason string, ready bool) {
	view := r.clocks.Load()
	switch {
	case view == nil:
		return "no peer is connected", false
	case view.isAhead():
		return "this node's clock is ahead of those of most peers: correct it", false
	case !view.isSound():
		return "this node's clock does not agree with those of most peers", false
	}
	blocked := false
	for _, b := range all {
		for _, by := range b.blockers {
			blocked = true
			if by.Restart {
				b.space.restart(by.Peer)
			}
		}
	}
	if blocked {
		return "peers that may have them have not said yet what they hold", false
	}
	if at, who := r.soundPast(all); at > r.holdLimit() {
		return "this node holds writes of replica " + who.String() + " that are in the future as well", false
	}
	return "they are being re-issued", true
}

// soundPast returns the greatest time that stays when held writes are taken out, and whose it is. It is called with mu held.
func (r *Replica) soundPast(all []rebasing) (t hlc.Time, who crdt.ReplicaID) {
	held := make(map[*Space]map[crdt.ReplicaID]hlc.Time)
	for _, b := range all {
		held[b.space] = make(map[crdt.ReplicaID]hlc.Time)
		for _, h := range b.holds {
			held[b.space][h.Replica] = h.After
		}
	}
	for _, s := range r.spaces {
		for d := range s.state.Horizon().All() {
			if after, ok := held[s][d.Replica]; ok {
				d.Time = after
			}
			if d.Time > t {
				t, who = d.Time, d.Replica
			}
		}
	}
	return t, who
}

// restart ends a session with a peer, unless it has just begun: the next one begins with what the peer holds.
func (s *Space) restart(peer PeerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ses := s.sessionWith(peer); ses != nil && time.Since(ses.began) > restartEvery {
		go ses.stream.Close(CloseDone)
	}
}

// noteHeld is called with mu held.
func (r *Replica) noteHeld(all []rebasing, reason string) {
	held := make([]HeldStatus, 0, len(all))
	for _, b := range all {
		st := HeldStatus{Space: b.space.name, Reason: reason}
		for _, h := range b.holds {
			if at := h.UpTo.Wall(); at.After(st.Until) {
				st.Until = at
			}
		}
		for _, by := range b.blockers {
			if !by.Fetch && !slices.Contains(st.WaitsFor, by.Peer) {
				st.WaitsFor = append(st.WaitsFor, by.Peer)
			}
		}
		slices.SortFunc(st.WaitsFor, func(a, b PeerID) int { return bytes.Compare(a[:], b[:]) })
		held = append(held, st)
	}
	slices.SortFunc(held, func(a, b HeldStatus) int { return bytes.Compare([]byte(a.Space), []byte(b.Space)) })
	r.held.Store(&held)
}

// fence keeps what is to be re-issued from being sent from here on. It reports false if some of it was sent meanwhile. It is called
// with mu held.
func (r *Replica) fence(all []rebasing) bool {
	for i, b := range all {
		s := b.space
		s.mu.Lock()
		if len(s.blockers(b.holds)) == 0 {
			s.fenced = true
			s.mu.Unlock()
			continue
		}
		s.mu.Unlock()
		for _, done := range all[:i] {
			done.space.setFence(false)
		}
		return false
	}
	return true
}

func (s *Space) setFence(fenced bool) {
	s.mu.Lock()
	s.fenced = fenced
	s.mu.Unlock()
}

// reissue is called with mu held, so writes and received deltas wait. Each commit leaves a valid state: see docstore.Reissue.
// It returns the space at which it failed, if it did.
func (r *Replica) reissue(all []rebasing) (at *Space, err error) {
	var clock hlc.Clock
	past, _ := r.soundPast(all)
	clock.Observe(past)
	b := new(store.Batch)
	holds := make([][]docstore.Hold, len(all))
	for i, part := range all {
		holds[i] = part.holds
	}
	next := docstore.NameHolds(holds, r.cfg.NewReplicaID)
	if id, given := docstore.AfterReissue(r.self, next); given {
		r.self = id
		docstore.PutIdentity(b, docstore.Identity{Replica: r.self, Feed: r.feed, Anchor: r.anchor})
	}
	for _, part := range all {
		if err := r.relog(part); err != nil {
			return part.space, fmt.Errorf("space %q: %w", part.space.name, err)
		}
		for done := false; !done; {
			if done, err = r.reissuePart(part, b, &clock); err != nil {
				return part.space, fmt.Errorf("space %q: %w", part.space.name, err)
			}
			b = new(store.Batch)
		}
	}
	r.clock = clock
	return nil, nil
}

func (r *Replica) relog(part rebasing) error {
	snap, err := r.store.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	return part.space.state.Relog(snap, part.holds, r.store.Commit)
}

func (r *Replica) reissuePart(part rebasing, b *store.Batch, clock *hlc.Clock) (done bool, err error) {
	snap, err := r.store.Snapshot()
	if err != nil {
		return false, err
	}
	defer snap.Close()
	s := part.space
	res, err := s.state.Reissue(snap, b, part.holds, clock, r.now(), r.feed, rebaseRecords)
	if err != nil {
		return false, err
	}
	s.state.Flush(b)
	return res.Done, r.store.Commit(b)
}

// afterRebase makes known what a rebase came to, or goes back to what the store has. It is called with mu held.
func (r *Replica) afterRebase(all []rebasing, err error) {
	if err != nil {
		r.log.Error("held writes could not be re-issued with sound times; that is tried again", "error", err)
		r.self = 0
		r.reload()
	}
	for _, b := range all {
		s := b.space
		s.mu.Lock()
		s.durable = s.snapshotState(r.self)
		s.fenced = false
		s.live = liveCache{}
		for ses := range s.sessions { // they speak of dots that are no more
			go ses.stream.Close(CloseDone)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		close(s.ackMoved)
		s.ackMoved = make(chan struct{})
		s.mu.Unlock()
		if err == nil {
			r.log.Warn("writes that were made while this node's clock was ahead were re-issued with sound times", "space", s.name)
		}
	}
	if err == nil {
		r.held.Store(nil)
	}
}

// disown forgets IDs of earlier lives all of whose writes somebody else has, so that they cost nothing any more.
func (r *Replica) disown() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waitForRoom() != nil {
		return
	}
	for _, s := range r.spaces {
		s.mu.Lock()
		idle := s.state.Received(s.exposure, r.self)
		s.mu.Unlock()
		for _, id := range idle {
			s.state.Disown(r.group.batch, id)
			r.group.part(s)
			r.poke()
		}
	}
}
