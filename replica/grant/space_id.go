package grant

import (
	"fmt"
	"strings"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// SpaceID names a space that has a key: it is the public half, an Ed25519 key.
type SpaceID [32]byte

// spacePrefix keeps a space ID from being taken for a peer ID, and for the name of a space.
const spacePrefix = "space-"

// String returns the ID as "space-" and 52 letters and digits (base32, lower case).
func (s SpaceID) String() string { return spacePrefix + protocol.PeerID(s).String() }

// Short returns the prefix and the first eight characters, enough to tell a few spaces apart in a table.
func (s SpaceID) Short() string { return spacePrefix + protocol.PeerID(s).Short() }

// IsZero reports whether s names no space.
func (s SpaceID) IsZero() bool { return s == SpaceID{} }

// ParseSpaceID reads the form that String returns.
func ParseSpaceID(text string) (SpaceID, error) {
	rest, ok := strings.CutPrefix(strings.ToLower(text), spacePrefix)
	id, err := protocol.ParsePeerID(rest)
	if !ok || err != nil {
		return SpaceID{}, fmt.Errorf("space ID %.80q: want the form %s… that `anabranch space ls` prints", text, spacePrefix)
	}
	return SpaceID(id), nil
}
