package replica

import (
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// What this node writes while its clock is ahead is not sent, so that it can be re-issued with sound times once the clock is
// corrected: what nobody else has, nobody will miss. For that it must be known for sure who may have what. So before a peer is
// sent writes of this node's own, a note says so in the store: up to a time that lies a little ahead, so that one note serves
// for a while. See docstore.Own and docstore.Exposure.

// noteSpan is how far ahead a note says that a peer may be told. A longer one costs fewer commits; after a crash, what was
// written within it counts as perhaps told.
const noteSpan = 10 * time.Minute

// mayLeave decides what of own writes a session may be told. It is called with s.mu held.
func (s *Space) mayLeave(peer PeerID) docstore.Admission {
	a := docstore.Admission{Limit: s.r.clockLimit(), Own: s.durable.owned.MayTell(peer)}
	if s.fenced {
		for id := range a.Own {
			a.Own[id] = 0
		}
	}
	return a
}

// isFree reports whether a peer may be told all that is durable. It is called with s.mu held.
func (s *Space) isFree(peer PeerID) bool {
	return !s.isHolding() && s.durable.owned.MayTellAll(peer, s.durable.VV)
}

// isHolding reports whether something durable may be told nobody, for longer than a note takes. It is called with s.mu held.
func (s *Space) isHolding() bool {
	return s.fenced || s.durable.max > s.r.clockLimit() || s.durable.owned.IsReissuing()
}

// handAll notes that a peer may be told all own writes that are durable. It is called with s.mu held.
func (s *Space) handAll(peer PeerID) {
	for id := range s.durable.owned {
		s.exposure.Handed(peer, crdt.Dot{Replica: id, Time: s.durable.VV.Get(id)})
	}
}

// guarded returns a delta while not everything may be told.
func (f *source) guarded(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*protocol.Delta, error) {
	s := f.space
	s.mu.Lock()
	a := s.mayLeave(f.peer)
	s.mu.Unlock()
	snap, err := s.r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	d, named, verdict, err := docstore.BuildAdmitted(snap, s.number, origin, from, to, pruned, &a)
	if err != nil {
		return nil, s.unreadable(err)
	}
	if verdict != docstore.Admitted {
		f.wantsNote = f.wantsNote || verdict == docstore.OwnBeyond
		return nil, protocol.ErrWait
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced && named.Len() > 0 {
		return nil, protocol.ErrWait
	}
	for dot := range named.All() {
		s.exposure.Handed(f.peer, dot)
	}
	return &protocol.Delta{Delta: *d}, nil
}

// mayHandOut returns nil if a peer may be told of any cells, as in a repair or a snapshot, and notes that it is. The error is protocol.ErrHeld, or
// protocol.ErrWait if only a note is missing.
func (s *Space) mayHandOut(peer PeerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.isHolding():
		return protocol.ErrHeld
	case !s.isFree(peer):
		return protocol.ErrWait
	}
	s.handAll(peer)
	return nil
}

// noteNamed notes that somebody else has dots of this node's own.
func (s *Space) noteNamed(own crdt.VersionVector) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range own.All() {
		s.exposure.Named(d)
	}
}

// note stores that a peer may be told of what this node has written, and will in the next while. Sessions learn of it when that
// is durable.
func (s *Space) note(peer PeerID) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return err
	}
	if err := s.checkHere(); err != nil {
		return err
	}
	before := s.state.OwnedVersion()
	limit := r.clockLimit()
	s.state.Hand(r.group.batch, peer, func(id crdt.ReplicaID) hlc.Time {
		t := s.state.VV().Get(id)
		if t <= limit && id.IsLaneOf(r.self) {
			return later(t, noteSpan)
		}
		return min(t, limit)
	})
	if s.state.OwnedVersion() != before {
		r.group.part(s)
		r.poke()
	}
	return nil
}

// isNoteDue reports whether what a peer may be told of the present ReplicaID, and of its lanes, does not reach far ahead any more. It is
// called with mu held.
func (s *Space) isNoteDue(self crdt.ReplicaID, peer PeerID) bool {
	limit := s.r.clockLimit()
	for id, own := range s.durable.owned {
		t := s.durable.VV.Get(id)
		if own.Next == 0 && t <= limit && own.Handed[peer] < later(t, noteSpan/2) && id.IsLaneOf(self) {
			return true
		}
	}
	return false
}

