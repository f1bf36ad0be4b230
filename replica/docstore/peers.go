package docstore

import (
	"fmt"

	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// kindPeer belongs to the store as a whole.
const kindPeer = 'p' // peer → where it can be reached, a record of package mesh

func peerKey(p protocol.PeerID) []byte { return append([]byte{kindPeer}, p[:]...) }

// PutPeer stores where a peer can be reached.
func PutPeer(b *store.Batch, p protocol.PeerID, record []byte) {
	key := peerKey(p)
	b.Put(key, seal(key, append(make([]byte, 4), record...)))
}

// ForgetPeer removes what PutPeer stored.
func ForgetPeer(b *store.Batch, p protocol.PeerID) { b.Delete(peerKey(p)) }

// Peers returns the record of each peer.
func Peers(r store.Snapshot) (map[protocol.PeerID][]byte, error) {
	peers := make(map[protocol.PeerID][]byte)
	prefix := []byte{kindPeer}
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read where peers are: %w", err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		if len(e.Key) != 1+len(protocol.PeerID{}) {
			return nil, fmt.Errorf("%w: peer key of %d bytes", ErrCorrupt, len(e.Key))
		}
		peers[protocol.PeerID(e.Key[1:])] = append([]byte(nil), b...)
	}
	return peers, nil
}
