package docstore

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Keys that say which writes of this store's own others may have.
const (
	kindOwn      = 'o' // space, replica → Own, but for Handed
	kindHanded   = 'h' // space, replica, peer → the time in Own.Handed
	kindReissued = 'n' // space, replica, time → Renaming
)

// Own is what a store remembers of a ReplicaID that it wrote under, for as long as it may have writes that nobody else has.
type Own struct {
	// Life names the life of the store in which it wrote. In a later one, which may have begun with an old backup, it is not
	// known whom those writes were handed to.
	Life uint64
	// Root is the first ID of those whose writes were re-issued under the next, down to this one.
	Root crdt.ReplicaID
	// Next is the ID under which its held writes are being re-issued, zero if they are not.
	Next crdt.ReplicaID
	// Pruned: what is being re-issued was stable.
	Pruned bool
	// Handed is, for each peer, a time up to which it may have been told of. It is noted before anything is sent.
	Handed map[protocol.PeerID]hlc.Time
}

// Owned are the IDs that a store wrote under. A table is never changed once it was handed out.
type Owned map[crdt.ReplicaID]Own

// MayTellAll reports whether everything that vv covers may be told to a peer: it is noted that it is, and nothing is being
// re-issued.
func (o Owned) MayTellAll(p protocol.PeerID, vv crdt.VersionVector) bool {
	for r, own := range o {
		if own.Next != 0 || own.Handed[p] < vv.Get(r) {
			return false
		}
	}
	return true
}

// IsReissuing reports whether writes of any ID are being re-issued.
func (o Owned) IsReissuing() bool {
	for _, own := range o {
		if own.Next != 0 {
			return true
		}
	}
	return false
}

// MayTell says up to where a peer may be told of each ID: of none that is being re-issued, or re-issues another.
func (o Owned) MayTell(p protocol.PeerID) map[crdt.ReplicaID]hlc.Time {
	may := make(map[crdt.ReplicaID]hlc.Time, len(o))
	for r, own := range o {
		may[r] = own.Handed[p]
	}
	for r, own := range o {
		if own.Next != 0 {
			may[r], may[own.Next] = 0, 0
		}
	}
	return may
}

// Owned returns the IDs that this space was written under here, as far as it may hold writes that nobody else has.
func (s *Space) Owned() Owned { return s.owned }

// OwnedVersion changes whenever Owned does.
func (s *Space) OwnedVersion() uint64 { return s.ownedVersion }

func (s *Space) putOwn(b *store.Batch, r crdt.ReplicaID, own Own) {
	key := ownKey(kindOwn, s.number, r)
	v := make([]byte, 4, 29)
	for _, n := range []uint64{own.Life, uint64(own.Root), uint64(own.Next)} {
		v = binary.BigEndian.AppendUint64(v, n)
	}
	pruned := byte(0)
	if own.Pruned {
		pruned = 1
	}
	v = append(v, pruned)
	b.Put(key, seal(key, v))
	s.setOwn(r, own)
}

func (s *Space) setOwn(r crdt.ReplicaID, own Own) {
	s.owned = maps.Clone(s.owned)
	if s.owned == nil {
		s.owned = make(Owned)
	}
	s.owned[r] = own
	s.ownedVersion++
}

// Claim notes, with the first transaction of a ReplicaID in this space, that it is of this store.
func (s *Space) Claim(b *store.Batch, r crdt.ReplicaID, life uint64) {
	if _, ok := s.owned[r]; !ok {
		s.putOwn(b, r, Own{Life: life, Root: r})
	}
}

// Doubt notes that the store may have gone back in time: it is not known any more to whom its writes were handed.
func (s *Space) Doubt(b *store.Batch) {
	for _, r := range slices.Sorted(maps.Keys(s.owned)) {
		own := s.owned[r]
		own.Life = 0
		s.putOwn(b, r, own)
	}
}

// Hand notes, for each ReplicaID, that a peer may be told of its writes up to the time that upTo returns. It is to be
// durable before they are sent.
func (s *Space) Hand(b *store.Batch, p protocol.PeerID, upTo func(crdt.ReplicaID) hlc.Time) {
	for _, r := range slices.Sorted(maps.Keys(s.owned)) {
		own, t := s.owned[r], upTo(r)
		if t <= own.Handed[p] {
			continue
		}
		key := handedKey(s.number, r, p)
		b.Put(key, seal(key, binary.BigEndian.AppendUint64(make([]byte, 4, 12), uint64(t))))
		own.Handed = maps.Clone(own.Handed)
		if own.Handed == nil {
			own.Handed = make(map[protocol.PeerID]hlc.Time)
		}
		own.Handed[p] = t
		s.setOwn(r, own)
	}
}

// Disown forgets an ID all of whose writes somebody else has.
func (s *Space) Disown(b *store.Batch, r crdt.ReplicaID) {
	own, ok := s.owned[r]
	if !ok {
		return
	}
	b.Delete(ownKey(kindOwn, s.number, r))
	for p := range own.Handed {
		b.Delete(handedKey(s.number, r, p))
	}
	s.owned = maps.Clone(s.owned)
	delete(s.owned, r)
	s.ownedVersion++
}

func ownKey(kind byte, space uint32, r crdt.ReplicaID) []byte {
	return binary.BigEndian.AppendUint64(spaceKey(kind, space, 8), uint64(r))
}

func handedKey(space uint32, r crdt.ReplicaID, p protocol.PeerID) []byte {
	return append(ownKey(kindHanded, space, r), p[:]...)
}

// loadOwned reads what putOwn and Hand wrote.
func (s *Space) loadOwned(r store.Snapshot) error {
	err := s.scanSealed(r, kindOwn, 5+8, 25, func(key, v []byte) {
		s.setOwn(crdt.ReplicaID(binary.BigEndian.Uint64(key[5:])), Own{
			Life: binary.BigEndian.Uint64(v),
			Root: crdt.ReplicaID(binary.BigEndian.Uint64(v[8:])),
			Next: crdt.ReplicaID(binary.BigEndian.Uint64(v[16:])), Pruned: v[24] != 0,
		})
	})
	if err != nil {
		return err
	}
	return s.scanSealed(r, kindHanded, 5+8+32, 8, func(key, v []byte) {
		own, ok := s.owned[crdt.ReplicaID(binary.BigEndian.Uint64(key[5:]))]
		if !ok {
			return
		}
		if own.Handed == nil {
			own.Handed = make(map[protocol.PeerID]hlc.Time)
			s.owned[crdt.ReplicaID(binary.BigEndian.Uint64(key[5:]))] = own
		}
		own.Handed[protocol.PeerID(key[13:])] = hlc.Time(binary.BigEndian.Uint64(v))
	})
}

// scanSealed yields all entries of one kind, whose keys and values are of the given sizes.
func (s *Space) scanSealed(r store.Snapshot, kind byte, keyBytes, valueBytes int, each func(key, value []byte)) error {
	prefix := spaceKey(kind, s.number, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("read what is noted of own writes in space %d: %w", s.number, err)
		}
		v, err := unseal(e.Key, e.Value)
		if err != nil {
			return err
		}
		if len(e.Key) != keyBytes || len(v) != valueBytes {
			return fmt.Errorf("%w: note of own writes %q has %d bytes", ErrCorrupt, e.Key, len(v))
		}
		each(e.Key, v)
	}
	return nil
}
