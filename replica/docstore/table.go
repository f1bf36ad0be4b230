package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Keys that belong to the store as a whole.
const (
	kindSpaceName = 's' // name → number of the space
	kindIdentity  = 'r' // the present ReplicaID and feed, and the anchor for which they hold
)

// PutSpace stores the number of a space.
func PutSpace(b *store.Batch, name string, number uint32) {
	key := append([]byte{kindSpaceName}, name...)
	b.Put(key, seal(key, binary.BigEndian.AppendUint32(make([]byte, 4, 8), number)))
}

// Spaces returns the number of each space of a store.
func Spaces(r store.Snapshot) (map[string]uint32, error) {
	spaces := make(map[string]uint32)
	prefix := []byte{kindSpaceName}
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read the table of spaces: %w", err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		if len(b) != 4 {
			return nil, fmt.Errorf("%w: number of space %q has %d bytes", ErrCorrupt, e.Key[1:], len(b))
		}
		spaces[string(e.Key[1:])] = binary.BigEndian.Uint32(b)
	}
	return spaces, nil
}

// Identity is what holds for one undisturbed life of a store, named by its anchor: the ReplicaID under which it
// writes, and the name of its feeds, whose arrival numbers never go back within such a life.
type Identity struct {
	Replica crdt.ReplicaID // zero if none was drawn yet
	Feed    uint64
	Anchor  string
}

// PutIdentity stores the present identity.
func PutIdentity(b *store.Batch, id Identity) {
	key := []byte{kindIdentity}
	v := binary.BigEndian.AppendUint64(make([]byte, 4), uint64(id.Replica))
	v = binary.BigEndian.AppendUint64(v, id.Feed)
	b.Put(key, seal(key, append(v, id.Anchor...)))
}

// LoadIdentity returns the identity that was stored last, the zero Identity if there is none.
func LoadIdentity(r store.Snapshot) (Identity, error) {
	key := []byte{kindIdentity}
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return Identity{}, err
	}
	b, err := unseal(key, value)
	if err != nil {
		return Identity{}, err
	}
	if len(b) < 16 {
		return Identity{}, fmt.Errorf("%w: identity has %d bytes", ErrCorrupt, len(b))
	}
	return Identity{
		Replica: crdt.ReplicaID(binary.BigEndian.Uint64(b)),
		Feed:    binary.BigEndian.Uint64(b[8:]),
		Anchor:  string(b[16:]),
	}, nil
}

// Life is a former name of a space's feed, and the last arrival under it. Up to there the feed is the same
// as the present one; beyond, it may have been lost (a restored backup) or be another's (a copied store).
type Life struct {
	Feed    uint64
	Arrival uint64
}

// maxLives bounds the former lives that are remembered. A cursor from before is refused, and its owner reads from
// the beginning.
const maxLives = 64

// PutLives stores the former lives of a space's feed, the newest maxLives of them.
func PutLives(b *store.Batch, space uint32, lives []Life) {
	lives = lives[max(0, len(lives)-maxLives):]
	key := spaceKey(kindLives, space, 0)
	v := make([]byte, 4, 4+16*len(lives))
	for _, l := range lives {
		v = binary.BigEndian.AppendUint64(v, l.Feed)
		v = binary.BigEndian.AppendUint64(v, l.Arrival)
	}
	b.Put(key, seal(key, v))
}

// Lives returns the former lives of a space's feed, oldest first.
func Lives(r store.Snapshot, space uint32) ([]Life, error) {
	key := spaceKey(kindLives, space, 0)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return nil, err
	}
	b, err := unseal(key, value)
	if err != nil {
		return nil, err
	}
	if len(b)%16 != 0 || len(b) > 16*maxLives {
		return nil, fmt.Errorf("%w: lives of space %d have %d bytes", ErrCorrupt, space, len(b))
	}
	var lives []Life
	for ; len(b) > 0; b = b[16:] {
		lives = append(lives, Life{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])})
	}
	return lives, nil
}
