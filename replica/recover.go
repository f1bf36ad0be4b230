package replica

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// RecoverSpace makes this node an admin of a space by the space's key, which Config.SpaceKeys has under the space's ID: for when the node that
// made the space is lost, and its key was kept. The grant is signed by the key and is as good as the first one was.
//
// If the space is here, name and from are not needed; the other members hear of the grant as of any. If it is not, it is called name here, and
// comes from the first of these nodes that can be reached and has rights in it; the error says why the others were no good. ErrNotFound
// says that the key is not there.
func (r *Replica) RecoverSpace(ctx context.Context, id SpaceID, name string, from []Peer) (*Space, error) {
	if r.me().IsZero() {
		return nil, errNoIdentity
	}
	key, err := r.keys.Key(id.String())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: the key of %s is not here", ErrNotFound, id)
	case err != nil:
		return nil, fmt.Errorf("the key of %s: %w", id, err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	if here := r.ownedSpace(id); here != nil {
		return here, here.grantByKey(key)
	}
	switch {
	case r.hasSpace(name):
		return nil, fmt.Errorf("%w: %q: give the other one another name", ErrSpaceExists, name)
	case r.cfg.Transport == nil:
		return nil, errors.New("recover: there is no network: set Config.Transport")
	case name == "":
		return nil, fmt.Errorf("%w: %s is not here: say what to call it", ErrSpace, id)
	case len(from) == 0:
		return nil, fmt.Errorf("%w: %s is not here: name a node that has it", ErrNotFound, id)
	}
	if err := checkSpaceName(name); err != nil {
		return nil, err
	}
	var failed []error
	for _, p := range from {
		set, err := r.presentKey(ctx, id, key, p)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		home := docstore.Home{Peer: p.ID, Addr: p.Addr}
		s, err := r.addOwned(name, docstore.Owner{ID: id, Homes: []docstore.Home{home}}, set.Since(0))
		if err != nil {
			return nil, err
		}
		r.dialAll([]docstore.Home{home})
		return s, nil
	}
	return nil, fmt.Errorf("no node that was named can be asked for the space: %w", errors.Join(failed...))
}

// grantByKey makes this node an admin, if it is none by the key yet.
func (s *Space) grantByKey(key ed25519.PrivateKey) error {
	s.trust.mu.Lock()
	if held := s.trust.set.At(s.r.millis()).Grant(s.r.me()); held != nil && held.ByKey() && held.Rights == AdminRights {
		s.trust.mu.Unlock()
		return nil
	}
	st, err := s.r.adminByKey(s.trust.set, key)
	s.trust.mu.Unlock()
	if err != nil {
		return err
	}
	if err := s.learn([]grant.Statement{st}); err != nil {
		return fmt.Errorf("make this node an admin: %w", err)
	}
	s.r.log.Info("this node is an admin by the key of the space", "space", s.name)
	return nil
}

// adminByKey returns a grant that counts in a set.
func (r *Replica) adminByKey(set *grant.Set, key ed25519.PrivateKey) (grant.Statement, error) {
	epoch, _, err := set.NextEpoch(r.me())
	st := grant.Statement{
		Kind: grant.KindGrant, Space: set.Space(), Subject: r.me(), Rights: AdminRights, Epoch: epoch, Issued: r.millis(), Issuer: PeerID(set.Space()),
	}
	if err == nil {
		err = st.Sign(keySigner(key))
	}
	return st, err
}

// presentKey introduces this node to one that keeps the space, and returns what both then know of each other. If this node was revoked,
// the other says so, and is told of a grant that counts all the same.
func (r *Replica) presentKey(ctx context.Context, id SpaceID, key ed25519.PrivateKey, p Peer) (*grant.Set, error) {
	set := grant.NewSet(id, r.cfg.MaxDrift)
	for range 2 {
		st, err := r.adminByKey(set, key)
		if err != nil {
			return nil, err
		}
		if _, err := set.Add(st, r.millis()); err != nil {
			return nil, err
		}
		answer, err := r.ask(ctx, p.Addr, p.ID, protocol.JoinRequest{Space: id, Statements: grant.AppendAll(nil, []grant.Statement{st})})
		if err != nil {
			return nil, err
		}
		list, err := grant.ParseAll(answer.Statements)
		if err == nil {
			_, err = set.AddAll(list, r.millis())
		}
		view := set.At(r.millis())
		switch {
		case err != nil:
			return nil, fmt.Errorf("the answer of %s: %w", p.ID, err)
		case answer.Code == protocol.JoinRevoked && view.Rights(r.me()) == NoRights:
			continue // with a grant that comes after the revocation
		case answer.Code != protocol.Joined:
			return nil, fmt.Errorf("%s does not keep %s, or takes no grant of it (%s)", p.ID, id, answer.Code)
		case view.Rights(p.ID) < ReadRights:
			return nil, fmt.Errorf("%s does not show that it has rights in %s", p.ID, id)
		}
		return set, nil
	}
	return nil, fmt.Errorf("%s does not take a grant of %s that was made for it", p.ID, id)
}
