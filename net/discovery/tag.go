package discovery

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// tagPeriod is how long a tag holds.
const tagPeriod = time.Hour

// tagBytes is enough to tell the nodes of one network apart.
const tagBytes = 10

// tagOf returns the tag of a node at a time.
func tagOf(p replica.PeerID, at time.Time) string {
	b := append([]byte("anabranch mdns 1"), p[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(at.Unix()/int64(tagPeriod/time.Second)))
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:tagBytes])
}

// recognise returns which of the nodes shows that tag; clocks may be off by a period.
func recognise(tag string, known []replica.PeerID, now time.Time) (replica.PeerID, bool) {
	for _, p := range known {
		for _, at := range []time.Time{now, now.Add(-tagPeriod), now.Add(tagPeriod)} {
			if tag == tagOf(p, at) {
				return p, true
			}
		}
	}
	return replica.PeerID{}, false
}
