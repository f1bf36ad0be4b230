package docstore

import (
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

func ackedKey(space uint32, p protocol.PeerID) []byte {
	return append(spaceKey(kindAcked, space, len(p)), p[:]...)
}

// PutAcked stores what a peer acknowledged. A vector that is too large for a value is not stored: it only informs, and a
// peer can make up as many replicas as it likes.
func PutAcked(b *store.Batch, space uint32, p protocol.PeerID, vv crdt.VersionVector) {
	key := ackedKey(space, p)
	if v := codec.AppendVector(make([]byte, 4), vv); len(v) <= store.MaxValueBytes {
		b.Put(key, seal(key, v))
	}
}

// ForgetAcked forgets what a peer acknowledged.
func ForgetAcked(b *store.Batch, space uint32, p protocol.PeerID) { b.Delete(ackedKey(space, p)) }

// Acked returns what each peer acknowledged, as it was stored last.
func Acked(r store.Snapshot, space uint32) (map[protocol.PeerID]crdt.VersionVector, error) {
	acked := make(map[protocol.PeerID]crdt.VersionVector)
	prefix := spaceKey(kindAcked, space, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read the acknowledged vectors: %w", err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		vv, rest, err := codec.ParseVector(b)
		if err != nil || len(rest) > 0 || len(e.Key) != 5+32 {
			return nil, fmt.Errorf("%w: acknowledged vector %q: %w", ErrCorrupt, e.Key, err)
		}
		acked[protocol.PeerID(e.Key[5:])] = vv
	}
	return acked, nil
}
