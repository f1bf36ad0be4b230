package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// Trust is the part of a Node that says who may do what.
type Trust interface {
	// CreateSpace makes a space with a key.
	CreateSpace(ctx context.Context, name string) (Space, error)
	// Spaces lists the spaces by name.
	Spaces(ctx context.Context) ([]Space, error)
	// RemoveSpace removes the copy that is here.
	RemoveSpace(ctx context.Context, name string) error
	// Invite makes a ticket.
	Invite(ctx context.Context, space string, inv Invitation) (Ticket, error)
	// Tickets lists those that can still be used; their texts are known no more.
	Tickets(ctx context.Context, space string) ([]Ticket, error)
	// Withdraw takes a ticket back.
	Withdraw(ctx context.Context, space, ticket string) error
	// Join joins a space with a ticket; name may be empty.
	Join(ctx context.Context, ticket, name string) (Space, error)
	// RecoverSpace makes this node an admin of a space by the space's key, which is among its keys; see replica.RecoverSpace.
	RecoverSpace(ctx context.Context, q Recovery) (Space, error)
	// Permissions lists who has rights in a space, and who was revoked.
	Permissions(ctx context.Context, space string) ([]Permission, error)
	// Revoke takes a node's rights; peer may be the beginning of an ID.
	Revoke(ctx context.Context, space, peer string) (Permission, error)
}

// Space describes a space and what this node may do in it.
type Space struct {
	Name      string `json:"name"`
	ID        string `json:"id,omitempty"` // of a space with a key
	Rights    string `json:"rights"`
	Members   int    `json:"members,omitempty"` // with rights, this node included
	Documents int64  `json:"documents"`
}

// Invitation says what a ticket is to be good for.
type Invitation struct {
	Rights  string        `json:"rights"`
	Within  time.Duration `json:"within_ns,omitempty"`
	Uses    int           `json:"uses,omitempty"`
	Lasting time.Duration `json:"lasting_ns,omitempty"`
	Addrs   []string      `json:"addresses,omitempty"`
}

// Recovery says which space to recover.
type Recovery struct {
	ID   string   `json:"id"`
	Name string   `json:"name,omitempty"`
	From []Source `json:"from,omitempty"`
}

// Source is a node that has it.
type Source struct {
	Peer string `json:"peer"`
	Addr string `json:"address"`
}

// Ticket describes a ticket. With its text anybody can join.
type Ticket struct {
	Text    string     `json:"ticket,omitempty"` // only when it is made
	ID      string     `json:"id"`
	Space   string     `json:"space"`
	Rights  string     `json:"rights"`
	Expires time.Time  `json:"expires"`
	Lasting *time.Time `json:"rights_until,omitempty"`
	Uses    int        `json:"uses"`
	Left    int        `json:"left"`
	Addrs   []string   `json:"addresses,omitempty"` // only when it is made
}

// Permission is a node that has rights in a space, or had.
type Permission struct {
	Peer    string     `json:"peer"`
	Self    bool       `json:"self,omitempty"`
	Rights  string     `json:"rights"` // "none" for one that was revoked
	Since   time.Time  `json:"since"`
	Expires *time.Time `json:"expires,omitempty"`
	By      string     `json:"by,omitempty"` // who granted or revoked; "" is the space key
	Ticket  string     `json:"ticket,omitempty"`
}

var rights = map[string]replica.Rights{"read": replica.ReadRights, "write": replica.WriteRights, "admin": replica.AdminRights}

// CreateSpace implements Trust.
func (l *Local) CreateSpace(ctx context.Context, name string) (Space, error) {
	s, err := l.r.CreateSpace(ctx, name)
	if err != nil {
		return Space{}, err
	}
	return describeSpace(s), nil
}

func describeSpace(s *replica.Space) Space {
	out := Space{Name: s.Name(), Rights: "all", Documents: s.Summary().Documents}
	if id, ok := s.ID(); ok {
		out.ID, out.Rights = id.String(), s.Rights().String()
		for _, p := range s.Permissions() {
			if p.Rights != replica.NoRights {
				out.Members++
			}
		}
	}
	return out
}

