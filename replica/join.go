package replica

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/mesh"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// JoinError says why a node did not let this one into a space.
type JoinError struct {
	Code protocol.JoinCode
	Text string
}

func (e *JoinError) Error() string {
	why := "the node at the other end refused: " + e.Code.String()
	switch e.Code {
	case protocol.JoinUnknown:
		why = "the node that gave it does not know it: it was withdrawn, or given for a space that is gone there"
	case protocol.JoinUsed:
		why = "it was used already: ask for another one"
	case protocol.JoinExpired:
		why = "it has expired: ask for another one"
	case protocol.JoinProof:
		why = "it was altered: copy it again"
	case protocol.JoinNoAdmin:
		why = "the node that gave it may not let anybody in any more: ask another admin"
	case protocol.JoinRevoked:
		why = "this node's rights were revoked after it was given: ask for another one"
	case protocol.JoinBusy:
		why = "the node that gave it is busy: try again"
	case protocol.JoinFailed:
		why = "the node that gave it could not store it"
	}
	if e.Text != "" {
		why += " (" + e.Text + ")"
	}
	return "ticket: " + why
}

// Is makes the errors that lie in the ticket an ErrTicket.
func (e *JoinError) Is(target error) bool {
	return target == ErrTicket && e.Code != protocol.JoinBusy && e.Code != protocol.JoinFailed
}

// Join joins a space with a ticket, and calls it name here; if that is "", it is called as the inviter calls it. It returns when this node has its rights,
// durably; the documents follow, as with any peer. A node that has rights in the space already joins again to get greater ones.
func (r *Replica) Join(ctx context.Context, ticket, name string) (*Space, error) {
	t, err := grant.ParseTicket(ticket)
	if err != nil {
		return nil, err
	}
	if name == "" {
		name = t.Name
	}
	here := r.ownedSpace(t.Space)
	switch {
	case r.cfg.Transport == nil:
		return nil, errors.New("join: there is no network: set Config.Transport")
	case t.Inviter == r.me():
		return nil, fmt.Errorf("%w: this node gave it, and is in the space", ErrTicket)
	case r.millis() > t.Expires+grant.Millis(r.cfg.MaxDrift.Milliseconds()):
		return nil, fmt.Errorf("%w: it has expired, at %s: ask for another one", ErrTicket, t.Expires.Time())
	case here == nil && r.hasSpace(name):
		return nil, fmt.Errorf("%w: %q: give the new one another name", ErrSpaceExists, name)
	}
	if here == nil {
		if err := checkSpaceName(name); err != nil {
			return nil, err
		}
	}
	chain, home, err := r.askToJoin(ctx, t)
	if err != nil {
		return nil, err
	}
	if here == nil {
		return r.settle(name, t, chain, home)
	}
	if err := here.learn(chain); err != nil {
		return nil, fmt.Errorf("the grant that came for the ticket: %w", err)
	}
	r.AddPeer(Peer{ID: home.Peer, Addr: home.Addr})
	return here, nil
}

// settle keeps the space that was joined.
func (r *Replica) settle(name string, t *grant.Ticket, chain []grant.Statement, home docstore.Home) (*Space, error) {
	owner := docstore.Owner{ID: t.Space, Homes: []docstore.Home{home}}
	for _, a := range t.Addrs {
		if a != home.Addr && len(owner.Homes) < docstore.MaxHomes {
			owner.Homes = append(owner.Homes, docstore.Home{Peer: t.Inviter, Addr: a})
		}
	}
	s, err := r.addOwned(name, owner, chain)
	if err != nil {
		return nil, err
	}
	r.dialAll(owner.Homes)
	return s, nil
}

// askToJoin presents the ticket at its addresses, one after the other, and returns what gives this node its rights.
func (r *Replica) askToJoin(ctx context.Context, t *grant.Ticket) ([]grant.Statement, docstore.Home, error) {
	question := protocol.JoinRequest{Space: t.Space, Ticket: t.Key(), Proof: t.Prove(r.me())}
	var failed []error
	for _, addr := range t.Addrs {
		answer, err := r.ask(ctx, addr, t.Inviter, question)
		if err != nil {
			failed = append(failed, err)
			if ctx.Err() != nil {
				break
			}
			continue
		}
		if answer.Code != protocol.Joined {
			return nil, docstore.Home{}, &JoinError{answer.Code, answer.Text}
		}
		chain, err := r.checkChain(t, answer.Statements)
		return chain, docstore.Home{Peer: t.Inviter, Addr: addr}, err
	}
	return nil, docstore.Home{}, fmt.Errorf("the node that gave the ticket cannot be reached: %w", errors.Join(failed...))
}

