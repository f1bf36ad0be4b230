package badgerstore

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

// SyncMode says when a commit becomes durable: when it survives a power cut, not only the end of the process.
type SyncMode int

const (
	// SyncAlways: when Commit returns. The default.
	SyncAlways SyncMode = iota
	// SyncInterval: within Options.Interval, and when Sync or Close return.
	SyncInterval
	// SyncNever: when Sync or Close return. For tests and for data that can be fetched again.
	SyncNever
)

func (m SyncMode) String() string {
	switch m {
	case SyncAlways:
		return "always"
	case SyncInterval:
		return "interval"
	case SyncNever:
		return "never"
	}
	return fmt.Sprintf("SyncMode(%d)", int(m))
}

// Options says which store to open and how. The zero value of each field but Dir is the default.
type Options struct {
	// Dir is the store's directory. It is created with mode 0700 if it does not exist. An existing one must
	// be empty or a store, and writable by its owner alone.
	Dir string
	// Sync says when a commit is durable. 0 is SyncAlways.
	Sync SyncMode
	// Interval is the time between two syncs of SyncInterval; 0 is 100 ms. A power cut loses at most the
	// commits of that time, and the last of them first.
	Interval time.Duration
	// MemTableBytes is how much is collected in memory before it is written as a table; 0 is 8 MiB. The
	// memory taken is some three times as much, briefly six. Less writes more and smaller tables, and sends
	// batches larger than a seventh of it the longer way through a redo file.
	MemTableBytes int64
	// BlockCacheBytes bounds the cache of uncompressed blocks; 0 is 16 MiB.
	BlockCacheBytes int64
	// MinFreeBytes is the free disk space below which Open and Commit refuse with store.ErrNoSpace; 0 is
	// 96 MiB or six times MemTableBytes, whichever is more. A negative value turns the check off: a full disk
	// then kills the process.
	MinFreeBytes int64
	// ReadOnly opens an existing, cleanly closed store for reading. Nothing is written.
	ReadOnly bool
	// Logger receives what the store below reports; nil is slog.Default().
	Logger *slog.Logger
}

const (
	defaultInterval      = 100 * time.Millisecond
	defaultMemTableBytes = minMemTableBytes
	minMemTableBytes     = 8 << 20 // a value of store.MaxValueBytes must fit into a Badger transaction, 15 % of this
	maxMemTableBytes     = 512 << 20
	defaultCacheBytes    = 16 << 20
	minCacheBytes        = 1 << 20
	minFreeBytes         = 96 << 20
	minFreeMemTables     = 6 // tables that one compaction may write before it deletes its inputs
)

// withDefaults fills in the defaults and checks the rest.
func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" {
		return o, fmt.Errorf("open store: Options.Dir is empty: name the store's directory")
	}
	if o.Sync < SyncAlways || o.Sync > SyncNever {
		return o, fmt.Errorf("open %s: unknown %v", o.Dir, o.Sync)
	}
	o.Interval = orDefault(o.Interval, defaultInterval)
	o.MemTableBytes = orDefault(o.MemTableBytes, defaultMemTableBytes)
	o.BlockCacheBytes = max(orDefault(o.BlockCacheBytes, defaultCacheBytes), minCacheBytes)
	o.MinFreeBytes = orDefault(o.MinFreeBytes, max(minFreeBytes, minFreeMemTables*o.MemTableBytes))
	if o.MemTableBytes < minMemTableBytes || o.MemTableBytes > maxMemTableBytes {
		return o, fmt.Errorf("open %s: MemTableBytes is %d: use %d to %d", o.Dir, o.MemTableBytes, minMemTableBytes, maxMemTableBytes)
	}
	if o.Interval < 0 {
		return o, fmt.Errorf("open %s: Interval is %v: use a positive time", o.Dir, o.Interval)
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}

func orDefault[T comparable](v, byDefault T) T {
	var zero T
	if v == zero {
		return byDefault
	}
	return v
}

// A Badger transaction must stay below 15 % of the memtable, in bytes and in skip list nodes of 96 bytes
// each. Batches beyond these bounds go through the redo file, in several transactions.
func (o Options) maxTxnBytes() int   { return int(o.MemTableBytes * 15 / 100) }
func (o Options) maxTxnEntries() int { return o.maxTxnBytes() / 96 }

// entryOverhead is what a transaction is charged for an entry beyond its key and value: our prefix byte,
// Badger's two meta bytes and ten for the version, and some to be safe.
const entryOverhead = 24

var _ store.Store = (*Store)(nil)
