package protocol

import (
	"encoding/base32"
	"fmt"
	"strings"
)

// PeerID names a node for good: it is the node's Ed25519 public key.
type PeerID [32]byte

var peerEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// String returns the ID as 52 letters and digits (base32, lower case).
func (p PeerID) String() string { return strings.ToLower(peerEncoding.EncodeToString(p[:])) }

// Short returns the first eight characters of String, enough to tell a few peers apart in a table.
func (p PeerID) Short() string { return p.String()[:8] }

// IsZero reports whether p names no node.
func (p PeerID) IsZero() bool { return p == PeerID{} }

// ParsePeerID reads the form that String returns.
func ParsePeerID(s string) (PeerID, error) {
	var p PeerID
	b, err := peerEncoding.DecodeString(strings.ToUpper(s))
	if err != nil || len(b) != len(p) {
		return p, fmt.Errorf("peer ID %.80q: want the 52 letters and digits that `anabranch id` prints", s)
	}
	copy(p[:], b)
	return p, nil
}
