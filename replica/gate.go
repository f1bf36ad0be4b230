package replica

import (
	"context"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Gate is what a Transport asks the Replica about nodes that are not on its own list. Its functions may be called from several goroutines.
type Gate struct {
	// Allow reports whether a node may be connected with because it has rights in a space.
	Allow func(PeerID) bool
	// Join answers a node that asks to be let into a space. It may wait for the disk.
	Join func(context.Context, PeerID, protocol.JoinRequest) protocol.JoinAnswer
}
