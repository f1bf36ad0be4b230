package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// Stability says what is not pruned yet, and why.
type Stability struct {
	AgeMS   int64      `json:"age_ms"`  // how long ago the oldest change was written that not all members are known to have
	Waiting int64      `json:"waiting"` // log entries that are stable and not pruned yet
	HeldBy  []HeldBack `json:"held_by"`
	// OpenSince is when the oldest change was written of which a part may be missing here.
	OpenSince *time.Time `json:"open_since,omitempty"`
	Members   []Member   `json:"members"`
}

// HeldBack names a member that pruning waits for.
type HeldBack struct {
	Peer      string    `json:"peer"`
	Connected bool      `json:"connected"`
	Heard     time.Time `json:"heard"`
	Since     time.Time `json:"since"` // when the oldest change was written that it is not known to have
}

// Member is a node that keeps a replica of a space.
type Member struct {
	Peer      string     `json:"peer"`
	Connected bool       `json:"connected"` // with this node
	Heard     time.Time  `json:"heard"`     // when anybody was connected with it last
	Evicted   *time.Time `json:"evicted,omitempty"`
	Counts    bool       `json:"counts"` // pruning waits for it
}

func stabilityOf(s replica.Stability) Stability {
	out := Stability{AgeMS: s.Age.Milliseconds(), Waiting: s.Waiting, HeldBy: []HeldBack{}, OpenSince: timeOrNil(s.OpenSince), Members: []Member{}}
	for _, h := range s.HeldBack {
		out.HeldBy = append(out.HeldBy, HeldBack{Peer: h.Peer.String(), Connected: h.Connected, Heard: h.Heard.UTC(), Since: h.Since.UTC()})
	}
	for _, m := range s.Members {
		out.Members = append(out.Members, memberOf(m))
	}
	return out
}

func memberOf(m replica.MemberStatus) Member {
	return Member{Peer: m.Peer.String(), Connected: m.Connected, Heard: m.Heard.UTC(), Evicted: timeOrNil(m.Evicted), Counts: m.Counts}
}

// Evict lets a member no longer hold pruning back.
func (l *Local) Evict(_ context.Context, space, peer string) (Member, error) {
	s, err := l.existing(space)
	if err != nil {
		return Member{}, err
	}
	var found []replica.MemberStatus
	for _, m := range s.Members() {
		if peer != "" && strings.HasPrefix(m.Peer.String(), strings.ToLower(peer)) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 0:
		return Member{}, fmt.Errorf("%w: no other member of space %q is known by the ID %.60q: `anabranch status` lists them", ErrRequest, space, peer)
	case 1:
	default:
		return Member{}, fmt.Errorf("%w: %d members of space %q have an ID that begins with %q: give more of it", ErrRequest, len(found), space, peer)
	}
	id := found[0].Peer
	if err := s.Evict(id); err != nil {
		return Member{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	for _, m := range s.Members() {
		if m.Peer == id {
			return memberOf(m), nil
		}
	}
	return Member{}, nil
}
