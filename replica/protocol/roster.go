package protocol

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
)

// MaxMembers bounds the members of a space of which something is remembered. One more takes the place of the one that was not
// heard of for the longest time.
const MaxMembers = 4096

// Roster is what one node knows of the members of a space: which there are, what each of them holds durably, and when it was
// heard of. From it follows what is stable. It may be wrong or stale in any way without harm: it decides only who will
// need a snapshot.
//
// Of a member in session with this node its own word counts, also if that is less than before, as after restoring a backup. Of others the
// vectors that were ever heard of are joined.
type Roster struct {
	self    PeerID
	members map[PeerID]*known
	dirty   map[PeerID]struct{} // to be stored
	version uint64              // rises with every change but of Heard
}

type known struct {
	Member
	sessions int
}

// NewRoster returns the roster of a node, with what it had stored.
func NewRoster(self PeerID, stored []Member) *Roster {
	r := &Roster{self: self, members: make(map[PeerID]*known), dirty: make(map[PeerID]struct{})}
	for _, m := range stored {
		if m.Peer != self && len(r.members) < MaxMembers {
			r.members[m.Peer] = &known{Member: m}
		}
	}
	return r
}

// Version changes whenever there is something new to tell or to conclude.
func (r *Roster) Version() uint64 { return r.version }

// Len returns the number of members, this node not counted.
func (r *Roster) Len() int { return len(r.members) }

func (r *Roster) changed(p PeerID) {
	r.dirty[p] = struct{}{}
	r.version++
}

// member returns what is known of p, after making room for it.
func (r *Roster) member(p PeerID) *known {
	if k := r.members[p]; k != nil {
		return k
	}
	if len(r.members) >= MaxMembers {
		r.forgetOne()
	}
	k := &known{Member: Member{Peer: p}}
	r.members[p] = k
	r.changed(p)
	return k
}

func (r *Roster) forgetOne() {
	var oldest *known
	for _, k := range r.members {
		if k.sessions == 0 && (oldest == nil || k.Heard < oldest.Heard || k.Heard == oldest.Heard && bytes.Compare(k.Peer[:], oldest.Peer[:]) < 0) {
			oldest = k
		}
	}
	if oldest != nil {
		r.changed(oldest.Peer)
		delete(r.members, oldest.Peer)
	}
}

// Meet notes that a session with p is open.
func (r *Roster) Meet(p PeerID, now time.Time) {
	if p == r.self {
		return
	}
	k := r.member(p)
	k.sessions++
	k.Heard = max(k.Heard, now.UnixMilli())
	r.changed(p)
}

// Leave notes that a session with p has ended.
func (r *Roster) Leave(p PeerID, now time.Time) {
	k := r.members[p]
	if k == nil || k.sessions == 0 {
		return
	}
	k.sessions--
	k.Heard = max(k.Heard, now.UnixMilli())
	r.changed(p)
}

// Acknowledge sets what p holds durably, by its own word, and what of that it holds whole.
func (r *Roster) Acknowledge(p PeerID, vv, firm crdt.VersionVector) {
	if p == r.self {
		return
	}
	k := r.member(p)
	if k.VV.Equal(vv) && k.Firm.Equal(firm) {
		return
	}
	k.VV = vv.Clone()
	k.Firm = k.VV
	if !firm.Equal(vv) {
		k.Firm = firm.Clone()
	}
	r.changed(p)
}

// Learn joins what a peer told. Times in the future are those of a clock that is ahead, and count as now.
func (r *Roster) Learn(list []Member, now time.Time) {
	ms := now.UnixMilli()
	for _, m := range list {
		if m.Peer == r.self {
			continue
		}
		k := r.member(m.Peer)
		if heard := min(m.Heard, ms); heard > k.Heard {
			k.Heard = heard
			r.dirty[m.Peer] = struct{}{}
		}
		if evicted := min(m.Evicted, ms); evicted > k.Evicted {
			k.Evicted = evicted
			r.changed(m.Peer)
		}
		if k.sessions == 0 && !(m.VV.LessOrEqual(k.VV) && m.Firm.LessOrEqual(k.Firm)) {
			k.VV, k.Firm = joined(k.VV, m.VV), joined(k.Firm, m.Firm)
			r.changed(m.Peer)
		}
	}
}

