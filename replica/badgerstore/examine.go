package badgerstore

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"
	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica/store"
)

// findings is what Open learns from the files before Badger sees them, and what is to be done about it.
type findings struct {
	last        uint64 // the last commit that is there
	undisturbed bool   // nobody touched the files since they were closed cleanly
	tableBytes  int64  // of all tables
	redo        *redoBatch
	remove      []string
	cut         []cut // after remove
}

type cut struct {
	path string
	size int64
}

// repair does what Badger would do too late, or not at all.
func (f *findings) repair() error {
	for _, path := range f.remove {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	for _, c := range f.cut {
		if err := os.Truncate(c.path, c.size); err != nil {
			return err
		}
	}
	return nil
}

// examination is one look at the files of a store that is not open.
type examination struct {
	findings
	dir, data string
	sc        *sidecar
	log       *logger
}

// examine checks that everything is there that Badger has been told to keep. It changes nothing.
func (s *Store) examine(sc *sidecar) (*findings, error) {
	x := &examination{dir: s.opts.Dir, data: dataDir(s.opts.Dir), sc: sc, log: s.log}
	if sc.Phase == phaseNew {
		return &x.findings, nil
	}
	if sc.Phase != phaseClosed && s.opts.ReadOnly {
		return nil, fmt.Errorf("open %s: %w: it was not closed cleanly and must be put in order first: open it for writing once", x.dir, store.ErrReadOnly)
	}
	if fi, err := os.Stat(x.data); err != nil || !fi.IsDir() {
		return nil, damaged(x.dir, "the directory %s is missing", filepath.Base(x.data))
	}
	if sc.Phase == phaseClosed {
		files, err := fingerprint(x.data)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", x.dir, err)
		}
		x.undisturbed = files == sc.Files && readAnchor(x.dir) != ""
	}
	orphans, err := x.tables()
	if err != nil {
		return nil, err
	}
	if err := x.logs(); err != nil {
		return nil, err
	}
	if err := x.account(orphans); err != nil {
		return nil, err
	}
	if x.findings.redo, err = readRedo(filepath.Join(x.dir, redoName)); err != nil {
		return nil, damaged(x.dir, "%v", err)
	}
	return &x.findings, x.useless()
}

// deepCheckBytes is how much of tables Open reads in full, at about a gigabyte a second. Of a larger store it reads
// the indexes and the last blocks, which is what Badger cannot survive; for the rest there is VerifyTables.
const deepCheckBytes = 256 << 20

// tables checks the tables in the manifest, and sets last to the last commit in them. It returns the greatest
// time in tables that the manifest does not name.
func (x *examination) tables() (orphans uint64, err error) {
	manifest, err := readManifest(x.data)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, damaged(x.dir, "the file %s is missing", badger.ManifestFilename)
	}
	if err != nil {
		return 0, damaged(x.dir, "the file %s cannot be read: %v", badger.ManifestFilename, err)
	}
	files, err := tableFiles(x.data)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", x.dir, err)
	}
	x.tableBytes = tableBytes(x.data, manifest)
	deep := x.tableBytes <= deepCheckBytes
	for id, m := range manifest {
		info, err := checkTable(table.NewFilename(id, x.data), m.Compression, deep)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, damaged(x.dir, "the table %s is missing", table.IDToFilename(id))
		}
		if err != nil {
			return 0, damaged(x.dir, "the table %s: %v", table.IDToFilename(id), err)
		}
		x.last = max(x.last, info.maxVersion)
	}
	for _, id := range files {
		if _, ok := manifest[id]; ok {
			continue
		}
		// One that is not whole is a crash while it was written; then its contents are elsewhere.
		if info, err := checkTable(table.NewFilename(id, x.data), tableCompression, true); err == nil {
			orphans = max(orphans, info.maxVersion)
		}
	}
	return orphans, nil
}

func tableBytes(data string, manifest map[uint64]badger.TableManifest) (sum int64) {
	for id := range manifest {
		if fi, err := os.Stat(table.NewFilename(id, data)); err == nil {
			sum += fi.Size()
		}
	}
	return sum
}

