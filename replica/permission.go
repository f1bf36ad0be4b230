package replica

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

// SpaceID names a space that has a key of its own: it is the public half. Such a space is exchanged with nodes that have rights in it,
// whatever they call it, and with no others.
type SpaceID = grant.SpaceID

// ParseSpaceID reads the form that SpaceID.String returns.
func ParseSpaceID(s string) (SpaceID, error) { return grant.ParseSpaceID(s) }

// Rights says what a node may do in a space that has a key.
type Rights = grant.Rights

// The rights, each with those before it.
const (
	NoRights    = grant.None
	ReadRights  = grant.Read
	WriteRights = grant.Write
	AdminRights = grant.Admin
)

// ErrPermission says that this node may not do something in a space. The error is a *PermissionError.
var ErrPermission = errors.New("permission denied")

// PermissionError says what this node may do in a space, and what it would have to. errors.Is finds ErrPermission in it.
type PermissionError struct {
	Space string
	Have  Rights
	Need  Rights
	Why   string // for NoRights: what ended them
}

func (e *PermissionError) Error() string {
	switch {
	case e.Have == NoRights && e.Why != "":
		return fmt.Sprintf("%v: this node has no rights in space %q any more: %s; ask an admin of it for a ticket", ErrPermission, e.Space, e.Why)
	case e.Have == NoRights:
		return fmt.Sprintf("%v: this node has no rights in space %q: ask an admin of it for a ticket", ErrPermission, e.Space)
	}
	return fmt.Sprintf("%v: this node has the right to %s in space %q, and this takes %s: ask an admin of it for another ticket", ErrPermission, e.Have, e.Space, e.Need)
}

// Is makes the error an ErrPermission.
func (e *PermissionError) Is(target error) bool { return target == ErrPermission }

// Identity is a node's key at work. quicnet.Identity is one.
type Identity interface {
	PeerID() PeerID
	// Sign returns the Ed25519 signature of a message.
	Sign(message []byte) ([]byte, error)
}

// SpaceKeys keeps the private keys of the spaces that were made here. keyfile.Dir does it in files.
type SpaceKeys interface {
	// Keep stores a key durably, and never replaces one.
	Keep(name string, key ed25519.PrivateKey) error
	// Key returns a key; the error is fs.ErrNotExist if there is none of that name.
	Key(name string) (ed25519.PrivateKey, error)
	// Forget deletes a key; there need not be one.
	Forget(name string) error
}

// KeysDir is the name of the directory, in a store directory, in which the keys of spaces are kept by default.
const KeysDir = "keys"

func (c Config) spaceKeys() SpaceKeys {
	switch {
	case c.SpaceKeys != nil:
		return c.SpaceKeys
	case c.Dir != "":
		return keyfile.Dir{Path: filepath.Join(c.Dir, KeysDir)}
	}
	return &memoryKeys{keys: make(map[string]ed25519.PrivateKey)}
}

// memoryKeys are the keys of spaces of a store in memory.
type memoryKeys struct {
	mu   sync.Mutex
	keys map[string]ed25519.PrivateKey
}

func (m *memoryKeys) Keep(name string, key ed25519.PrivateKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[name] = key
	return nil
}

func (m *memoryKeys) Key(name string) (ed25519.PrivateKey, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if key, ok := m.keys[name]; ok {
		return key, nil
	}
	return nil, fs.ErrNotExist
}

func (m *memoryKeys) Forget(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, name)
	return nil
}