func joined(a, b crdt.VersionVector) crdt.VersionVector {
	all := a.Clone()
	all.Join(b)
	return all
}

// Evict lets p count no longer, until it is heard of again.
func (r *Roster) Evict(p PeerID, now time.Time) error {
	k := r.members[p]
	switch {
	case k == nil:
		return fmt.Errorf("%s is no member that is known here", p)
	case k.sessions > 0:
		return fmt.Errorf("%s is connected, and would count again at once: disconnect it first, or revoke its rights", p)
	}
	k.Evicted = max(now.UnixMilli(), k.Heard+1)
	r.changed(p)
	return nil
}

// Counts reports whether stability waits for p: it is connected, or was heard of within maxOffline and not evicted since.
func (r *Roster) Counts(p PeerID, now time.Time, maxOffline time.Duration) bool {
	k := r.members[p]
	return k != nil && k.counts(now, maxOffline)
}

func (k *known) counts(now time.Time, maxOffline time.Duration) bool {
	if k.sessions > 0 {
		return true
	}
	return k.Heard > k.Evicted && now.UnixMilli()-k.Heard <= maxOffline.Milliseconds()
}

// Stable returns what this node, at firm, and all members that count hold durably and whole: the greatest vector that stable may rise to without
// costing any of them a snapshot.
func (r *Roster) Stable(firm crdt.VersionVector, now time.Time, maxOffline time.Duration) crdt.VersionVector {
	stable := firm
	for _, k := range r.members {
		if !k.counts(now, maxOffline) {
			continue
		}
		stable = stable.Meet(k.Firm)
	}
	return stable
}

// List returns all members, sorted by peer. Those in session with this node were heard of just now.
func (r *Roster) List(now time.Time) []Member {
	list := make([]Member, 0, len(r.members))
	for _, k := range r.members {
		m := k.Member
		if m.Direct = k.sessions > 0; m.Direct {
			m.Heard = max(m.Heard, now.UnixMilli())
		}
		list = append(list, m)
	}
	slices.SortFunc(list, func(a, b Member) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	return list
}

// Get returns what is known of p.
func (r *Roster) Get(p PeerID) (Member, bool) {
	k := r.members[p]
	if k == nil {
		return Member{}, false
	}
	m := k.Member
	m.Direct = k.sessions > 0
	return m, true
}

// Holding returns how many members are known to hold durably all that vv covers.
func (r *Roster) Holding(vv crdt.VersionVector) int {
	n := 0
	for _, k := range r.members {
		if vv.LessOrEqual(k.VV) {
			n++
		}
	}
	return n
}

// Refresh notes that the members in session with this node are still there. What moves by less than a step is not worth storing.
func (r *Roster) Refresh(now time.Time, step time.Duration) {
	ms := now.UnixMilli()
	for p, k := range r.members {
		if k.sessions > 0 && ms-k.Heard >= step.Milliseconds() {
			k.Heard = ms
			r.dirty[p] = struct{}{}
		}
	}
}

// TakeDirty calls store with each member of which something new is to be stored, and with false for one that is to be forgotten,
// until store has no room and returns false.
func (r *Roster) TakeDirty(store func(m Member, known bool) bool) {
	for _, p := range slices.SortedFunc(maps.Keys(r.dirty), func(a, b PeerID) int { return bytes.Compare(a[:], b[:]) }) {
		m := Member{Peer: p}
		k := r.members[p]
		if k != nil {
			m = k.Member
		}
		if !store(m, k != nil) {
			return
		}
		delete(r.dirty, p)
	}
}
