package badgerstore

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Badger writes a full memtable to a table in a goroutine of its own, and when that fails tries again each second, without
// end. Meanwhile commits go on until there is no room in memory, and then wait, as Close does. A disk that is full or out of
// inodes for a moment is no more than that; but nobody should wait for one that fails for good. So after some attempts in a row the store
// is stuck: what waits ends with an error, and Badger is left to itself.
const (
	stuckAfter = 5
	stuckPause = 5 * time.Second // between failures that are not in a row
)

var errStuck = errors.New("badger cannot write its tables")

// noteFlushError counts the failures that Badger reports. A sync that failed must not be tried again as if the one before had been
// good, so from then on nothing more is taken.
func (s *Store) noteFlushError(message string) {
	if strings.Contains(message, "sync") {
		s.fail(fmt.Errorf("%w: %s", errStuck, message))
	}
	s.flushMu.Lock()
	defer s.flushMu.Unlock()
	now := time.Now()
	if now.Sub(s.flushFailed) > stuckPause {
		s.flushFailures = 0
	}
	s.flushFailed = now
	if s.flushFailures++; s.flushFailures == stuckAfter && !s.isStuck() {
		s.fail(fmt.Errorf("%w: %s", errStuck, message))
		close(s.stuck)
	}
}

func (s *Store) isStuck() bool {
	select {
	case <-s.stuck:
		return true
	default:
		return false
	}
}

// await runs what may wait for room in memory. If the store gets stuck meanwhile it returns errStuck, and fn goes on.
func (s *Store) await(fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	return s.unlessStuck(done)
}

func (s *Store) unlessStuck(done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-s.stuck:
		return errStuck
	}
}

// commitTxn commits and ends a transaction, which is durable after the next sync.
func (s *Store) commitTxn(txn *badger.Txn, ts uint64) error {
	defer txn.Discard()
	s.active.commits++
	done := make(chan error, 1)
	// What waits in a goroutine is Badger's: one of ours that called Commit would have to grow its stack each time.
	if err := txn.CommitAt(ts, func(err error) { done <- err }); err != nil {
		return err
	}
	return s.unlessStuck(done)
}

// flushErrorPrefix begins what Badger says when it could not write a memtable.
const flushErrorPrefix = "error flushing memtable to disk"

// Errorf implements badger.Logger.
func (l *logger) Errorf(format string, args ...any) {
	message := text(format, args)
	l.Error(message)
	if l.flushFailed != nil && strings.HasPrefix(format, flushErrorPrefix) {
		l.flushFailed(message)
	}
}
