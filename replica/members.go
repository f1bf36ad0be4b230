package replica

import (
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// membersInterval is how often at the most what is known of members is stored. It only informs: a session begins with the peer's
// own word.
const membersInterval = 2 * time.Second

// membersBytes bounds how much of it goes into one commit, so that what matters finds room there; the rest comes later.
const membersBytes = 1 << 20

// storeMembers adds what is new of members to a batch, up to a size of that, if it was not done just now. It is called with
// r.mu held.
func (s *Space) storeMembers(b *store.Batch, limit int, always bool) {
	now := s.r.cfg.Now()
	if !always && now.Sub(s.membersStored).Abs() < membersInterval {
		return
	}
	s.membersStored = now
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members.TakeDirty(func(m protocol.Member, known bool) bool {
		if b.Bytes() >= limit {
			return false
		}
		if known {
			docstore.PutMember(b, s.number, m)
		} else {
			docstore.ForgetMember(b, s.number, m.Peer)
		}
		return true
	})
}

func (ses *session) noteAcked() {
	ses.mu.Lock()
	vv, firm := ses.proto.AckedVector().Clone(), ses.proto.FirmVector()
	if firm.Equal(vv) {
		firm = vv
	}
	ses.mu.Unlock()
	s := ses.space
	s.mu.Lock()
	defer s.mu.Unlock()
	s.members.Acknowledge(ses.conn.peer, vv, firm)
	s.exposure.Acked(ses.conn.peer, vv)
	s.membersMoved()
}

func (s *Space) learnMembers(list []protocol.Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.members.Version()
	s.members.Learn(list, s.r.cfg.Now())
	for _, m := range list { // what some node has of this one's own writes is not held any more
		for id := range s.durable.owned {
			s.exposure.Named(crdt.Dot{Replica: id, Time: m.VV.Get(id)})
		}
	}
	if s.members.Version() != before {
		s.membersMoved()
	}
}

// membersMoved is called with mu held.
func (s *Space) membersMoved() {
	close(s.ackMoved)
	s.ackMoved = make(chan struct{})
}

// Evict lets a member that is gone for good no longer hold pruning back, here and at all members that hear of it. If it comes back
// it is brought up to date by a snapshot, and counts again. A connected one cannot be evicted.
func (s *Space) Evict(peer PeerID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.members.Evict(peer, s.r.cfg.Now())
}

// MemberStatus describes what is known of a node that keeps a replica of the space.
type MemberStatus struct {
	Peer      PeerID
	Connected bool      // with this node
	Heard     time.Time // when it was connected with anybody last, as far as this node was told
	Evicted   time.Time // zero: never
	// Counts: what it lacks is not pruned. It is connected, or was heard of within Config.MaxOffline and not evicted since.
	Counts bool
	Vector crdt.VersionVector // it holds at least this durably
	Firm   crdt.VersionVector // and of that, this whole: beyond, something may be missing that later writes took over
	Lacks  bool               // it lacks something that this node has, or a part of it, as far as is known
}

// Members describes the other members of the space, sorted by peer.
func (s *Space) Members() []MemberStatus {
	now := s.r.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	list, own := s.members.List(now), s.durable.VV
	all := make([]MemberStatus, len(list))
	for i, m := range list {
		all[i] = MemberStatus{
			Peer: m.Peer, Connected: m.Direct, Heard: time.UnixMilli(m.Heard), Vector: m.VV, Firm: m.Firm,
			Counts: s.members.Counts(m.Peer, now, s.r.cfg.MaxOffline), Lacks: !own.LessOrEqual(m.Firm),
		}
		if m.Evicted > 0 {
			all[i].Evicted = time.UnixMilli(m.Evicted)
		}
	}
	return all
}

// Stability says what is not pruned yet, and why.
type Stability struct {
	Members []MemberStatus
	// HeldBack says which members stability waits for, and Since when each of them lacks something: when the oldest of that was written.
	HeldBack []HeldBack
	// OpenSince is when the oldest change was written of which a part may be missing here although the vector covers it, since later ones took
	// it over that are not here: stability waits for those too. Zero if there is none. It passes once this node is level, unless a
	// writer was lost before all its writes had got round.
	OpenSince time.Time
	// Age is how long ago the oldest change was written that is not stable; zero if everything is.
	Age time.Duration
	// Waiting is the number of log entries that are stable and not pruned yet, up to MaxCounted.
	Waiting int64
}

// HeldBack names a member that stability waits for.
type HeldBack struct {
	Peer      PeerID
	Connected bool
	Heard     time.Time
	Since     time.Time
}

// maxSought bounds the replicas whose logs are looked at for the oldest change that somebody lacks.
const maxSought = 256

// stability is called with a snapshot of about now. It counts what waits up to limit.
func (s *Space) stability(snap store.Snapshot, vv, stable crdt.VersionVector, limit int64) (Stability, error) {
	out := Stability{Members: s.Members()}
	s.mu.Lock()
	open := s.durable.Open
	s.mu.Unlock()
	if len(open) > 0 {
		at, ok, err := docstore.Oldest(snap, s.number, protocol.Firm(vv, open), vv, maxSought)
		if err != nil {
			return out, err
		}
		if ok {
			out.OpenSince = at.Wall()
		}
	}
	for _, m := range out.Members {
		if !m.Counts || !m.Lacks {
			continue
		}
		at, ok, err := docstore.Oldest(snap, s.number, m.Firm, vv, maxSought)
		if err != nil {
			return out, err
		}
		if ok {
			out.HeldBack = append(out.HeldBack, HeldBack{Peer: m.Peer, Connected: m.Connected, Heard: m.Heard, Since: at.Wall()})
		}
	}
	at, ok, err := docstore.Oldest(snap, s.number, stable, vv, maxSought)
	if err == nil && ok {
		out.Age = max(0, s.r.cfg.Now().Sub(at.Wall()))
	}
	if err == nil {
		s.r.mu.Lock()
		out.Waiting, err = s.state.Unpruned(snap, limit)
		s.r.mu.Unlock()
	}
	return out, err
}
