package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Every key begins with one byte that tells whose it is. It also keeps the engine's keys clear of "!badger!", which
// Badger reserves.
const (
	engineKeys byte = 'd'
	ownKeys    byte = 'i'
)

func engineKey(key []byte) []byte {
	k := make([]byte, 0, len(key)+1)
	return append(append(k, engineKeys), key...)
}

type snapshot struct {
	store *Store
	txn   *badger.Txn
	ts    uint64
	scans []*badger.Iterator // open ones, innermost last
	done  bool
	// broken: Badger panicked while it opened an iterator, and would again if the transaction were discarded.
	broken bool
}

// enter begins a call into Badger; leave with s.store.life.RUnlock. On an error there is nothing to leave.
func (sn *snapshot) enter() error {
	sn.store.life.RLock()
	if sn.store.closed || sn.done {
		sn.store.life.RUnlock()
		return fmt.Errorf("read %s: %w", sn.store.opts.Dir, store.ErrClosed)
	}
	return nil
}

// guard makes an error of a panic in Badger. When it cannot make a new memtable, it fails the commit and is left without one, and
// then every read meets a nil pointer. The store is read-only by then; that must not take the process down.
func (sn *snapshot) guard(err *error) {
	p := recover() //nolint:revive // guard itself is what is deferred
	if p == nil {
		return
	}
	sn.broken = true
	*err = sn.store.panickedWith(p)
}

// panickedWith makes the store read-only after a panic in Badger, and returns the error that says so.
func (s *Store) panickedWith(p any) error {
	cause := fmt.Errorf("badger panicked while it was read: %v", p)
	if !s.panicked.Swap(true) {
		s.log.Error("badger panicked; every read may now end so", "panic", p, "stack", string(debug.Stack()))
	}
	s.fail(cause)
	return fmt.Errorf("read %s: %w: %w; open the store again", s.opts.Dir, store.ErrReadOnly, cause)
}

// Get implements store.Snapshot.
func (sn *snapshot) Get(key []byte) (value []byte, ok bool, err error) {
	if err := sn.enter(); err != nil {
		return nil, false, err
	}
	defer sn.store.life.RUnlock()
	defer sn.guard(&err)
	item, err := sn.txn.Get(engineKey(key))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read %s: %w", sn.store.opts.Dir, err)
	}
	// The item lives for this call only, so its buffer can be the caller's: one copy less.
	if err := item.Value(func(v []byte) error { value = v; return nil }); err != nil {
		return nil, false, fmt.Errorf("read %s: %w", sn.store.opts.Dir, err)
	}
	return value, true, nil
}

// Scan implements store.Snapshot.
func (sn *snapshot) Scan(start, end []byte) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		sn.walk(start, end, true, yield)
	}
}

// Keys implements store.Snapshot.
func (sn *snapshot) Keys(start, end []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		sn.walk(start, end, false, func(e store.Entry, err error) bool { return yield(e.Key, err) })
	}
}

// walk yields with no lock held, so that the loop's body may use the store, and even close it.
func (sn *snapshot) walk(start, end []byte, values bool, yield func(store.Entry, error) bool) {
	it, err := sn.open(start, end)
	if err != nil {
		yield(store.Entry{}, err)
		return
	}
	defer sn.closeScan(it)
	for first := true; ; first = false {
		e, ok, err := sn.step(it, first, end, values)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		if !ok || !yield(e, nil) {
			return
		}
	}
}

// open places an iterator at start. Badger leaves out the tables that lie outside the prefix that start and
// end have in common, which matters for short scans.
func (sn *snapshot) open(start, end []byte) (it *badger.Iterator, err error) {
	if err := sn.enter(); err != nil {
		return nil, err
	}
	defer sn.store.life.RUnlock()
	defer sn.guard(&err)
	from := engineKey(start)
	shared := 1
	if len(end) > 0 {
		shared += commonPrefix(start, end)
	}
	// No prefetching: it starts a goroutine for each entry, which pays off only for values in the value log.
	it = sn.txn.NewIterator(badger.IteratorOptions{Prefix: from[:shared]})
	it.Seek(from)
	sn.scans = append(sn.scans, it)
	return it, nil
}

func (sn *snapshot) step(it *badger.Iterator, first bool, end []byte, values bool) (e store.Entry, ok bool, err error) {
	if err := sn.enter(); err != nil {
		return e, false, err
	}
	defer sn.store.life.RUnlock()
	if !first {
		it.Next()
	}
	if !it.Valid() {
		return e, false, nil
	}
	item := it.Item()
	e.Key = item.Key()[1:]
	if len(end) > 0 && bytes.Compare(e.Key, end) >= 0 {
		return e, false, nil
	}
	if values {
		if err := item.Value(func(v []byte) error { e.Value = v; return nil }); err != nil {
			return e, false, fmt.Errorf("read %s: %w", sn.store.opts.Dir, err)
		}
	}
	return e, true, nil
}

// closeScan ends the scan, unless Close of the snapshot or the store did so.
func (sn *snapshot) closeScan(it *badger.Iterator) {
	if sn.enter() != nil {
		return
	}
	defer sn.store.life.RUnlock()
	it.Close()
	for i := len(sn.scans) - 1; i >= 0; i-- {
		if sn.scans[i] == it {
			sn.scans = append(sn.scans[:i], sn.scans[i+1:]...)
			return
		}
	}
}

// Close implements store.Snapshot. A second Close does nothing.
func (sn *snapshot) Close() {
	if sn.enter() != nil {
		return
	}
	defer sn.store.life.RUnlock()
	sn.invalidate()
	sn.store.release(sn)
}

// invalidate gives back what Badger holds for the snapshot. Call it with life held.
func (sn *snapshot) invalidate() {
	for _, it := range sn.scans {
		it.Close()
	}
	sn.scans = nil
	sn.done = true
	if !sn.broken {
		sn.txn.Discard()
	}
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
