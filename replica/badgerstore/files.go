package badgerstore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFile replaces a file such that after a power cut it is either the old or the new one, and returns
// when it is durably the new one.
func writeFile(path string, data []byte) error {
	temp := path + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := os.Rename(temp, path); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return syncPath(filepath.Dir(path))
}

// syncPath makes a file's contents, or a directory's entries, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

const logSuffix = ".mem"

// syncLogs makes durable whatever Badger has been given. DB.Sync would do so for the newest log alone: after a
// power cut the one before it could lack its end, and history would have a hole. A log that vanishes meanwhile has
// become a table, and tables are synced when they are made.
func syncLogs(data string) error {
	entries, err := os.ReadDir(data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), logSuffix) {
			continue
		}
		if err := syncPath(filepath.Join(data, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return syncPath(data)
}

// diskBytes returns the space that the files beneath dir take. Badger's logs are sparse, so their length says nothing.
func diskBytes(dir string) int64 {
	var sum int64
	// What vanishes while we look is not there; the result is approximate anyway.
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // as said above
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}
