package replica

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/anabranch-db/anabranch/replica/grant"
)

// Permission is what one node may do in a space, and by whom.
type Permission struct {
	Peer    PeerID
	Rights  Rights // NoRights for a node that was revoked
	Issued  time.Time
	Expires time.Time // zero: it does not
	// By is who granted or revoked it; the zero PeerID is the space key.
	By     PeerID
	Ticket string // by which the node joined; "" for none
}

// Permissions returns who may do what in the space, as far as this node knows, and after them those that were revoked; both in the order of their peer
// IDs. It is nil for a space without a key.
func (s *Space) Permissions() []Permission {
	if s.trust == nil {
		return nil
	}
	v := s.permissions()
	var all []Permission
	for _, p := range v.Members() {
		all = append(all, permission(v.Grant(p)))
	}
	for _, p := range v.Revoked() {
		all = append(all, permission(v.Revocation(p)))
	}
	return all
}

func permission(st *grant.Statement) Permission {
	p := Permission{Peer: st.Subject, Rights: st.Rights, Issued: st.Issued.Time(), Expires: st.Expires.Time()}
	if !st.ByKey() {
		p.By = st.Issuer
	}
	if !st.Ticket.IsZero() {
		p.Ticket = st.Ticket.String()
	}
	return p
}

// Revoke takes a node's rights. It holds here at once, and at every other node as soon as that hears of it: sessions in progress
// end. What the node has received stays with it. Those that it had let in stay, for this node signs their grants anew; with their own
// revocation each can be sent away as well. A node that was revoked can be invited again.
//
// What the space key granted (the rights of who made the space) takes the space key to revoke; if that is here, it is used.
func (s *Space) Revoke(ctx context.Context, peer PeerID) error {
	if s.trust == nil {
		return fmt.Errorf("%w: %q has no key: take the peer off the list of those that are allowed", ErrSpace, s.name)
	}
	if err := errors.Join(s.require(AdminRights), ctx.Err()); err != nil {
		return err
	}
	issuer, sign, err := s.revoker()
	if err != nil {
		return err
	}
	r := s.r
	r.mu.Lock()
	err = r.waitForRoom()
	var list []grant.Statement
	if err == nil {
		err = s.checkHere()
	}
	if err == nil {
		list, err = s.draftRevocation(peer, issuer, sign)
	}
	if err == nil {
		_, err = s.take(list)
	}
	g := r.group
	r.mu.Unlock()
	if err != nil {
		return err
	}
	s.trustChanged()
	r.poke()
	if err := g.wait(); err != nil {
		return fmt.Errorf("store a revocation in space %q: %w", s.name, err)
	}
	s.evictRevoked(peer)
	r.log.Info("revoked", "space", s.name, "peer", peer)
	return nil
}

// evictRevoked lets a node that was revoked no longer hold pruning back. While it is connected it cannot be evicted: this is called again
// when its session has ended.
func (s *Space) evictRevoked(peer PeerID) {
	if s.trust == nil {
		return
	}
	if v := s.permissions(); v.Rights(peer) == NoRights && v.Revocation(peer) != nil {
		if err := s.Evict(peer); err != nil {
			s.r.log.Debug("a node that was revoked is not evicted yet", "space", s.name, "peer", peer, "reason", err)
		}
	}
}

// revoker is the space key, if it is here, or else this node.
func (s *Space) revoker() (issuer PeerID, sign func([]byte) ([]byte, error), err error) {
	key, err := s.r.keys.Key(s.trust.id.String())
	switch {
	case err == nil:
		return PeerID(s.trust.id), keySigner(key), nil
	case !errors.Is(err, fs.ErrNotExist):
		return issuer, nil, fmt.Errorf("the key of space %q: %w", s.name, err)
	case s.r.cfg.Identity == nil:
		return issuer, nil, errNoIdentity
	}
	return s.r.me(), s.r.cfg.Identity.Sign, nil
}

// draftRevocation returns a revocation, and before it the grants of those that would lose their rights with the node but are to keep them.
func (s *Space) draftRevocation(peer, issuer PeerID, sign func([]byte) ([]byte, error)) ([]grant.Statement, error) {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	set, now := s.trust.set, s.r.millis()
	before := set.At(now)
	held := before.Grant(peer)
	switch {
	case held == nil:
		return nil, fmt.Errorf("%w: %s has no rights in space %q", ErrNotFound, peer, s.name)
	case held.ByKey() && issuer != PeerID(s.trust.id):
		return nil, fmt.Errorf("%w: %s has its rights from the key of space %q, and only a node that holds the key can revoke them", ErrPermission, peer, s.name)
	}
	_, epoch, _ := set.NextEpoch(peer) // that it cannot be invited again is no hindrance
	revocation := grant.Statement{Kind: grant.KindRevocation, Space: s.trust.id, Subject: peer, Epoch: epoch, Issued: now, Issuer: issuer}
	if err := revocation.Sign(sign); err != nil {
		return nil, err
	}
	list, err := s.adopt(peer, issuer, sign, revocation)
	return append(list, revocation), err
}

// adopt returns new grants for those whose rights rest on a node that is being revoked. They are signed by this node, or with the key if this node's own
// rights rest on the other's too.
func (s *Space) adopt(peer, issuer PeerID, sign func([]byte) ([]byte, error), revocation grant.Statement) ([]grant.Statement, error) {
	set, now := s.trust.set, s.r.millis()
	before, with := set.At(now), set.Clone()
	if _, err := with.Add(revocation, now); err != nil {
		return nil, err
	}
	after := with.At(now)
	if me := s.r.me(); after.Rights(me) == AdminRights && s.r.cfg.Identity != nil {
		issuer, sign = me, s.r.cfg.Identity.Sign
	} else if issuer == me {
		return nil, fmt.Errorf("%w: this node has its own rights from %s: let another admin revoke that one", ErrPermission, peer)
	}
	var list []grant.Statement
	for _, p := range before.Members() {
		again := *before.Grant(p)
		if p == peer || after.Rights(p) == before.Rights(p) || again.Expires != 0 && again.Expires <= now {
			continue
		}
		again.Issuer, again.Issued = issuer, now
		if err := again.Sign(sign); err != nil {
			return nil, err
		}
		list = append(list, again)
	}
	return list, nil
}