// RecoverSpace implements Trust.
func (l *Local) RecoverSpace(ctx context.Context, q Recovery) (Space, error) {
	id, err := replica.ParseSpaceID(q.ID)
	if err != nil {
		return Space{}, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	from := make([]replica.Peer, len(q.From))
	for i, f := range q.From {
		from[i].Addr = f.Addr
		if from[i].ID, err = replica.ParsePeerID(f.Peer); err != nil {
			return Space{}, fmt.Errorf("%w: %w", ErrRequest, err)
		}
	}
	s, err := l.r.RecoverSpace(ctx, id, q.Name, from)
	if err != nil {
		return Space{}, err
	}
	return describeSpace(s), nil
}

// Spaces implements Trust.
func (l *Local) Spaces(context.Context) ([]Space, error) {
	all := []Space{}
	for _, name := range l.r.Spaces() {
		s, err := l.r.Space(name)
		if err != nil {
			return nil, err
		}
		all = append(all, describeSpace(s))
	}
	return all, nil
}

// RemoveSpace implements Trust.
func (l *Local) RemoveSpace(ctx context.Context, name string) error {
	s, err := l.existing(name)
	if err != nil {
		return err
	}
	return l.r.RemoveSpace(ctx, s.Name())
}

// Invite implements Trust. Addresses that only this machine reaches are left out if there are others.
func (l *Local) Invite(ctx context.Context, space string, inv Invitation) (Ticket, error) {
	s, err := l.existing(space)
	if err != nil {
		return Ticket{}, err
	}
	r, ok := rights[inv.Rights]
	if !ok {
		return Ticket{}, fmt.Errorf("%w: rights %.20q: want read, write or admin", ErrRequest, inv.Rights)
	}
	addrs := inv.Addrs
	if len(addrs) == 0 {
		addrs = append(l.r.SeenAt(), l.r.Addrs()...)
	}
	if len(addrs) == 0 {
		return Ticket{}, fmt.Errorf("%w: who joins must reach this node: run `anabranch serve`, or say with --addr where it will be", ErrOffline)
	}
	text, info, err := s.Invite(ctx, replica.Invitation{Rights: r, Within: inv.Within, Uses: inv.Uses, Lasting: inv.Lasting, Addrs: addrs})
	if err != nil {
		return Ticket{}, err
	}
	t := ticketOf(s, info)
	t.Text, t.Addrs = text, addrs
	return t, nil
}

func ticketOf(s *replica.Space, info replica.TicketInfo) Ticket {
	return Ticket{
		ID: info.ID, Space: s.Name(), Rights: info.Rights.String(), Expires: info.Expires, Lasting: timeOrNil(info.Lasting), Uses: info.Uses, Left: info.Left,
	}
}

// Tickets implements Trust.
func (l *Local) Tickets(_ context.Context, space string) ([]Ticket, error) {
	s, err := l.existing(space)
	if err != nil {
		return nil, err
	}
	all := []Ticket{}
	for _, info := range s.Tickets() {
		all = append(all, ticketOf(s, info))
	}
	return all, nil
}

// Withdraw implements Trust.
func (l *Local) Withdraw(_ context.Context, space, ticket string) error {
	s, err := l.existing(space)
	if err != nil {
		return err
	}
	return s.Withdraw(ticket)
}

// Join implements Trust.
func (l *Local) Join(ctx context.Context, ticket, name string) (Space, error) {
	s, err := l.r.Join(ctx, ticket, name)
	if err != nil {
		return Space{}, err
	}
	return describeSpace(s), nil
}

// Permissions implements Trust.
func (l *Local) Permissions(_ context.Context, space string) ([]Permission, error) {
	s, err := l.existing(space)
	if err != nil {
		return nil, err
	}
	if _, ok := s.ID(); !ok {
		return nil, fmt.Errorf("%w: %q has no key, and so no members: those that --allow lists share it; `anabranch space create` makes a space that has", ErrRequest, s.Name())
	}
	all := []Permission{}
	for _, p := range s.Permissions() {
		all = append(all, l.member(p))
	}
	slices.SortStableFunc(all, func(a, b Permission) int { // those that were revoked come last
		return cmp.Compare(-rights[a.Rights], -rights[b.Rights])
	})
	return all, nil
}

func (l *Local) member(p replica.Permission) Permission {
	m := Permission{
		Peer: p.Peer.String(), Rights: p.Rights.String(), Since: p.Issued, Expires: timeOrNil(p.Expires), Ticket: p.Ticket,
	}
	m.Self = m.Peer == l.peerID
	if !p.By.IsZero() {
		m.By = p.By.String()
	}
	return m
}

// Revoke implements Trust.
func (l *Local) Revoke(ctx context.Context, space, peer string) (Permission, error) {
	s, err := l.existing(space)
	if err != nil {
		return Permission{}, err
	}
	var found []replica.Permission
	for _, p := range s.Permissions() {
		if strings.HasPrefix(p.Peer.String(), strings.ToLower(peer)) && p.Rights != replica.NoRights {
			found = append(found, p)
		}
	}
	switch {
	case len(peer) < 4:
		return Permission{}, fmt.Errorf("%w: %q: want a peer ID, or at least its first 4 characters", ErrRequest, peer)
	case len(found) == 0:
		return Permission{}, fmt.Errorf("%w: no member of space %q has an ID that begins with %.60q", replica.ErrNotFound, s.Name(), peer)
	case len(found) > 1:
		return Permission{}, fmt.Errorf("%w: %d members of space %q have IDs that begin with %q: give more of it", ErrRequest, len(found), s.Name(), peer)
	}
	return l.member(found[0]), s.Revoke(ctx, found[0].Peer)
}
