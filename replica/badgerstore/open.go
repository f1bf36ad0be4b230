package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Info describes a store.
type Info struct {
	ID      string // 128 random bits in hex, drawn when the store was made; copies have the same
	Format  int
	Created time.Time
}

// Open opens the store in Options.Dir, or makes one if the directory is missing or empty. Before Badger sees a
// file the store is examined, since Badger deletes what it cannot account for. The error wraps one of store's: ErrInUse,
// ErrNoSpace, ErrNewerFormat, or ErrDamaged, in which case nothing was changed.
func Open(o Options) (*Store, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := prepareDir(o.Dir, o.ReadOnly); err != nil {
		return nil, err
	}
	lock, err := lockDir(o.Dir, o.ReadOnly)
	if err != nil {
		return nil, err
	}
	s, err := openLocked(o, lock)
	if err != nil {
		return nil, errors.Join(err, lock.release())
	}
	return s, nil
}

func openLocked(o Options, lock *dirLock) (*Store, error) {
	s := &Store{
		opts: o, lock: lock, log: newLogger(o.Logger, o.Dir), space: newSpaceGuard(o.Dir, o.MinFreeBytes),
		snapshots: make(map[*snapshot]struct{}), stop: make(chan struct{}), stuck: make(chan struct{}),
	}
	s.log.flushFailed = s.noteFlushError
	sc, err := readSidecar(o.Dir)
	if err != nil {
		return nil, err
	}
	if sc == nil || sc.Phase == phaseNew {
		if sc, err = s.create(sc); err != nil {
			return nil, err
		}
	}
	if !o.ReadOnly {
		if err := s.space.check(0); err != nil {
			return nil, fmt.Errorf("open %s: %w", o.Dir, err)
		}
	}
	if err := s.begin(sc); err != nil {
		return nil, err
	}
	s.info = Info{ID: sc.ID, Format: sc.Format, Created: sc.Created}
	if o.Sync == SyncInterval && !o.ReadOnly {
		s.stopped.Add(1)
		go s.syncEvery(o.Interval)
	}
	if !o.ReadOnly {
		s.startCompaction()
	}
	s.startReleasing()
	return s, nil
}

// prepareDir makes the directory, or checks that nobody else may write to it.
func prepareDir(dir string, readOnly bool) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) && !readOnly {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("open %s: it is not a directory", dir)
	}
	if perm := fi.Mode().Perm(); perm&0o022 != 0 {
		return fmt.Errorf("open %s: other users may write to it (mode %04o): chmod 700 it first", dir, perm)
	}
	return nil
}

// create begins a store in an empty directory, or once more where making one was interrupted.
func (s *Store) create(sc *sidecar) (*sidecar, error) {
	dir := s.opts.Dir
	if s.opts.ReadOnly {
		return nil, fmt.Errorf("open %s: there is no store: %w", dir, fs.ErrNotExist)
	}
	if sc == nil {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", dir, err)
		}
		for _, e := range entries {
			switch e.Name() {
			case lockName, sidecarName + ".tmp":
			case filepath.Base(dataDir(dir)), anchorName:
				return nil, damaged(dir, "the file %s is missing", sidecarName)
			default:
				// A node keeps files of its own beside the store (its identity, its control socket). Folders mean that
				// somebody else lives here.
				if e.IsDir() {
					return nil, fmt.Errorf("open %s: it is not a store and holds the folder %s: name an empty or new directory", dir, e.Name())
				}
			}
		}
		sc = &sidecar{Format: formatVersion, ID: randomHex(storeIDBytes), Created: time.Now().UTC().Truncate(time.Second), Phase: phaseNew}
		if err := sc.write(dir); err != nil {
			return nil, err
		}
	}
	if err := os.RemoveAll(dataDir(dir)); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := os.Mkdir(dataDir(dir), 0o700); err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	return sc, nil
}

