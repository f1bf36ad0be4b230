package badgerstore

import (
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Commit implements store.Store. A batch that one Badger transaction can hold is one; a larger one goes
// through the redo file (see redo.go) and costs twice the writing and two more syncs.
func (s *Store) Commit(b *store.Batch) error {
	s.commitMu.Lock()
	defer s.commitMu.Unlock()
	s.life.RLock()
	defer s.life.RUnlock()
	if err := s.commit(b); err != nil {
		return fmt.Errorf("commit to %s: %w", s.opts.Dir, err)
	}
	return nil
}

func (s *Store) commit(b *store.Batch) error {
	if err := s.writable(); err != nil {
		return err
	}
	if err := b.Check(); err != nil {
		return err
	}
	if b.Len() == 0 {
		return nil
	}
	if err := s.space.check(b.Bytes()); err != nil {
		return err
	}
	// The times follow each other without a gap: after a crash a gap in the log shows that something is missing.
	ts := s.lastTs.Load() + 1
	var err error
	if s.fitsOneTxn(b) {
		err = s.writeTxn(ts, b)
	} else {
		err = s.writeLarge(ts, b)
		ts++
	}
	if err != nil {
		// It may be on the disk in part or whole, and the next commit would make it visible.
		s.fail(err)
		return fmt.Errorf("%w: %w; open the store again once the cause is gone", store.ErrReadOnly, err)
	}
	s.countDeletes(b)
	s.dirty.Store(true) // after the writing, or a sync that began before it would be taken for this commit's
	s.published(ts)
	return nil
}

func (s *Store) fitsOneTxn(b *store.Batch) bool {
	return b.Bytes()+(b.Len()+2)*entryOverhead < s.opts.maxTxnBytes() && b.Len()+2 < s.opts.maxTxnEntries()
}

// writeTxn writes the whole batch as one Badger transaction.
func (s *Store) writeTxn(ts uint64, b *store.Batch) error {
	txn := s.db.NewTransactionAt(ts, true)
	onlyDeletes := true
	keys := make([]byte, 0, b.KeyBytes()+b.Len()) // Badger keeps them until the commit is over
	for key, op := range b.All() {
		start := len(keys)
		keys = append(append(keys, engineKeys), key...)
		if err := put(txn, keys[start:len(keys):len(keys)], op); err != nil {
			txn.Discard()
			return err
		}
		onlyDeletes = onlyDeletes && op.Delete
	}
	if onlyDeletes {
		// A compaction drops deletes. The time of the last commit must stay in the tables, as the next one goes on from it.
		if err := txn.Set(lastKey, nil); err != nil {
			txn.Discard()
			return err
		}
	}
	return s.commitDurably(txn, ts)
}

// commitDurably commits and ends a transaction that is a commit of its own, and syncs if each commit is to be synced.
func (s *Store) commitDurably(txn *badger.Txn, ts uint64) error {
	if err := s.commitTxn(txn, ts); err != nil || s.opts.Sync != SyncAlways {
		return err
	}
	s.syncs.Add(1)
	return s.active.sync(dataDir(s.opts.Dir))
}

// lastKey is set by a commit that sets nothing else.
var lastKey = []byte{ownKeys, 'l'}

func put(txn *badger.Txn, key []byte, op store.BatchOp) error {
	if op.Delete {
		return txn.Delete(key)
	}
	return txn.Set(key, op.Value)
}

// Sync implements store.Store.
func (s *Store) Sync() error {
	s.life.RLock()
	defer s.life.RUnlock()
	if err := s.writable(); err != nil {
		if s.opts.ReadOnly && !s.closed {
			return nil
		}
		return fmt.Errorf("sync %s: %w", s.opts.Dir, err)
	}
	return s.sync()
}

// sync lets one caller at a time in, so that nobody returns while another one's sync is still under way.
func (s *Store) sync() error {
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	if !s.dirty.Swap(false) {
		return nil
	}
	if err := s.syncAll(); err != nil {
		s.fail(err)
		return fmt.Errorf("sync %s: %w", s.opts.Dir, err)
	}
	return nil
}

// syncAll syncs all logs.
func (s *Store) syncAll() error {
	s.syncs.Add(1)
	return syncLogs(dataDir(s.opts.Dir))
}

// syncEvery is the goroutine of SyncInterval. After an error it ends: the store is read-only then.
func (s *Store) syncEvery(interval time.Duration) {
	defer s.stopped.Done()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-tick.C:
			if s.sync() != nil {
				return
			}
		}
	}
}
