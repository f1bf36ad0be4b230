package grant

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// MaxStatements bounds a Set: about 3 MiB.
const MaxStatements = 16384

// Set is the statements of one space that are known. It only grows. It is for one goroutine at a time.
//
// Invariants: each statement is of the space and signed by its issuer; the issuer of each is the space key or was granted admin by one before it
// in the order of arrival, so that any prefix of that order can be sent and taken in as it is.
type Set struct {
	space SpaceID
	drift Millis // tolerance of clocks
	list  []Statement
	known map[ID]struct{}
	ever  map[protocol.PeerID]struct{} // was granted admin once
	hash  [32]byte
	view  *View // as computed last; nil after a change
}

// NewSet returns an empty set. drift is how far clocks may be apart.
func NewSet(space SpaceID, drift time.Duration) *Set {
	return &Set{
		space: space, drift: Millis(drift.Milliseconds()),
		known: make(map[ID]struct{}), ever: make(map[protocol.PeerID]struct{}),
	}
}

// Space returns the ID of the space.
func (s *Set) Space() SpaceID { return s.space }

// Len returns the number of statements.
func (s *Set) Len() int { return len(s.list) }

// Since returns the statements from the n-th on, in the order of their arrival. The slice is the set's own.
func (s *Set) Since(n int) []Statement { return s.list[min(n, len(s.list)):] }

// Hash is equal for two sets of the same statements, whatever their order.
func (s *Set) Hash() [32]byte { return s.hash }

// Has reports whether a statement is known.
func (s *Set) Has(st *Statement) bool {
	_, ok := s.known[st.ID()]
	return ok
}

// Check says why a statement would not be taken in, nil if it would be. now is the local clock.
func (s *Set) Check(st *Statement, now Millis) error {
	_, ever := s.ever[st.Issuer]
	switch {
	case st.Space != s.space:
		return ErrForeign
	case st.Issued > now+s.drift:
		return ErrFuture
	case !st.ByKey() && !ever:
		return ErrIssuer
	case len(s.list) >= MaxStatements:
		return ErrFull
	}
	return st.Verify()
}

// Add takes a statement in, if it is sound and new, and reports whether it was new.
func (s *Set) Add(st Statement, now Millis) (bool, error) {
	id := st.ID()
	if _, ok := s.known[id]; ok {
		return false, nil
	}
	if err := s.Check(&st, now); err != nil {
		return false, err
	}
	s.insert(st, id)
	return true, nil
}

func (s *Set) insert(st Statement, id ID) {
	s.list = append(s.list, st)
	s.known[id] = struct{}{}
	if st.Kind == KindGrant && st.Rights == Admin {
		s.ever[st.Subject] = struct{}{}
	}
	for i := range id {
		s.hash[i] ^= id[i]
	}
	s.view = nil
}

// AddAll takes in what is sound of a list, in its order, and returns what was new. The error is that of the first statement that was not
// taken; those after it were tried all the same.
func (s *Set) AddAll(list []Statement, now Millis) (added []Statement, err error) {
	for i := range list {
		ok, e := s.Add(list[i], now)
		if e != nil && err == nil {
			err = fmt.Errorf("statement about %s: %w", list[i].Subject.Short(), e)
		}
		if ok {
			added = append(added, list[i])
		}
	}
	return added, err
}

// Load is AddAll for statements that are kept here: all of them were sound when they were stored, and are not held against a
// clock that was set back since.
func (s *Set) Load(list []Statement) error {
	for len(list) > 0 {
		var left []Statement // whose issuer comes later: what is stored is not in the order of arrival
		for _, st := range list {
			_, err := s.Add(st, maxMillis)
			switch {
			case errors.Is(err, ErrIssuer):
				left = append(left, st)
			case err != nil:
				return fmt.Errorf("statement about %s: %w", st.Subject.Short(), err)
			}
		}
		if len(left) == len(list) {
			return fmt.Errorf("statement about %s: %w", left[0].Subject.Short(), ErrIssuer)
		}
		list = left
	}
	return nil
}

// Evidence returns a statement, and before it what shows that its issuer was an admin once.
func (s *Set) Evidence(st *Statement) []Statement {
	list := []Statement{*st}
	for at := st; !at.ByKey(); {
		i := slices.IndexFunc(s.list, func(g Statement) bool {
			return g.Kind == KindGrant && g.Rights == Admin && g.Subject == at.Issuer
		})
		if i < 0 {
			break // the set does not have st
		}
		at = &s.list[i] // the first is older than all that its subject issued
		list = append(list, *at)
	}
	slices.Reverse(list)
	return list
}

// Clone returns a set that changes by itself.
func (s *Set) Clone() *Set {
	c := NewSet(s.space, 0)
	c.drift = s.drift
	for i := range s.list {
		c.insert(s.list[i], s.list[i].ID())
	}
	return c
}

// NextEpoch returns the epoch of a new grant to a node, and that of a revocation of it.
func (s *Set) NextEpoch(p protocol.PeerID) (ofGrant, ofRevocation uint32, err error) {
	var revoked uint32
	ofRevocation = 1
	for i := range s.list {
		st := &s.list[i]
		if st.Subject != p {
			continue
		}
		if st.Kind == KindRevocation {
			revoked = max(revoked, st.Epoch)
		}
		ofRevocation = max(ofRevocation, st.Epoch)
	}
	if revoked == 1<<32-1 {
		return 0, ofRevocation, fmt.Errorf("%s was revoked for good: it can only join under a new identity", p.Short())
	}
	return revoked + 1, ofRevocation, nil
}
