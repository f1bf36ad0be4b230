package memstore

import (
	"bytes"
	"fmt"
	"iter"
	"strings"
	"sync"

	"github.com/tidwall/btree"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Store is a store.Store in memory. A published tree is never changed: Commit works on a copy that shares
// all unchanged nodes, so a snapshot costs a pointer and readers need no lock.
type Store struct {
	mu      sync.RWMutex
	state   state
	closed  bool
	failure error
}

// state is one committed state; tree is immutable once it is in a Store.
type state struct {
	tree  *btree.Map[string, []byte]
	bytes int64 // keys and values
}

var _ store.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	return &Store{state: state{tree: new(btree.Map[string, []byte])}}
}

// Commit implements store.Store.
func (s *Store) Commit(b *store.Batch) error {
	next, err := s.begin()
	if err == nil {
		err = b.Check()
	}
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	next.apply(b)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("commit: %w", store.ErrClosed)
	}
	s.state = next
	return nil
}

// begin returns a copy of the state to change, or why there can be no commit.
func (s *Store) begin() (state, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return state{}, store.ErrClosed
	}
	return s.state.copy(), s.failure
}

// copy returns a state to change. Call it with the store's lock held: btree's Copy marks the original, too.
func (st state) copy() state {
	return state{tree: st.tree.Copy(), bytes: st.bytes}
}

// apply changes the state by the batch. Keys and values are copied, as the batch's memory is the caller's.
func (st *state) apply(b *store.Batch) {
	for key, op := range b.All() {
		var old []byte
		var had bool
		if op.Delete {
			old, had = st.tree.Delete(key)
		} else {
			old, had = st.tree.Set(strings.Clone(key), bytes.Clone(op.Value))
			st.bytes += int64(len(key) + len(op.Value))
		}
		if had {
			st.bytes -= int64(len(key) + len(old))
		}
	}
}

// Snapshot implements store.Store.
func (s *Store) Snapshot() (store.Snapshot, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("snapshot: %w", store.ErrClosed)
	}
	return &snapshot{store: s, tree: s.state.tree}, nil
}

// Sync implements store.Store: there is nothing to do but to say whether the store is open.
func (s *Store) Sync() error {
	if s.isClosed() {
		return fmt.Errorf("sync: %w", store.ErrClosed)
	}
	return nil
}

// Usage implements store.Store.
func (s *Store) Usage() store.Usage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return store.Usage{DiskBytes: s.state.bytes}
}

// Close implements store.Store. A second Close does nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// FailCommits makes each Commit from now on fail with an error that wraps err, and change nothing, until
// FailCommits(nil).
func (s *Store) FailCommits(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
}

// Clone returns an open store with the present committed state: a backup, a cloned disk, or, of a closed
// store, what is found when it is opened again. The two share memory and no fate. It takes constant time.
func (s *Store) Clone() *Store {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &Store{state: s.state.copy()}
}

func (s *Store) isClosed() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closed
}

type snapshot struct {
	store  *Store
	tree   *btree.Map[string, []byte]
	closed bool
}

// check returns why the snapshot cannot be read, if so. A memory store could go on reading; it refuses
// nevertheless, so that misuse shows in the tests that use it.
func (sn *snapshot) check() error {
	if sn.closed || sn.store.isClosed() {
		return fmt.Errorf("read: %w", store.ErrClosed)
	}
	return nil
}

func (sn *snapshot) Get(key []byte) ([]byte, bool, error) {
	if err := sn.check(); err != nil {
		return nil, false, err
	}
	value, ok := sn.tree.Get(string(key))
	return value, ok, nil
}

func (sn *snapshot) Scan(start, end []byte) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := sn.check(); err != nil {
			yield(store.Entry{}, err)
			return
		}
		// One buffer for the keys, so that whoever keeps a key beyond its step sees it change here too.
		var buf []byte
		last := string(end)
		sn.tree.Ascend(string(start), func(key string, value []byte) bool {
			if len(end) > 0 && key >= last {
				return false
			}
			if err := sn.check(); err != nil {
				yield(store.Entry{}, err)
				return false
			}
			buf = append(buf[:0], key...)
			return yield(store.Entry{Key: buf, Value: value}, nil)
		})
	}
}

func (sn *snapshot) Keys(start, end []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for e, err := range sn.Scan(start, end) {
			if !yield(e.Key, err) {
				return
			}
		}
	}
}

func (sn *snapshot) Close() { sn.closed = true }
