package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
)

// Invitation says what a ticket is good for.
type Invitation struct {
	// Rights of who joins with it.
	Rights Rights
	// Within is how long the ticket can be used. Zero: 24 hours.
	Within time.Duration
	// Uses is how many nodes may join with it. Zero: one.
	Uses int
	// Lasting is how long the rights last that it leads to, counted from now. Zero: until they are revoked.
	Lasting time.Duration
	// Addrs is where this node can be reached. Nil: where it listens.
	Addrs []string
}

const defaultTicketTime = 24 * time.Hour

// TicketInfo describes a ticket that this node gave. It lets nobody join.
type TicketInfo struct {
	ID      string
	Rights  Rights
	Expires time.Time
	Lasting time.Time // when the rights end that it leads to; zero: they do not
	Uses    int
	Left    int
}

// maxTickets bounds the tickets of a space that are kept at a time.
const maxTickets = 1024

// ErrTicket says that a ticket is not sound, or not good any more; the text says what is wrong with it.
var ErrTicket = grant.ErrTicket

// Invite makes a ticket, a line of text with which another node joins the space (Join) through this one. This node keeps no copy of it. Whoever has the
// line may use it, so hand it over as you would a password.
func (s *Space) Invite(ctx context.Context, inv Invitation) (text string, info TicketInfo, err error) {
	t, kept, err := s.newTicket(inv)
	if err != nil {
		return "", info, err
	}
	if text, err = t.Text(s.r.cfg.Identity.Sign); err != nil {
		return "", info, err
	}
	if err := ctx.Err(); err != nil {
		return "", info, err
	}
	if err := s.keepTicket(kept); err != nil {
		return "", info, err
	}
	return text, ticketInfo(kept), nil
}

func (s *Space) newTicket(inv Invitation) (*grant.Ticket, docstore.Ticket, error) {
	var kept docstore.Ticket
	r := s.r
	addrs := inv.Addrs
	if addrs == nil {
		addrs = r.Addrs()
	}
	switch {
	case s.trust == nil:
		return nil, kept, fmt.Errorf("%w: %q has no key, so nobody can be invited: peers on the list of allowed ones share it; CreateSpace makes one that has", ErrSpace, s.name)
	case r.cfg.Identity == nil:
		return nil, kept, errNoIdentity
	case inv.Rights < ReadRights || inv.Rights > AdminRights:
		return nil, kept, fmt.Errorf("invite: %s: want read, write or admin", inv.Rights)
	case inv.Within < 0 || inv.Lasting < 0 || inv.Uses < 0 || inv.Uses > grant.MaxTicketUses:
		return nil, kept, fmt.Errorf("invite: times must not be negative, and uses at most %d", grant.MaxTicketUses)
	case len(addrs) == 0:
		return nil, kept, errors.New("invite: this node has no address at which it could be joined: let it listen, or name one")
	}
	if err := s.require(AdminRights); err != nil {
		return nil, kept, err
	}
	if inv.Within == 0 {
		inv.Within = defaultTicketTime
	}
	now := r.cfg.Now()
	t := &grant.Ticket{
		Space: s.trust.id, Name: s.name, Inviter: r.me(), Rights: inv.Rights, Expires: grant.At(now.Add(inv.Within)), Uses: uint16(max(inv.Uses, 1)),
		Addrs: slices.Clone(addrs[:min(len(addrs), grant.MaxTicketAddrs)]),
	}
	var secret [32]byte
	rand.Read(secret[:]) // never fails
	t.SetSecret(secret)
	kept = docstore.Ticket{Key: t.Key(), Rights: t.Rights, Made: grant.At(now), Expires: t.Expires, Uses: t.Uses, Left: t.Uses}
	if inv.Lasting > 0 {
		kept.Until = grant.At(now.Add(inv.Lasting))
	}
	return t, kept, nil
}

// keepTicket returns when what is kept of the ticket is durable: before that, it is not given out.
func (s *Space) keepTicket(kept docstore.Ticket) error {
	return s.changeTickets(func(t *trust) error {
		now := s.r.millis()
		for id, old := range t.tickets { // what nobody can use any more
			if old.Expires+week < now {
				delete(t.tickets, id)
				docstore.ForgetTicket(s.r.group.batch, s.number, id)
			}
		}
		if len(t.tickets) >= maxTickets {
			return fmt.Errorf("space %q has %d tickets out, the most there may be: withdraw some, or wait until they expire", s.name, maxTickets)
		}
		t.tickets[grant.TicketOf(kept.Key)] = kept
		docstore.PutTicket(s.r.group.batch, s.number, kept)
		return nil
	})
}

// week is how long a ticket that is of no use is remembered, so that who comes with it is told why.
const week = grant.Millis(7 * 24 * 3600 * 1000)

// changeTickets makes one change with the locks held, and returns when it is durable.
func (s *Space) changeTickets(change func(t *trust) error) error {
	r := s.r
	r.mu.Lock()
	err := r.waitForRoom()
	if err == nil {
		err = s.checkHere()
	}
	if err == nil {
		s.trust.mu.Lock()
		err = change(s.trust)
		s.trust.mu.Unlock()
	}
	g := r.group
	r.mu.Unlock()
	if err != nil {
		return err
	}
	r.poke()
	if err := g.wait(); err != nil {
		return fmt.Errorf("store the tickets of space %q: %w", s.name, err)
	}
	return nil
}

// Tickets returns the tickets that this node gave for the space and that can still be used, in the order in which they expire.
func (s *Space) Tickets() []TicketInfo {
	if s.trust == nil {
		return nil
	}
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	var all []TicketInfo
	for _, t := range s.trust.tickets {
		if t.Left > 0 && t.Expires > s.r.millis() {
			all = append(all, ticketInfo(t))
		}
	}
	slices.SortFunc(all, func(a, b TicketInfo) int { return a.Expires.Compare(b.Expires) })
	return all
}

func ticketInfo(t docstore.Ticket) TicketInfo {
	return TicketInfo{
		ID: grant.TicketOf(t.Key).String(), Rights: t.Rights, Expires: t.Expires.Time(), Lasting: t.Until.Time(), Uses: int(t.Uses), Left: int(t.Left),
	}
}

// Withdraw takes a ticket back that this node gave: nobody can join with it any more. Who did already stays (see Revoke).
func (s *Space) Withdraw(ticket string) error {
	if s.trust == nil {
		return fmt.Errorf("%w: %q has no key, and no tickets", ErrSpace, s.name)
	}
	return s.changeTickets(func(t *trust) error {
		for id := range t.tickets {
			if id.String() == ticket {
				delete(t.tickets, id)
				docstore.ForgetTicket(s.r.group.batch, s.number, id)
				return nil
			}
		}
		return fmt.Errorf("%w: this node gave no ticket %.40q for space %q", ErrNotFound, ticket, s.name)
	})
}
