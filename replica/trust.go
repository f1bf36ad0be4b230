package replica

import (
	"errors"
	"fmt"
	"sync"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/store"
)

// trust is what is known of a space with a key beside its documents. Statements get into it only with Replica.mu held, so that who holds that knows
// what holds at the moment of a merge.
type trust struct {
	id SpaceID

	mu      sync.Mutex // guards what follows; taken after Replica.mu and Space.mu, and nothing is taken after it
	set     *grant.Set
	homes   []docstore.Home
	tickets map[grant.TicketID]docstore.Ticket
}

// loadTrust returns nil for a space without a key.
func (r *Replica) loadTrust(snap store.Snapshot, number uint32) (*trust, error) {
	owner, ok, err := docstore.LoadOwner(snap, number)
	if err != nil || !ok {
		return nil, err
	}
	t := r.newTrust(owner.ID)
	t.homes = owner.Homes
	list, err := docstore.Statements(snap, number)
	if err == nil {
		err = t.set.Load(list)
	}
	if err != nil {
		return nil, err
	}
	t.tickets, err = docstore.Tickets(snap, number)
	return t, err
}

func (r *Replica) newTrust(id SpaceID) *trust {
	return &trust{id: id, set: grant.NewSet(id, r.cfg.MaxDrift), tickets: make(map[grant.TicketID]docstore.Ticket)}
}

func (r *Replica) millis() grant.Millis { return grant.At(r.cfg.Now()) }

// permissions returns who has which rights now.
func (s *Space) permissions() *grant.View {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	return s.trust.set.At(s.r.millis())
}

// rightsOf returns what a peer may do here. In a space without a key, who is on the list may do everything.
func (s *Space) rightsOf(p PeerID) Rights {
	if s.trust != nil {
		return s.permissions().Rights(p)
	}
	if s.r.cfg.Transport != nil && s.r.cfg.Transport.Listed(p) {
		return AdminRights
	}
	return NoRights
}

// me is this node's peer ID; zero if it has none.
func (r *Replica) me() PeerID {
	switch {
	case r.cfg.Identity != nil:
		return r.cfg.Identity.PeerID()
	case r.cfg.Transport != nil:
		return r.cfg.Transport.Self()
	}
	return PeerID{}
}

// ID returns the space's ID; ok is false for a space that has no key.
func (s *Space) ID() (id SpaceID, ok bool) {
	if s.trust == nil {
		return id, false
	}
	return s.trust.id, true
}

// Rights returns what this node may do in the space: everything, if the space has no key.
func (s *Space) Rights() Rights {
	if s.trust == nil {
		return AdminRights
	}
	return s.permissions().Rights(s.r.me())
}

// require returns a *PermissionError if this node may not do what it takes.
func (s *Space) require(need Rights) error {
	if s.trust == nil {
		return nil
	}
	v := s.permissions()
	have := v.Rights(s.r.me())
	if have >= need {
		return nil
	}
	e := &PermissionError{Space: s.name, Have: have, Need: need}
	if have == NoRights {
		e.Why = "its grant has expired"
		if v.Revocation(s.r.me()) != nil {
			e.Why = "they were revoked"
		}
	}
	return e
}

// wireName is what the space is called between nodes.
func (s *Space) wireName() string {
	if s.trust == nil {
		return s.name
	}
	return s.trust.id.String()
}

// learn takes statements of a peer in, and returns when they are durable. The error is of the first that was not taken; others were taken all the
// same.
func (s *Space) learn(list []grant.Statement) error {
	if !s.isNews(list) {
		return nil
	}
	r := s.r
	r.mu.Lock()
	if err := r.waitForRoom(); err != nil {
		r.mu.Unlock()
		return err
	}
	if err := s.checkHere(); err != nil {
		r.mu.Unlock()
		return err
	}
	added, refused := s.take(list)
	g := r.group
	r.mu.Unlock()
	if added > 0 {
		s.trustChanged()
		r.poke()
		if err := g.wait(); err != nil {
			return fmt.Errorf("store the grants of space %q: %w", s.name, err)
		}
	}
	return refused
}

// isNews reports whether any of the statements is not known yet, which costs less than to check them.
func (s *Space) isNews(list []grant.Statement) bool {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	for i := range list {
		if !s.trust.set.Has(&list[i]) {
			return true
		}
	}
	return false
}

// take puts what is sound and new of the statements into the set and the group. It is called with Replica.mu held.
func (s *Space) take(list []grant.Statement) (added int, refused error) {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	fresh, refused := s.trust.set.AddAll(list, s.r.millis())
	for i := range fresh {
		docstore.PutStatement(s.r.group.batch, s.number, &fresh[i])
	}
	return len(fresh), refused
}

// reloadTrust goes back to what is stored, after a commit has failed. It is called with Replica.mu held.
func (s *Space) reloadTrust(snap store.Snapshot) error {
	if s.trust == nil {
		return nil
	}
	t, err := s.r.loadTrust(snap, s.number)
	if err == nil && t == nil {
		err = errors.New("its key is gone")
	}
	if err != nil {
		return err
	}
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	s.trust.set, s.trust.homes, s.trust.tickets = t.set, t.homes, t.tickets
	return nil
}

// trustChanged lets sessions and connections end that may not go on, others begin, and tells peers of new statements.
func (s *Space) trustChanged() {
	s.enforce()
	s.r.enforceConnections()
	s.r.offerSpace(s)
}

// enforce wakes the sessions of the space, and ends those of peers that have no rights any more: by their own senders, which say
// why first, or, where a peer does not read, after a moment.
func (s *Space) enforce() {
	s.mu.Lock()
	sessions := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		sessions = append(sessions, ses)
	}
	s.mu.Unlock()
	for _, ses := range sessions {
		ses.poke()
		if ses.isAdmitted() && s.rightsOf(ses.conn.peer) < ReadRights {
			ses.expel()
		}
	}
}
