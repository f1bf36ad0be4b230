package badgerstore

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// findings is what Open learns from the files before Badger sees them.
type findings struct {
	last        uint64   // the last commit that is there, as far as was looked; 0 in a new store
	undisturbed bool     // nobody touched the files since they were closed cleanly
	remove      []string // files to remove before Badger opens
}

func (f *findings) repair() error {
	for _, path := range f.remove {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) examine(sc *sidecar) (*findings, error) {
	f := &findings{last: sc.Last}
	if sc.Phase == phaseClosed {
		files, err := fingerprint(dataDir(s.opts.Dir))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", s.opts.Dir, err)
		}
		f.undisturbed = files == sc.Files && readAnchor(s.opts.Dir) != ""
	}
	return f, nil
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
