package replica

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// SyncMode says how durable a commit is when it is acknowledged, to the caller and to peers.
type SyncMode uint8

const (
	// SyncAlways: on disk before it is acknowledged. Transactions that wait together share one sync.
	SyncAlways SyncMode = iota
	// SyncInterval: in the hands of the system, which survives the end of the process; on disk within
	// Config.SyncInterval. A power cut may take the last writes, which then come back from peers that have them.
	SyncInterval
	// SyncNever: as SyncInterval, but synced only at Close. For tests and for data that can be had again.
	SyncNever
)

// Config says how to open a Replica. The zero Config is a store in memory, without a network.
type Config struct {
	// Dir is the store directory, made if it is not there. Empty: in memory.
	Dir string
	// Sync says when a commit is acknowledged. Zero: when it is on disk.
	Sync SyncMode
	// SyncInterval is the longest time between syncs in mode SyncInterval. Zero: 200 ms.
	SyncInterval time.Duration
	// MemTableBytes is the size of the store's write buffers: less saves memory and costs speed. Zero: the
	// store's default, which suits a node. Small values are for many replicas in one process.
	MemTableBytes int64
	// Transport reaches peers; nil: no network. The Replica owns it once Open has succeeded, and closes it.
	Transport Transport
	// Peers are dialled, and dialled again, for as long as the Replica is open.
	Peers []Peer
	// Degree is how many peers this node keeps itself connected with, chosen among those that its peers tell of and those that it has
	// found otherwise; package mesh says how. More of it shortens the ways through a large mesh and costs traffic for
	// acknowledgements; 4 is enough for hundreds of nodes. Zero: it dials Peers and nobody else, and tells nobody of others.
	Degree int
	// MaxPeers is how many connections are kept with Degree: beyond it those are closed that both sides can do without. Zero:
	// 2 × Degree + 2.
	MaxPeers int
	// Introduce says whether a peer may be told where another is. Both are allowed to be connected with this node. Nil: always.
	Introduce func(to, of PeerID) bool
	// KeepSpace says which spaces that an allowed peer offers are kept here. Nil: every one, up to MaxSpaces.
	KeepSpace func(name string) bool
	// Identity is this node's key, with which it invites and revokes in spaces that have a key. Nil: it cannot. If there is a Transport too, both
	// must have one peer ID.
	Identity Identity
	// SpaceKeys keeps the private keys of spaces made here. Nil: files in the directory KeysDir of Dir, in memory if there is no Dir.
	SpaceKeys SpaceKeys
	// Now reads the physical clock. Nil: time.Now.
	Now func() time.Time
	// MaxDrift is how far ahead of the physical clock a peer's times may be. Zero: one minute.
	MaxDrift time.Duration
	// ScrubInterval is how often everything stored is read and checked, at 16 MiB/s, while there is a Transport to repair it by.
	// Less finds damage sooner and reads more. Zero: a day.
	ScrubInterval time.Duration
	// MaxOffline is how long a member that nobody hears of holds pruning back; after that it catches up by a snapshot, should it come
	// back. More lets nodes stay away longer, and keeps what was removed longer. Zero: 30 days.
	MaxOffline time.Duration
	// PruneDelay is how long what all members have is kept before it is pruned. A watcher that comes back within it goes on where it
	// was; later it may have to read from the beginning, if documents were deleted meanwhile. Zero: 1 minute; negative: none.
	PruneDelay time.Duration
	// NewReplicaID draws a ReplicaID. Nil: at random. Only replays and tests have a reason to set it: one ID used by
	// two replicas destroys data.
	NewReplicaID func() crdt.ReplicaID
	// Logger takes what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
}

// Peer is a node to dial.
type Peer struct {
	ID   PeerID // zero: whoever answers, if it is allowed
	Addr string
}

// MaxSpaces bounds the spaces of one store.
const MaxSpaces = 4096

// MaxSpaceNameBytes bounds the name of a space.
const MaxSpaceNameBytes = 255

func (c Config) withDefaults() (Config, error) {
	if c.SyncInterval == 0 {
		c.SyncInterval = 200 * time.Millisecond
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.MaxDrift == 0 {
		c.MaxDrift = hlc.DefaultMaxDrift
	}
	if c.ScrubInterval == 0 {
		c.ScrubInterval = 24 * time.Hour
	}
	if c.MaxOffline == 0 {
		c.MaxOffline = 30 * 24 * time.Hour
	}
	if c.PruneDelay == 0 {
		c.PruneDelay = time.Minute
	}
	if c.NewReplicaID == nil {
		c.NewReplicaID = randomReplicaID
	}
	if c.MaxPeers == 0 {
		c.MaxPeers = 2*c.Degree + 2
	}
	if c.Introduce == nil {
		c.Introduce = func(PeerID, PeerID) bool { return true }
	}
	if c.KeepSpace == nil {
		c.KeepSpace = func(string) bool { return true }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.SyncInterval < 0 || c.MaxDrift < 0 || c.MemTableBytes < 0 || c.ScrubInterval < 0 || c.MaxOffline < 0:
		return c, errors.New("replica: Config: SyncInterval, MaxDrift, MemTableBytes, ScrubInterval and MaxOffline must not be negative")
	case c.Degree < 0 || c.MaxPeers < c.Degree || c.MaxPeers > maxConns:
		return c, fmt.Errorf("replica: Config: want 0 <= Degree <= MaxPeers <= %d, not %d and %d", maxConns, c.Degree, c.MaxPeers)
	case c.Sync > SyncNever:
		return c, fmt.Errorf("replica: Config: unknown sync mode %d", c.Sync)
	case c.Identity != nil && c.Transport != nil && c.Identity.PeerID() != c.Transport.Self():
		return c, fmt.Errorf("replica: Config: the Identity is %s and the Transport is %s", c.Identity.PeerID(), c.Transport.Self())
	case len(c.Peers) > 0 && c.Transport == nil:
		return c, errors.New("replica: Config: there are Peers but no Transport to reach them")
	}
	return c, nil
}

func randomReplicaID() crdt.ReplicaID {
	var b [8]byte
	for {
		rand.Read(b[:]) // never fails
		if id := crdt.ReplicaID(binary.BigEndian.Uint64(b[:])); id != 0 {
			return id
		}
	}
}