// begin examines the files, opens Badger and finds the last commit.
func (s *Store) begin(sc *sidecar) error {
	dir := s.opts.Dir
	found, err := s.examine(sc)
	if err != nil {
		return err
	}
	if !s.opts.ReadOnly {
		if err := found.repair(); err != nil {
			return fmt.Errorf("open %s: %w", dir, err)
		}
		if !found.undisturbed {
			if err := newAnchor(dir); err != nil {
				return err
			}
		}
		if sc.Phase != phaseNew {
			if sc.Phase != phaseClosed {
				// What the last session wrote may not be durable yet, and the sidecar is about to say that it is there.
				if err := syncLogs(dataDir(dir)); err != nil {
					return fmt.Errorf("open %s: %w", dir, err)
				}
			}
			sc.Last = found.last
			if err := s.enter(sc, phaseOpening); err != nil {
				return err
			}
		}
	}
	if s.db, err = openBadger(s.opts, found.tableBytes, s.log); err != nil {
		return err
	}
	if err := s.resume(sc, found); err != nil {
		return errors.Join(err, s.db.Close())
	}
	return nil
}

// resume brings the open Badger to the state of the last complete commit.
func (s *Store) resume(sc *sidecar, found *findings) error {
	dir := s.opts.Dir
	last := s.db.MaxVersion()
	if last < found.last {
		return damagedInside(dir, "Badger reads up to commit %d, but commit %d is in its files", last, found.last)
	}
	s.published(last)
	if s.opts.ReadOnly {
		return nil
	}
	if err := s.redo(found.redo); err != nil {
		return err
	}
	sc.Last = s.lastTs.Load()
	if err := s.enter(sc, phaseOpen); err != nil {
		return err
	}
	s.anchor = readAnchor(dir)
	s.sidecar = *sc
	return nil
}

// enter notes in the sidecar file that a phase begins.
func (s *Store) enter(sc *sidecar, p phase) error {
	sc.Phase, sc.Sync, sc.Boot, sc.Files = p, s.opts.Sync.String(), bootID(), ""
	if p == phaseClosed {
		var err error
		if sc.Files, err = fingerprint(dataDir(s.opts.Dir)); err != nil {
			return fmt.Errorf("close %s: %w", s.opts.Dir, err)
		}
	}
	return sc.write(s.opts.Dir)
}

// openBadger opens Badger, and turns a panic of it into an error. (A panic in a goroutine of Badger's cannot be
// caught: that is why the tables are examined first.)
func openBadger(o Options, stored int64, log *logger) (db *badger.DB, err error) {
	defer func() {
		if p := recover(); p != nil {
			db, err = nil, damagedInside(o.Dir, "Badger panicked: %v", p)
		}
	}()
	if db, err = badger.OpenManaged(badgerOptions(o, stored, log)); err != nil {
		return nil, fmt.Errorf("open %s: %w", o.Dir, err)
	}
	return db, nil
}

func badgerOptions(o Options, stored int64, log *logger) badger.Options {
	b := badger.DefaultOptions(dataDir(o.Dir)).WithLogger(log)
	b.ReadOnly = o.ReadOnly
	b.SyncWrites = false      // see activelog.go
	b.DetectConflicts = false // there is one writer
	b.MetricsEnabled = false  // they are global to the process
	b.NumVersionsToKeep = 1

	// Values stay in the tables, so the value log stays empty and is as small as it can be: it must not be
	// smaller than a value.
	b.ValueThreshold = store.MaxValueBytes + 1
	b.ValueLogFileSize = 2 * b.ValueThreshold

	b.MemTableSize = o.MemTableBytes
	b.NumMemtables = 2
	b.NumCompactors = 2
	// Badger keeps eight table builders, each several times as large as a table, for as long as it has work for one.
	b.BaseTableSize = tableSize(stored)
	b.TableSizeMultiplier = 1
	b.BlockSize = 8 << 10 // with 4 KiB a store takes 6 % more disk
	b.Compression = tableCompression
	b.BlockCacheSize = o.BlockCacheBytes
	b.IndexCacheSize = 0 // the indexes are read through the memory map
	return b
}
