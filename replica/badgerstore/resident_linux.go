package badgerstore

import (
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// Badger writes and reads tables through memory maps, so that in the end the whole store, and what compactions have replaced, would be in the
// process's resident set: with a million documents more than everything else of it. Hence the maps are emptied whenever the resident
// pages of files have grown by residentSlack. They stay in the system's cache, which it gives up as it needs to, and a page comes back into its map
// when it is read.
const (
	residentSlack = 16 << 20
	residentEvery = 250 * time.Millisecond
)

func (s *Store) startReleasing() {
	self, err := procfs.Self()
	if err != nil {
		return // no /proc: it goes without
	}
	dir, err := filepath.EvalSymlinks(dataDir(s.opts.Dir))
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		s.log.Warn("pages of tables stay in the resident set", "error", err)
		return
	}
	s.stopped.Go(func() {
		if err := s.releasePages(self, dir); err != nil {
			s.log.Warn("pages of tables stay in the resident set from now on", "error", err)
		}
	})
}

// releasePages does so until the store is closed.
func (s *Store) releasePages(self procfs.Proc, dir string) error {
	before, err := residentFiles(self)
	if err != nil {
		return err
	}
	tick := time.NewTicker(residentEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.stop:
			return nil
		case <-tick.C:
		}
		now, err := residentFiles(self)
		if err != nil {
			return err
		}
		if now < before+residentSlack {
			before = min(before, now)
			continue
		}
		if _, err := s.emptyMaps(self, dir); err != nil {
			return err
		}
		if before, err = residentFiles(self); err != nil {
			return err
		}
	}
}

// residentFiles returns the bytes of files that are in the process's resident set.
func residentFiles(self procfs.Proc) (uint64, error) {
	st, err := self.NewStatus()
	return st.RssFile, err
}

// emptyMaps takes the pages of the tables in dir out of the resident set, and returns of how many tables.
func (s *Store) emptyMaps(self procfs.Proc, dir string) (tables int, err error) {
	if !s.life.TryRLock() {
		return 0, nil // it is being closed, and that waits for this
	}
	defer s.life.RUnlock()
	if s.closed || s.panicked.Load() {
		return 0, nil
	}
	defer func() {
		if p := recover(); p != nil { // see snapshot.guard
			err = s.panickedWith(p)
		}
	}()
	held, letGo := holdTables(s.db)
	defer letGo()
	mapped, err := self.ProcMaps()
	if err != nil {
		return 0, err
	}
	for _, m := range mapped {
		if !m.Perms.Shared || filepath.Dir(m.Pathname) != dir || !held[filepath.Base(m.Pathname)] {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.StartAddr, m.EndAddr-m.StartAddr, unix.MADV_DONTNEED); errno != 0 {
			return tables, fmt.Errorf("madvise %s: %w", m.Pathname, errno)
		}
		tables++
	}
	return tables, nil
}

// holdTables returns the names of the files of tables whose maps stay where they are until letGo is called. Without that, what is mapped next at the
// address of one that went away, memory of Go's perhaps, could be emptied in its place.
//
// An iterator holds the tables that it finds. Those that were there both before and after it was made it has found, for none comes back or changes its level.
func holdTables(db *badger.DB) (held map[string]bool, letGo func()) {
	before := tableNames(db)
	txn := db.NewTransactionAt(0, false) // nothing is read
	it := txn.NewIterator(badger.IteratorOptions{})
	held = tableNames(db)
	maps.DeleteFunc(held, func(name string, _ bool) bool { return !before[name] })
	return held, func() {
		it.Close()
		txn.Discard()
	}
}

// tableNames returns the names of the files of all tables.
func tableNames(db *badger.DB) map[string]bool {
	names := make(map[string]bool)
	for _, t := range db.Tables() {
		names[table.IDToFilename(t.ID)] = true
	}
	return names
}
