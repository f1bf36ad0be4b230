package badgerstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Badger drops deleted keys when it merges tables, and it merges when enough was written: what was deleted last stays on the
// disk until as much again is written. So when much was deleted, and then there is a pause, everything is pushed down to one level.
// That rewrites up to the whole store, and is therefore due only when what was deleted is a good part of it.
const (
	compactTick = 5 * time.Second
	// compactPause is the least time between two compactions.
	compactPause = 10 * time.Minute
	// compactDeletes is the least number of deleted keys that is worth it, and compactShare the part of the store's size that they
	// should come to, at compactKeyBytes each: with what they held, indexes included.
	compactDeletes  = 20_000
	compactShare    = 4
	compactKeyBytes = 200
)

// compaction is what a Store knows of its deletes.
type compaction struct {
	deletes atomic.Int64 // since the last compaction began
	stop    chan struct{}
	once    sync.Once
	ended   sync.WaitGroup
}

// countDeletes counts those of a commit.
func (s *Store) countDeletes(b *store.Batch) {
	n := int64(0)
	for _, op := range b.All() {
		if op.Delete {
			n++
		}
	}
	s.compaction.deletes.Add(n)
}

func (s *Store) startCompaction() {
	s.compaction.stop = make(chan struct{})
	s.compaction.ended.Go(s.compactLoop)
}

// endCompaction is called by Close before it takes any lock, and waits for a compaction in progress: Badger cannot interrupt it.
func (s *Store) endCompaction() {
	if s.compaction.stop != nil {
		s.compaction.once.Do(func() { close(s.compaction.stop) })
		s.compaction.ended.Wait()
	}
}

func (s *Store) isEnding() bool {
	select {
	case <-s.compaction.stop:
		return true
	default:
		return false
	}
}

// compactLoop compacts when much was deleted and nothing is being deleted any more.
func (s *Store) compactLoop() {
	tick := time.NewTicker(compactTick)
	defer tick.Stop()
	var last time.Time
	seen := int64(0)
	for {
		select {
		case <-s.compaction.stop:
			return
		case <-tick.C:
		}
		deletes := s.compaction.deletes.Load()
		quiet := deletes == seen
		seen = deletes
		if !quiet || deletes < compactDeletes || !last.IsZero() && time.Since(last) < compactPause {
			continue
		}
		if deletes*compactKeyBytes < s.Usage().DiskBytes/compactShare {
			continue
		}
		last = time.Now()
		if err := s.Compact(); err != nil && !errors.Is(err, store.ErrClosed) {
			s.log.Warn("the store could not be compacted; it is tried again later", "error", err)
		}
	}
}

// Compact gives the disk space of what was deleted back. It takes time in proportion to the size of the store, and others may go on
// meanwhile. The store does it by itself when much was deleted.
func (s *Store) Compact() error {
	s.compaction.deletes.Store(0)
	for n := 0; n == 0 || n < maxPushes && !s.hasLevels(); n++ {
		if err := s.pushMemTable(); err != nil {
			return fmt.Errorf("compact %s: %w", s.opts.Dir, err)
		}
	}
	s.life.RLock()
	defer s.life.RUnlock()
	if err := s.writable(); err != nil {
		return fmt.Errorf("compact %s: %w", s.opts.Dir, err)
	}
	if err := s.space.checkFor(s.opts.MinFreeBytes); err != nil {
		return fmt.Errorf("compact %s: %w", s.opts.Dir, err)
	}
	if err := s.await(func() error { return s.db.Flatten(1) }); err != nil {
		return fmt.Errorf("compact %s: %w", s.opts.Dir, err)
	}
	return nil
}

// maxPushes is how often the memtable is pushed at most: as many tables on the first level are merged whatever lies below.
const maxPushes = 6

// hasLevels reports whether there is a table below the first level. If not, Badger finds nothing to merge the first with, and waits
// for more tables.
func (s *Store) hasLevels() bool {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return true
	}
	for _, l := range s.db.Levels() {
		if l.Level > 0 && l.NumTables > 0 {
			return true
		}
	}
	return false
}

// pushMemTable has what is in memory written to a table, for deletes that are not in a table take nothing away from those below. Badger
// does that only when its memtable is full, so it is filled up with zeros, which take hardly any room in a table. Each memtable has a
// log, which goes when it is written.
func (s *Store) pushMemTable() error {
	before := s.newestLog()
	filler := make([]byte, min(s.opts.MemTableBytes/16, store.MaxValueBytes))
	for written := int64(0); written <= s.opts.MemTableBytes && s.newestLog() == before; written += int64(len(filler)) {
		if err := s.fill(filler); err != nil {
			return err
		}
	}
	if err := s.fill(nil); err != nil {
		return err
	}
	wait := time.NewTicker(20 * time.Millisecond)
	defer wait.Stop()
	for range 1500 {
		if logs := s.logs(); !slices.ContainsFunc(logs, func(name string) bool { return name <= before }) {
			return nil
		}
		select {
		case <-wait.C:
		case <-s.compaction.stop:
			return store.ErrClosed
		}
	}
	return errors.New("badger did not write what is in memory to a table")
}

// logs returns the names of the logs of memtables.
func (s *Store) logs() []string {
	names, err := filepath.Glob(filepath.Join(dataDir(s.opts.Dir), "*.mem"))
	if err != nil { // only a pattern can be wrong
		return nil
	}
	return names
}

func (s *Store) newestLog() string {
	if logs := s.logs(); len(logs) > 0 {
		return slices.Max(logs)
	}
	return ""
}

// fill makes a commit that says nothing.
func (s *Store) fill(value []byte) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.life.RLock()
	defer s.life.RUnlock()
	if s.isEnding() {
		return store.ErrClosed
	}
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.space.check(len(value)); err != nil {
		return err
	}
	ts := s.lastTs.Load() + 1
	txn := s.db.NewTransactionAt(ts, true)
	err := txn.Set(lastKey, value)
	if err != nil {
		txn.Discard()
	} else {
		err = s.commitDurably(txn, ts)
	}
	if err != nil {
		s.fail(err)
		return fmt.Errorf("%w: %w; open the store again once the cause is gone", store.ErrReadOnly, err)
	}
	s.dirty.Store(true)
	s.published(ts)
	return nil
}
