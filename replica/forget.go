package replica

import (
	"errors"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

const (
	// forgetInterval is how often this node looks whether more is stable, and tells its peers what it knows of other members.
	forgetInterval = 2 * time.Second
	// gossipInterval is how often at least vectors are told while there are writes all the time. When there is a pause they are told at once,
	// for then they say most.
	gossipInterval = 15 * time.Second
	// gossipPerMember: but not more often than this for each member. One write changes the vectors of all, so that it would cost each node of a large
	// mesh a hundred times its size.
	gossipPerMember = 50 * time.Millisecond
	// heardSteps: that a member is still there is told and stored when it has moved by this part of MaxOffline.
	heardSteps = 16

	// pruneKeys bounds the log keys that one step looks at. It holds the lock of all writes meanwhile, for some milliseconds at most.
	pruneKeys = 512
	// pruneShare: after each step the pruner rests for this many times as long as the step took, so that writers hardly notice it.
	pruneShare = 2
)

// forgetting is what the loop knows of one space. It is for that goroutine alone.
type forgetting struct {
	candidate crdt.VersionVector // what becomes stable when PruneDelay is over
	since     time.Time          // when that was found; zero: there is none
	arrival   uint64             // how far the feed was then
	vv        crdt.VersionVector // own, at the last look
	gossiped  time.Time
	version   uint64 // of the roster that peers were told of
	sessions  int

	clients forgettingClients
}

// forgetLoop lets stable rise, and prunes what has become stable: a little at a time, for as long as there is something.
func (r *Replica) forgetLoop() {
	spaces := make(map[*Space]*forgetting)
	more := false
	for more || sleep(r.ctx, forgetInterval) == nil {
		more = false
		for _, s := range r.allSpaces() {
			if spaces[s] == nil {
				spaces[s] = &forgetting{}
			}
			more = s.forget(spaces[s]) || more
		}
	}
}

// forget does for one space what is due, and reports whether there is more to do at once.
func (s *Space) forget(f *forgetting) bool {
	now := s.r.cfg.Now()
	s.gossip(f, now)
	s.raiseStable(f, now)
	if err := s.forgetClients(&f.clients, now); err != nil && s.r.ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		s.r.log.Error("what is kept of clients could not be looked through; it is tried again", "space", s.name, "error", err)
	}
	more, err := s.prune()
	if err = s.noteCorrupt(err); errors.Is(err, ErrDamaged) {
		return false // that is told already, and goes on once it is mended
	}
	if err != nil && s.r.ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		s.r.log.Error("pruning failed; it is tried again", "space", s.name, "error", err)
	}
	return more
}

// gossip tells all peers what is known of members, if there is something new. A vector is worth telling in a pause between writes,
// or when there has been none for long.
func (s *Space) gossip(f *forgetting, now time.Time) {
	refresh := s.r.cfg.MaxOffline / heardSteps
	s.mu.Lock()
	s.members.Refresh(now, refresh)
	version, sessions := s.members.Version(), len(s.sessions)
	waited, atLeast := now.Sub(f.gossiped).Abs(), time.Duration(s.members.Len())*gossipPerMember
	quiet := f.vv.Equal(s.durable.VV) && waited >= atLeast
	f.vv = s.durable.VV
	due := waited >= max(gossipInterval, atLeast)
	if sessions == 0 || version == f.version && sessions == f.sessions && !due {
		s.mu.Unlock()
		return
	}
	list := s.members.List(now)
	all := make([]*session, 0, sessions)
	for ses := range s.sessions {
		all = append(all, ses)
	}
	s.mu.Unlock()
	vectors := quiet || due
	if vectors {
		f.gossiped, f.version, f.sessions = now, version, sessions
	}
	for _, ses := range all {
		others := make([]protocol.Member, 0, len(list))
		for _, m := range list {
			if m.Peer != ses.conn.peer {
				others = append(others, m)
			}
		}
		ses.mu.Lock()
		ses.proto.TellMembers(others, refresh.Milliseconds(), vectors)
		ses.mu.Unlock()
		ses.poke()
	}
}

// raiseStable lets stable rise to what all members were found to have PruneDelay ago.
func (s *Space) raiseStable(f *forgetting, now time.Time) {
	r := s.r
	if r.clocks.Load().isAhead() {
		return // members may seem to be away for longer than they are, and own writes are held back
	}
	if !f.since.IsZero() && now.Sub(f.since) < r.cfg.PruneDelay && now.After(f.since) || s.isWatchedBefore(f.arrival, now) {
		return
	}
	s.mu.Lock()
	found := s.members.Stable(protocol.Firm(s.durable.VV, s.durable.Open), now, r.cfg.MaxOffline)
	stable, arrival := s.durable.Stable, s.durable.arrival
	s.mu.Unlock()
	to := f.candidate.Meet(found) // for one that came meanwhile may have less
	if r.cfg.PruneDelay < 0 {
		to = found
	}
	f.candidate, f.since, f.arrival = found, now, arrival
	if to.LessOrEqual(stable) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed && r.spaces[s.name] == s && s.state.RaiseStable(to) {
		r.group.part(s)
		r.poke()
	}
}

// prune forgets what is stable for some time, in steps of which each is durable before the next is begun. It reports whether there
// is more.
func (s *Space) prune() (more bool, err error) {
	for until := time.Now().Add(forgetInterval); time.Now().Before(until); {
		began := time.Now()
		p, g, err := s.pruneStep()
		if err != nil || g == nil && p.Finished == 0 {
			return false, err
		}
		took := time.Since(began)
		if g != nil {
			s.r.poke()
			if err := g.wait(); err != nil {
				return false, err
			}
		}
		if !p.More {
			return false, nil
		}
		if err := sleep(s.r.ctx, pruneShare*took); err != nil {
			return false, err
		}
	}
	return true, nil
}

// pruneStep puts one step into the group, which it returns; nil if there was nothing to write.
func (s *Space) pruneStep() (docstore.Pruned, *group, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spaces[s.name] != s || !s.state.WaitsForPruning() {
		return docstore.Pruned{}, nil, nil
	}
	if err := r.waitForRoom(); err != nil {
		return docstore.Pruned{}, nil, err
	}
	over, err := r.overlay()
	if err != nil {
		return docstore.Pruned{}, nil, err
	}
	defer over.Snapshot.Close()
	p, err := s.state.Prune(over, pruneKeys)
	if err != nil || p.LogKeys == 0 {
		return p, nil, err
	}
	r.group.part(s)
	return p, r.group, nil
}
