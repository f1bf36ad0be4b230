package grant

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// View is what the statements of a Set come to at one time. It is not changed, and may be kept and read by several goroutines.
type View struct {
	from, until Millis // holds in [from, until)
	best        map[protocol.PeerID]*Statement
	revoked     map[protocol.PeerID]revoked
}

// revoked is up to which epoch the grants of a node are void.
type revoked struct {
	byKey uint32 // those of the space key
	byAny uint32 // those of admins
	last  *Statement
}

func (r revoked) voids(g *Statement) bool {
	if g.ByKey() {
		return g.Epoch <= r.byKey
	}
	return g.Epoch <= max(r.byKey, r.byAny)
}

// At returns what holds at a time.
func (s *Set) At(now Millis) *View {
	if v := s.view; v != nil && v.from <= now && now < v.until {
		return v
	}
	v := &View{from: now, until: maxMillis + 1, best: make(map[protocol.PeerID]*Statement), revoked: s.revocations()}
	grants := s.standing(v, now)
	for changed := true; changed; {
		changed = false
		for _, g := range grants {
			if v.admit(g) {
				changed = true
			}
		}
	}
	s.view = v
	return v
}

// Admitted reports whether a node has rights by a grant that it got for a ticket. That need not be the one that View.Grant returns: of several that
// give the same, that is the first.
func (s *Set) Admitted(p protocol.PeerID, t TicketID, now Millis) bool {
	v := s.At(now)
	return slices.ContainsFunc(s.list, func(g Statement) bool {
		return g.Kind == KindGrant && g.Subject == p && g.Ticket == t &&
			!v.revoked[p].voids(&g) && !g.expired(now, s.drift) && (g.ByKey() || v.Rights(g.Issuer) == Admin)
	})
}

func (s *Set) revocations() map[protocol.PeerID]revoked {
	all := make(map[protocol.PeerID]revoked)
	for i := range s.list {
		st := &s.list[i]
		if st.Kind != KindRevocation {
			continue
		}
		r := all[st.Subject]
		if st.ByKey() {
			r.byKey = max(r.byKey, st.Epoch)
		} else {
			r.byAny = max(r.byAny, st.Epoch)
		}
		if r.last == nil || st.Epoch > r.last.Epoch || st.Epoch == r.last.Epoch && less(st, r.last) {
			r.last = st
		}
		all[st.Subject] = r
	}
	return all
}

// standing returns the grants that are neither void nor expired, and notes in v when the next of them expires.
func (s *Set) standing(v *View, now Millis) []*Statement {
	var grants []*Statement
	for i := range s.list {
		g := &s.list[i]
		if g.Kind != KindGrant || v.revoked[g.Subject].voids(g) {
			continue
		}
		if g.expired(now, s.drift) {
			continue
		}
		if g.Expires != 0 {
			v.until = min(v.until, g.Expires+s.drift)
		}
		grants = append(grants, g)
	}
	slices.SortFunc(grants, func(a, b *Statement) int { // so that all nodes choose the same one of several
		return cmp.Or(cmp.Compare(a.Issued, b.Issued), bytes.Compare(a.appendSigned(nil), b.appendSigned(nil)))
	})
	return grants
}

// admit makes g the grant of its subject if its issuer is an admin, and it gives more than what the subject has. That a node's grant is only
// replaced by one that gives more keeps chains free of circles: an admin had its rights before whoever it gave any.
func (v *View) admit(g *Statement) bool {
	if !g.ByKey() && v.Rights(g.Issuer) != Admin || v.Rights(g.Subject) >= g.Rights {
		return false
	}
	v.best[g.Subject] = g
	return true
}

// Rights returns what a node may do.
func (v *View) Rights(p protocol.PeerID) Rights {
	if g := v.best[p]; g != nil {
		return g.Rights
	}
	return None
}

// Grant returns the grant that gives a node its rights; nil if it has none.
func (v *View) Grant(p protocol.PeerID) *Statement { return v.best[p] }

// Revocation returns the last revocation of a node; nil if it was never revoked. A grant may have followed.
func (v *View) Revocation(p protocol.PeerID) *Statement { return v.revoked[p].last }

// Members returns the nodes that have any rights, in the order of their IDs.
func (v *View) Members() []protocol.PeerID { return sortedPeers(v.best) }

// Revoked returns the nodes that were revoked and have no rights since, in the order of their IDs.
func (v *View) Revoked() []protocol.PeerID {
	gone := maps.Clone(v.revoked)
	maps.DeleteFunc(gone, func(p protocol.PeerID, _ revoked) bool { return v.best[p] != nil })
	return sortedPeers(gone)
}

// Chain returns the grants from the space key down to a node: what somebody has to know to be convinced of its rights. It is empty if the
// node has none.
func (v *View) Chain(p protocol.PeerID) []Statement {
	var chain []Statement
	for g := v.best[p]; g != nil; g = v.best[g.Issuer] {
		chain = append(chain, *g)
		if g.ByKey() {
			break
		}
	}
	slices.Reverse(chain)
	return chain
}

// Until returns when the view ends to hold.
func (v *View) Until() Millis { return v.until }

func sortedPeers[V any](m map[protocol.PeerID]V) []protocol.PeerID {
	return slices.SortedFunc(maps.Keys(m), func(a, b protocol.PeerID) int { return bytes.Compare(a[:], b[:]) })
}