func (r *Replica) ask(ctx context.Context, addr string, peer PeerID, q protocol.JoinRequest) (protocol.JoinAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return r.cfg.Transport.Join(ctx, addr, peer, q)
}

// checkChain makes sure that the statements give this node rights in the space of the ticket: who answered proved to be the inviter, but nobody has
// said so far that the inviter is an admin.
func (r *Replica) checkChain(t *grant.Ticket, b []byte) ([]grant.Statement, error) {
	chain, err := grant.ParseAll(b)
	if err != nil {
		return nil, fmt.Errorf("the answer to the ticket: %w", err)
	}
	set := grant.NewSet(t.Space, r.cfg.MaxDrift)
	_, err = set.AddAll(chain, r.millis())
	if set.At(r.millis()).Rights(r.me()) == NoRights {
		return nil, errors.Join(fmt.Errorf("%w: what came for it gives this node no rights", ErrTicket), err)
	}
	return set.Since(0), nil
}

// Requests of unknown nodes to join are answered up to this many at once and a second, each costs some signatures.
const joinsPerSecond = 20

// joinBudget bounds how many requests to join are looked at in a second.
type joinBudget struct {
	mu    sync.Mutex
	since time.Time
	taken int
}

func (b *joinBudget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since).Abs() >= time.Second {
		b.since, b.taken = now, 0
	}
	b.taken++
	return b.taken <= joinsPerSecond
}

// answerJoin is the Gate's.
func (r *Replica) answerJoin(ctx context.Context, peer PeerID, q protocol.JoinRequest) protocol.JoinAnswer {
	if !r.joins.take(r.cfg.Now()) {
		return protocol.JoinAnswer{Code: protocol.JoinBusy}
	}
	s := r.ownedSpace(q.Space)
	switch {
	case s == nil || ctx.Err() != nil || r.ctx.Err() != nil:
		return protocol.JoinAnswer{Code: protocol.JoinUnknown}
	case q.Ticket == [32]byte{}:
		return s.answerIntroduction(peer, q)
	}
	return s.answerTicket(peer, q)
}

// answerTicket gives a node its grant. Grant and use of the ticket are one commit, which is durable before the answer; a node whose answer was lost
// asks again and gets the same grant.
func (s *Space) answerTicket(peer PeerID, q protocol.JoinRequest) protocol.JoinAnswer {
	r := s.r
	r.mu.Lock()
	if r.waitForRoom() != nil || s.checkHere() != nil {
		r.mu.Unlock()
		return protocol.JoinAnswer{Code: protocol.JoinFailed}
	}
	code := s.admitByTicket(peer, q)
	g := r.group
	if g.isEmpty() {
		g = r.last // which has the grant, if it was given just now
	}
	r.mu.Unlock()
	if code != protocol.Joined {
		return protocol.JoinAnswer{Code: code}
	}
	s.trustChanged()
	r.poke()
	var err error
	if g != nil {
		err = g.wait()
	}
	if err != nil {
		r.log.Error("a grant could not be stored", "space", s.name, "peer", peer, "error", err)
		return protocol.JoinAnswer{Code: protocol.JoinFailed}
	}
	r.log.Info("a node has joined", "space", s.name, "peer", peer, "ticket", grant.TicketOf(q.Ticket))
	return protocol.JoinAnswer{Statements: grant.AppendAll(nil, s.permissions().Chain(peer))}
}