// logs goes on from last through the logs, oldest first.
func (x *examination) logs() (err error) {
	logs, err := logFiles(x.data)
	if err != nil {
		return fmt.Errorf("open %s: %w", x.dir, err)
	}
	empty := 0
	defer func() {
		// A new log is made while the full one before it is still there, so an open store has one that is not empty.
		if err == nil && empty == len(logs) && x.sc.Phase == phaseOpen {
			err = damaged(x.dir, "the log is missing or empty")
		}
	}()
	for i, path := range logs {
		fi, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("open %s: %w", x.dir, err)
		}
		// A crash between making a log and giving it its size, or between emptying and removing it. Badger would
		// refuse to open the store.
		if fi.Size() == 0 {
			empty++
			x.remove = append(x.remove, path)
			continue
		}
		lost, err := x.oneLog(path)
		if err != nil {
			return err
		}
		if lost {
			x.remove = append(x.remove, logs[i+1:]...)
			return nil
		}
	}
	return nil
}

// torn reports whether commits that are not whole may just be ones that never became durable: the machine went
// down, and the store was not set to sync each commit. The end of the process alone loses nothing.
func (x *examination) torn() bool {
	return x.sc.Sync != SyncAlways.String() && x.rebooted()
}

func (x *examination) rebooted() bool { return x.sc.Boot == "" || x.sc.Boot != bootID() }

// oneLog goes through one log. lost says that what follows it must go, too: a commit before it was lost.
func (x *examination) oneLog(path string) (lost bool, err error) {
	name := filepath.Base(path)
	whole, gap := int64(logHeaderBytes), uint64(0)
	end, open, err := scanLog(path, func(ts uint64, at int64) bool {
		if ts > x.last+1 {
			gap = ts
			return false
		}
		x.last, whole = max(x.last, ts), at
		return true
	})
	if err != nil {
		return false, fmt.Errorf("open %s: %s: %w", x.dir, name, err)
	}
	switch {
	case gap != 0 && !x.torn():
		return false, damaged(x.dir, "commits %d to %d are missing before the log %s", x.last+1, gap-1, name)
	case gap != 0:
		x.log.Warn("commits that were not yet durable are lost", "first", x.last+1)
		x.cut = append(x.cut, cut{path, whole})
		return true, nil
	case end == endHeader:
		return false, damaged(x.dir, "the log %s begins with something unknown", name)
	case end == endShort, end == endFile && open:
		return false, damaged(x.dir, "the log %s is cut short", name)
	case end == endJunk, end == endZeros:
		return x.rest(path, whole, end)
	}
	return false, nil
}

// rest decides whether what follows the last whole commit of a log is one that the crash interrupted.
func (x *examination) rest(path string, whole int64, end logEnd) (lost bool, err error) {
	beyond, err := lastEndBeyond(path, whole)
	if err != nil {
		return false, fmt.Errorf("open %s: %s: %w", x.dir, filepath.Base(path), err)
	}
	// The end of a commit is written after all the rest of it. But on the disk it may come first, if the
	// machine went down before the commit was synced; later commits then had not begun.
	if beyond > x.last+1 && !x.torn() || beyond == x.last+1 && !x.rebooted() {
		return false, damaged(x.dir, "the log %s has a fault after commit %d and goes on to commit %d", filepath.Base(path), x.last, beyond)
	}
	if beyond == 0 && end == endZeros {
		return false, nil
	}
	x.log.Warn("a commit that was not written whole is dropped", "after", x.last)
	x.cut = append(x.cut, cut{path, whole})
	return x.torn(), nil
}

// account compares what was found with what must be there.
func (x *examination) account(orphans uint64) error {
	if orphans > x.last {
		return damaged(x.dir, "the file %s is cut short: commits up to %d are in tables that it does not name", badger.ManifestFilename, orphans)
	}
	if x.last < x.sc.Last {
		return damaged(x.dir, "the last commit is %d, and there was a commit %d", x.last, x.sc.Last)
	}
	if x.sc.Phase == phaseClosed && x.last > x.sc.Last {
		return damaged(x.dir, "the last commit is %d, and the store was closed at %d", x.last, x.sc.Last)
	}
	return nil
}

// useless has the files removed that Badger wants and we do not use, so that damage to them does no harm: the
// value log, which stays empty, its statistics, and the list of encryption keys.
func (x *examination) useless() error {
	entries, err := os.ReadDir(x.data)
	if err != nil {
		return fmt.Errorf("open %s: %w", x.dir, err)
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".vlog") || name == "DISCARD" || name == badger.KeyRegistryFileName {
			x.remove = append(x.remove, filepath.Join(x.data, name))
		}
	}
	return nil
}

// fingerprint is a hash over name, inode, size and change time of each file of a directory. A change time cannot be
// set by a program, so a file that was replaced, or written to, shows.
func fingerprint(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	for _, e := range entries {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, e.Name()), &st); err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%q %d %d %d.%d\n", e.Name(), st.Ino, st.Size, int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
