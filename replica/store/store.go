package store

import (
	"errors"
	"fmt"
	"iter"
	"strings"
)

// Limits of one batch. Every Store commits a batch within them as one atomic step.
const (
	MaxBatchBytes   = 48 << 20 // keys and values together
	MaxBatchEntries = 192 << 10
	MaxKeyBytes     = 8 << 10
	MaxValueBytes   = 1<<20 - 1 // from 1 MiB on Badger would move a value to its value log
)

// Errors that a Store returns; test for them with errors.Is. The error returned wraps one of these and
// says where and what to do.
var (
	ErrClosed        = errors.New("store is closed")
	ErrReadOnly      = errors.New("store is read-only")         // a failed sync, or opened so; reads go on
	ErrNoSpace       = errors.New("not enough free disk space") // below the floor; reads go on, commits resume when there is space
	ErrInUse         = errors.New("store is in use")            // by another process
	ErrNewerFormat   = errors.New("store format is newer than this program")
	ErrDamaged       = errors.New("store is damaged")
	ErrBatchTooLarge = errors.New("batch is too large for one commit")
)

// Store is an ordered map of byte strings with atomic batches and consistent snapshots. Methods may be
// called from several goroutines, except that one goroutine at a time calls Commit.
type Store interface {
	// Commit applies the batch: all of it or nothing, also across a crash, and in the order of the calls. It
	// returns when the batch is as durable as the Store was configured to make it. Snapshots opened after
	// Commit has returned see the batch, those opened before it began do not. After an error nothing of the
	// batch is visible; if durability is in doubt the Store turns read-only (ErrReadOnly) until it is opened again.
	// The Store does not keep the batch's memory.
	Commit(b *Batch) error
	// Snapshot opens a consistent view of what is committed. It never waits for a commit in progress. Close it: an open
	// snapshot keeps old data alive.
	Snapshot() (Snapshot, error)
	// Sync makes everything that was committed durable, whatever the setting.
	Sync() error
	// Usage reports the space taken, cheaply and approximately.
	Usage() Usage
	// Close syncs and closes. Open snapshots become invalid.
	Close() error
}

// Snapshot is a consistent view of a Store, for use by one goroutine at a time.
type Snapshot interface {
	// Get returns the value at key, and false if there is none. The value is the caller's to keep and not to change.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan yields the entries with start <= key < end in the order of the keys; an empty end means no end. Key and value
	// are valid only until the next step. After an error it ends.
	Scan(start, end []byte) iter.Seq2[Entry, error]
	// Keys is Scan without the values, which need not be read.
	Keys(start, end []byte) iter.Seq2[[]byte, error]
	Close()
}

// Entry is one key and its value.
type Entry struct {
	Key, Value []byte
}

// Usage is the space that a Store takes.
type Usage struct {
	DiskBytes int64 // files on disk; for a memory store, the bytes of keys and values
	// FreeBytes is what the disk has free, and FloorBytes what must stay so; zero for a memory store.
	FreeBytes  int64
	FloorBytes int64
	Syncs      uint64 // to the disk, since it was opened
}

// Batch collects puts and deletes for one Commit. A later operation on a key replaces an earlier one. The zero
// Batch is ready; it is not safe for concurrent use.
type Batch struct {
	index map[string]int
	ops   []op
	bytes int
	keys  int             // bytes of the keys alone
	names strings.Builder // the keys of the last ops, one after the other
}

// nameBytes is how much room for keys is made at once, if not more is there already.
const nameBytes = 32 << 10

// Room for what one small transaction sets: it grows from there.
const (
	fewOps   = 8
	fewBytes = 32 // of a key
)

type op struct {
	key    string
	value  []byte
	delete bool
}

// Put sets key to value. The batch keeps value and copies key.
func (b *Batch) Put(key, value []byte) { b.set(key, value, false) }

// Delete removes key; it need not exist.
func (b *Batch) Delete(key []byte) { b.set(key, nil, true) }

func (b *Batch) set(key, value []byte, del bool) {
	if i, ok := b.index[string(key)]; ok {
		o := &b.ops[i]
		b.bytes += len(value) - len(o.value)
		o.value, o.delete = value, del
		return
	}
	if b.index == nil {
		b.index, b.ops = make(map[string]int), make([]op, 0, fewOps)
	}
	o := op{key: b.name(key), value: value, delete: del}
	b.index[o.key] = len(b.ops)
	b.ops = append(b.ops, o)
	b.bytes += len(key) + len(value)
	b.keys += len(key)
}

// name copies a key. Many keys share the memory of one string.
func (b *Batch) name(key []byte) string {
	if b.names.Cap()-b.names.Len() < len(key) {
		room := max(len(key), min(nameBytes, b.names.Cap()*2), fewOps*fewBytes)
		b.names = strings.Builder{}
		b.names.Grow(room)
	}
	start := b.names.Len()
	b.names.Write(key)
	return b.names.String()[start:]
}

// Get returns what the batch would set key to. known is false if the batch says nothing of key; ok is
// false if it deletes it.
func (b *Batch) Get(key []byte) (value []byte, ok, known bool) {
	i, known := b.index[string(key)]
	if !known {
		return nil, false, false
	}
	return b.ops[i].value, !b.ops[i].delete, true
}

// All yields the operations in the order in which their keys were first named; value is nil and del true for a delete. The keys share the
// memory of the batch: who keeps one clones it.
func (b *Batch) All() iter.Seq2[string, BatchOp] {
	return func(yield func(string, BatchOp) bool) {
		for i := range b.ops {
			if !yield(b.ops[i].key, BatchOp{b.ops[i].value, b.ops[i].delete}) {
				return
			}
		}
	}
}

// BatchOp is what a batch does to a key.
type BatchOp struct {
	Value  []byte
	Delete bool
}

// Len returns the number of keys.
func (b *Batch) Len() int { return len(b.ops) }

// Bytes returns the size of all keys and values.
func (b *Batch) Bytes() int { return b.bytes }

// KeyBytes returns the size of all keys.
func (b *Batch) KeyBytes() int { return b.keys }

// Check reports whether the batch is within the limits that every Store takes. Every Commit calls it first.
// Cost: linear in the number of keys.
func (b *Batch) Check() error {
	if b.bytes > MaxBatchBytes || len(b.ops) > MaxBatchEntries {
		return fmt.Errorf("%w: %d bytes in %d entries, at most %d in %d", ErrBatchTooLarge, b.bytes, len(b.ops), MaxBatchBytes, MaxBatchEntries)
	}
	for i := range b.ops {
		o := &b.ops[i]
		if len(o.key) > MaxKeyBytes {
			return fmt.Errorf("%w: a key of %d bytes, at most %d", ErrBatchTooLarge, len(o.key), MaxKeyBytes)
		}
		if len(o.value) > MaxValueBytes {
			return fmt.Errorf("%w: a value of %d bytes, at most %d", ErrBatchTooLarge, len(o.value), MaxValueBytes)
		}
	}
	return nil
}
