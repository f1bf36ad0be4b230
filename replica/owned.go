package replica

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
)

// ErrSpaceExists says that a space is here already.
var ErrSpaceExists = errors.New("there is a space of that name")

var errNoIdentity = errors.New("the node has no identity: set Config.Identity, or a Transport")

func checkSpaceName(name string) error {
	if name == "" || len(name) > MaxSpaceNameBytes || !utf8.ValidString(name) {
		return fmt.Errorf("%w: %.40q: want 1 to %d bytes of UTF-8", ErrSpace, name, MaxSpaceNameBytes)
	}
	if _, err := grant.ParseSpaceID(name); err == nil {
		return fmt.Errorf("%w: %q is the ID of a space that is not here: join it with a ticket", ErrSpace, name)
	}
	return nil
}

// CreateSpace makes a space with a key of its own, in which this node is the first admin. Others come in by tickets (Invite). The name is
// this node's own: others may call the space something else.
//
// The private key goes to Config.SpaceKeys, under the ID of the space; it is used only to make this node an admin, and to revoke. Keep a
// copy of it: it is the last word on who may do what.
func (r *Replica) CreateSpace(ctx context.Context, name string) (*Space, error) {
	if err := errors.Join(checkSpaceName(name), ctx.Err()); err != nil {
		return nil, err
	}
	if r.me().IsZero() {
		return nil, errNoIdentity
	}
	if r.hasSpace(name) {
		return nil, fmt.Errorf("%w: %q", ErrSpaceExists, name)
	}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	id := SpaceID(public)
	first := grant.Statement{
		Kind: grant.KindGrant, Space: id, Subject: r.me(), Rights: AdminRights, Epoch: 1, Issued: r.millis(), Issuer: PeerID(id),
	}
	if err := first.Sign(keySigner(key)); err != nil {
		return nil, err
	}
	if err := r.keys.Keep(id.String(), key); err != nil {
		return nil, fmt.Errorf("keep the key of space %q: %w", name, err)
	}
	s, err := r.addOwned(name, docstore.Owner{ID: id}, []grant.Statement{first})
	if err != nil {
		return nil, errors.Join(err, r.keys.Forget(id.String()))
	}
	return s, nil
}

func keySigner(key ed25519.PrivateKey) func([]byte) ([]byte, error) {
	return func(m []byte) ([]byte, error) { return ed25519.Sign(key, m), nil }
}

func (r *Replica) hasSpace(name string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.spaces[name] != nil
}

// addOwned puts a space with a key into the store, and returns when it is durable.
func (r *Replica) addOwned(name string, owner docstore.Owner, list []grant.Statement) (*Space, error) {
	r.mu.Lock()
	s, g, err := r.addOwnedLocked(name, owner, list)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r.poke()
	if err := g.wait(); err != nil {
		return nil, fmt.Errorf("make space %q: %w", name, err)
	}
	r.offerSpace(s)
	return s, nil
}

func (r *Replica) addOwnedLocked(name string, owner docstore.Owner, list []grant.Statement) (*Space, *group, error) {
	if err := r.waitForRoom(); err != nil {
		return nil, nil, err
	}
	switch {
	case r.spaces[name] != nil:
		return nil, nil, fmt.Errorf("%w: %q", ErrSpaceExists, name)
	case len(r.spaces) == MaxSpaces:
		return nil, nil, &crdt.LimitError{What: "store", Size: MaxSpaces + 1, Limit: MaxSpaces, Unit: "spaces"}
	}
	t := r.newTrust(owner.ID)
	t.homes = owner.Homes
	if _, err := t.set.AddAll(list, r.millis()); err != nil {
		return nil, nil, err
	}
	s, g, err := r.makeSpace(name)
	if err != nil {
		return nil, nil, err
	}
	s.trust = t
	r.owned[owner.ID] = s
	docstore.PutOwner(g.batch, s.number, owner)
	for i := range list {
		docstore.PutStatement(g.batch, s.number, &list[i])
	}
	return s, g, nil
}

// ownedSpace returns a space by its ID, nil if it is not kept here.
func (r *Replica) ownedSpace(id SpaceID) *Space {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owned[id]
}

// ownedSpaces returns the spaces that have keys.
func (r *Replica) ownedSpaces() []*Space {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Space, 0, len(r.owned))
	for _, s := range r.owned {
		all = append(all, s)
	}
	return all
}