// admitByTicket is called with Replica.mu held.
func (s *Space) admitByTicket(peer PeerID, q protocol.JoinRequest) protocol.JoinCode {
	t := s.trust
	t.mu.Lock()
	defer t.mu.Unlock()
	now := s.r.millis()
	id := grant.TicketOf(q.Ticket)
	kept, known := t.tickets[id]
	switch {
	case !known || s.r.cfg.Identity == nil:
		return protocol.JoinUnknown
	case !grant.Proof(q.Proof).Proves(q.Ticket, t.id, peer, s.r.me()):
		return protocol.JoinProof
	}
	view := t.set.At(now)
	if t.set.Admitted(peer, id, now) {
		return protocol.Joined // the answer was lost
	}
	switch gone := view.Revocation(peer); {
	case gone != nil && gone.Issued >= kept.Made: // it does not come back with a ticket that it had before
		return protocol.JoinRevoked
	case now > kept.Expires:
		return protocol.JoinExpired
	case kept.Left == 0:
		return protocol.JoinUsed
	case view.Rights(s.r.me()) != AdminRights:
		return protocol.JoinNoAdmin
	}
	epoch, _, err := t.set.NextEpoch(peer)
	st := grant.Statement{
		Kind: grant.KindGrant, Space: t.id, Subject: peer, Rights: kept.Rights, Epoch: epoch, Issued: now, Expires: kept.Until, Ticket: id, Issuer: s.r.me(),
	}
	if kept.Until != 0 && kept.Until <= now {
		return protocol.JoinExpired
	}
	if err == nil {
		err = st.Sign(s.r.cfg.Identity.Sign)
	}
	if err == nil {
		_, err = t.set.Add(st, now)
	}
	if err != nil {
		s.r.log.Error("a node cannot be let in", "space", s.name, "peer", peer, "error", err)
		return protocol.JoinFailed
	}
	kept.Left--
	t.tickets[id] = kept
	docstore.PutTicket(s.r.group.batch, s.number, kept)
	docstore.PutStatement(s.r.group.batch, s.number, &st)
	return protocol.Joined
}

// answerIntroduction hears a node that was let in elsewhere. One that has rights is told what gives this node its own; one whose rights were
// revoked is told so; one that had none learns nothing, not even whether the space is here.
func (s *Space) answerIntroduction(peer PeerID, q protocol.JoinRequest) protocol.JoinAnswer {
	list, err := grant.ParseAll(q.Statements)
	if err != nil || len(list) > maxIntroduction {
		return protocol.JoinAnswer{Code: protocol.JoinUnknown}
	}
	_ = s.learn(list) // what counts is the outcome
	v := s.permissions()
	switch st := v.Revocation(peer); {
	case v.Rights(peer) >= ReadRights:
		return protocol.JoinAnswer{Statements: grant.AppendAll(nil, v.Chain(s.r.me()))}
	case st != nil:
		s.trust.mu.Lock()
		defer s.trust.mu.Unlock()
		evidence := s.trust.set.Evidence(st)
		return protocol.JoinAnswer{Code: protocol.JoinRevoked, Statements: grant.AppendAll(nil, evidence[max(0, len(evidence)-maxIntroduction):])}
	}
	return protocol.JoinAnswer{Code: protocol.JoinUnknown}
}

// introduce tells a node that does not know this one of the grants that it has in spaces of both, and reports whether that was news to it. It may
// be that the other knows better, and says so.
func (r *Replica) introduce(ctx context.Context, p Peer) bool {
	for _, s := range r.ownedSpaces() {
		v := s.permissions()
		chain := v.Chain(r.me())
		if v.Rights(p.ID) < ReadRights || len(chain) == 0 {
			continue
		}
		answer, err := r.ask(ctx, p.Addr, p.ID, protocol.JoinRequest{Space: s.trust.id, Statements: grant.AppendAll(nil, chain)})
		if err == nil && answer.Code == protocol.Joined {
			return true
		}
		if list, perr := grant.ParseAll(answer.Statements); err == nil && perr == nil && len(list) > 0 {
			if err := s.learn(list); err != nil {
				r.log.Warn("a node says that this one has no rights, and does not show why", "space", s.name, "peer", p.ID, "reason", err)
			}
		}
	}
	return false
}

// dialHomes dials the nodes through which spaces were joined, where they were then, and remembers their other addresses.
func (r *Replica) dialHomes() {
	for _, s := range r.ownedSpaces() {
		s.trust.mu.Lock()
		homes := s.trust.homes
		s.trust.mu.Unlock()
		r.dialAll(homes)
	}
}

func (r *Replica) dialAll(homes []docstore.Home) {
	dialled := make(map[PeerID]bool)
	for _, h := range homes {
		if h.Peer == r.me() {
			continue
		}
		r.Learn(h.Peer, mesh.FromTicket, h.Addr)
		if !dialled[h.Peer] {
			dialled[h.Peer] = true
			r.AddPeer(Peer{ID: h.Peer, Addr: h.Addr})
		}
	}
}

// isRefused reports whether a node closed a connection because it does not know this one.
func isRefused(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) && closed.Remote && closed.Code == CloseNotAllowed && !errors.Is(err, net.ErrClosed)
}