func later(t hlc.Time, d time.Duration) hlc.Time {
	return hlc.FromUnixMilli(t.UnixMilli() + d.Milliseconds())
}

// noteAhead renews the notes that would soon have to be, so that no write waits for one.
func (r *Replica) noteAhead() {
	self := r.ReplicaID()
	for _, ses := range r.allSessions() {
		s := ses.space
		s.mu.Lock()
		soon := s.isNoteDue(self, ses.conn.peer)
		s.mu.Unlock()
		if soon {
			_ = s.note(ses.conn.peer) // only a closed replica fails
		}
	}
}

// resume lets the state machine look again at what was kept back.
func (ses *session) resume() {
	ses.mu.Lock()
	waited := len(ses.proto.Waiting()) > 0
	ses.proto.Resume()
	ses.mu.Unlock()
	if waited {
		ses.poke()
	}
}

// claim notes with the first transaction of a ReplicaID that it is of this store, and that connected peers may be told of it. It is
// called with r.mu held.
func (s *Space) claim(d crdt.Dot) {
	b, before := s.r.group.batch, s.state.OwnedVersion()
	s.state.Claim(b, d.Replica, s.r.feed)
	if s.state.OwnedVersion() == before || d.Time > s.r.clockLimit() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		s.state.Hand(b, ses.conn.peer, func(id crdt.ReplicaID) hlc.Time {
			if id != d.Replica {
				return 0
			}
			return later(d.Time, noteSpan)
		})
	}
}

// takeNotes lets the state machine look again at what waited for a note. It is called with mu held.
func (ses *session) takeNotes() {
	s := ses.space
	s.mu.Lock()
	version := s.durable.ownedVersion
	s.mu.Unlock()
	if version != ses.owned {
		ses.owned = version
		ses.proto.Resume()
	}
}

// enter makes ses the session of its peer. It waits until all earlier ones with that peer are over. With what they brought durable
// before the session begins, what it is opened with includes that, and who sent it knows for sure whether it has arrived.
func (ses *session) enter() error {
	s, peer := ses.space, ses.conn.peer
	for {
		s.mu.Lock()
		earlier := s.sessionWith(peer)
		if earlier == nil {
			break
		}
		s.mu.Unlock()
		select {
		case <-earlier.left:
		case <-s.r.ctx.Done():
			return ErrClosed
		}
	}
	defer s.mu.Unlock()
	ses.proto = protocol.NewSession(s.durable.State)
	s.sessions[ses] = struct{}{}
	s.peerState(peer).connected++
	s.members.Meet(peer, s.r.cfg.Now())
	return nil
}

func (ses *session) begin() {
	s := ses.space
	s.mu.Lock()
	state := s.durable.State
	s.mu.Unlock()
	ses.mu.Lock()
	ses.proto = protocol.NewSession(state)
	ses.mu.Unlock()
}

// sessionWith is called with s.mu held.
func (s *Space) sessionWith(peer PeerID) *session {
	for ses := range s.sessions {
		if ses.conn.peer == peer {
			return ses
		}
	}
	return nil
}

// awaitReceived returns when all that was received is durable and published, or lost.
func (s *Space) awaitReceived() {
	r := s.r
	r.mu.Lock()
	var pending []*group
	for _, g := range []*group{r.last, r.group} {
		if g != nil && g.spaces[s] != nil {
			pending = append(pending, g)
		}
	}
	r.mu.Unlock()
	r.poke()
	for _, g := range pending {
		_ = g.wait() // of what could not be committed, nothing is here
	}
}

// hear takes what a peer opened the session with, once that is known, and before anything is sent. It is called with mu held.
func (ses *session) hear() {
	v, ok := ses.proto.PeerVectors()
	if ses.heard || !ok {
		return
	}
	ses.heard = true
	s := ses.space
	s.mu.Lock()
	s.exposure.Heard(ses.conn.peer, v)
	s.mu.Unlock()
}
