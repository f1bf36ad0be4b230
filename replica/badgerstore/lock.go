package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica/store"
)

const lockName = "LOCK"

// dirLock is a lock on the store's directory that ends with the process, however that ends. The file says who
// holds it, for people; only the kernel's lock counts, so a stale number does no harm.
type dirLock struct{ file *os.File }

// lockDir takes the lock before anything else in the directory is touched. Readers share it.
func lockDir(dir string, readOnly bool) (*dirLock, error) {
	path := filepath.Join(dir, lockName)
	flags, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if readOnly {
		flags, how = os.O_RDONLY, unix.LOCK_SH
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		if readOnly && errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open %s: there is no store: %w", dir, err)
		}
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		defer f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("open %s: %w by %s: stop that process, or use another directory", dir, store.ErrInUse, holder(f))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if !readOnly {
		err := f.Truncate(0)
		if err == nil {
			_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		}
		// On a full disk the number may be missing; the lock holds all the same.
		if err != nil && !errors.Is(err, unix.ENOSPC) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return &dirLock{f}, nil
}

// IsStore reports whether the directory has anything of a store, whole or not.
func IsStore(dir string) bool {
	for _, name := range []string{sidecarName, anchorName, filepath.Base(dataDir(dir))} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Lock keeps other processes from opening the store in dir until unlock is called; store.ErrInUse if one has it open.
func Lock(dir string) (unlock func() error, err error) {
	l, err := lockDir(dir, false)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}

// holder says who has the lock, as far as the file tells.
func holder(f *os.File) string {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	pid, perr := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || perr != nil {
		return "another process"
	}
	return fmt.Sprintf("process %d", pid)
}

func (l *dirLock) release() error { return l.file.Close() }
