package badgerstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Store is an open store. See store.Store for what its methods promise.
//
// Locks, in the order in which they are taken: commitMu, life, mu.
//
//  1. Badger is called only with life held for reading, and closed only with life held for writing; so no call
//     reaches unmapped memory.
//  2. lastTs is the time of the last commit that is complete. Snapshots read at lastTs, so a commit in progress, or one
//     that failed half-way, is never seen.
//  3. Badger's discard time is at most lastTs and the time of the oldest open snapshot.
type Store struct {
	opts Options
	db   *badger.DB
	lock *dirLock
	log  *logger
	info Info

	anchor  Anchor
	space   *spaceGuard
	sidecar sidecar // as last written

	usageMu sync.Mutex
	usage   store.Usage
	usageAt time.Time

	commitMu sync.Mutex
	active   activeLog // guarded by commitMu
	lastTs   atomic.Uint64
	syncMu   sync.Mutex
	syncs    atomic.Uint64
	dirty    atomic.Bool           // something is committed and not synced
	failed   atomic.Pointer[error] // why the store has become read-only
	panicked atomic.Bool           // Badger did, in a read

	flushMu       sync.Mutex // guards the next two
	flushFailures int        // in a row
	flushFailed   time.Time
	stuck         chan struct{} // closed when there were too many

	compaction compaction

	life   sync.RWMutex
	closed bool // guarded by life

	mu        sync.Mutex
	snapshots map[*snapshot]struct{}

	stop    chan struct{}
	stopped sync.WaitGroup
}

// dataDir is where Badger's files are, apart from ours.
func dataDir(dir string) string { return filepath.Join(dir, "data") }

// Snapshot implements store.Store.
func (s *Store) Snapshot() (store.Snapshot, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return nil, fmt.Errorf("snapshot of %s: %w", s.opts.Dir, store.ErrClosed)
	}
	sn := &snapshot{store: s}
	// One step under mu, or the discard time could pass the snapshot before it is registered.
	s.mu.Lock()
	defer s.mu.Unlock()
	sn.ts = s.lastTs.Load()
	sn.txn = s.db.NewTransactionAt(sn.ts, false)
	s.snapshots[sn] = struct{}{}
	return sn, nil
}

// release forgets a snapshot, so that versions kept for it alone can go.
func (s *Store) release(sn *snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.snapshots, sn)
	s.discardLocked()
}

// published makes the commit at ts what new snapshots see.
func (s *Store) published(ts uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastTs.Store(ts)
	s.discardLocked()
}

// discardLocked tells Badger which versions no reader needs. A handful of snapshots is open at a time, so
// looking at all of them is cheap.
func (s *Store) discardLocked() {
	oldest := s.lastTs.Load()
	for sn := range s.snapshots {
		oldest = min(oldest, sn.ts)
	}
	s.db.SetDiscardTs(oldest)
}

// fail makes the store read-only until it is opened again: after a failed write nobody knows what is on the disk, and
// syncing again may report success for pages that the system has dropped.
func (s *Store) fail(err error) {
	if s.failed.CompareAndSwap(nil, &err) {
		s.log.Error("the store is read-only from now on", "error", err)
	}
}

// writable returns why there can be no commit, if so.
func (s *Store) writable() error {
	if s.closed {
		return store.ErrClosed
	}
	if s.opts.ReadOnly {
		return fmt.Errorf("%w: it was opened so", store.ErrReadOnly)
	}
	if cause := s.failed.Load(); cause != nil {
		return fmt.Errorf("%w since an error: %w; open it again once the cause is gone", store.ErrReadOnly, *cause)
	}
	return nil
}

// Close implements store.Store. A second Close does nothing. Steps of scans in progress are awaited; what they
// iterate over ends with store.ErrClosed.
func (s *Store) Close() error {
	s.endCompaction()
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.stop)
	s.stopped.Wait()
	for sn := range s.snapshots {
		sn.invalidate()
	}
	err := errors.Join(s.closeBadger(), s.active.close())
	if !errors.Is(err, errAbandoned) {
		err = errors.Join(err, s.lock.release())
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", s.opts.Dir, err)
	}
	return nil
}

// errAbandoned: Badger was left as it was. Closing it writes the memtable, and with the disk full or failing that
// kills the process or never ends. What was committed is in the log, as after a crash, and the next Open reads it there.
// The lock stays, since Badger's goroutines live on until the process ends.
var errAbandoned = errors.New("left for the next opening to put in order; nothing is lost")

// closeBadger closes Badger, which syncs, and notes that this went well. After a failed write the next Open
// examines the files as after a crash.
func (s *Store) closeBadger() error {
	if s.opts.ReadOnly {
		return s.db.Close()
	}
	err := s.syncToClose()
	failed := s.failed.Load() != nil
	if s.isStuck() {
		return fmt.Errorf("%w: %w", errAbandoned, errStuck)
	}
	if cerr := errors.Join(s.space.checkFor(minFreeToClose*s.opts.MemTableBytes), s.enter(&s.sidecar, phaseClosing)); cerr != nil {
		return errors.Join(fmt.Errorf("%w: %w", errAbandoned, cerr), err)
	}
	cerr := s.await(s.db.Close)
	if errors.Is(cerr, errStuck) {
		return fmt.Errorf("%w: %w", errAbandoned, cerr)
	}
	if failed || cerr != nil {
		return errors.Join(err, cerr)
	}
	return s.enter(&s.sidecar, phaseClosed)
}

// minFreeToClose is how many memtables' worth of tables closing may write: the present one and one in the works.
const minFreeToClose = 2

// syncToClose syncs, and notes the last commit that is then certainly on the disk.
func (s *Store) syncToClose() error {
	if s.failed.Load() != nil {
		return nil // that was said
	}
	last := s.lastTs.Load()
	err := s.sync()
	if err == nil {
		s.sidecar.Last = last
	}
	return err
}
