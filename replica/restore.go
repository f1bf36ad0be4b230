package replica

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// ErrNotEmpty says that there is something where a backup is to be restored.
var ErrNotEmpty = errors.New("directory is not empty")

// RestoreOptions say where a backup goes.
type RestoreOptions struct {
	// Dir is the store directory to be made. It must not exist, or be empty.
	Dir string
	// Replace moves a directory that is not empty aside, and takes over the files that Keep names, unless the backup has them.
	Replace bool
	Keep    []string // with slashes; a name that ends with one is a directory, of which all files are meant
	// Progress, if not nil, is called now and then.
	Progress func(entries, bytes int64)
	// Logger takes what the store reports; nil: nothing.
	Logger *slog.Logger
}

// Restored tells what Restore did.
type Restored struct {
	Header  backup.Header
	Summary backup.Summary
	Files   []string // that the backup had, and those that were kept
	Moved   string   // where the former directory is; empty if there was none
}

// Restore makes a store of a backup. It is built beside Dir, checked as a whole, made durable, and only then given its name; after an error
// Dir is as it was. At its first opening the store begins a new life: it writes under a fresh ReplicaID, and gets from its peers what
// the backup lacks, writes of its own included.
func Restore(ctx context.Context, r io.Reader, o RestoreOptions) (done Restored, err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	occupied, err := isOccupied(o.Dir)
	if err != nil {
		return done, err
	}
	if occupied && !o.Replace {
		return done, fmt.Errorf("restore into %s: %w: name a directory that does not exist, or say that this one is to be replaced", o.Dir, ErrNotEmpty)
	}
	if occupied && !badgerstore.IsStore(o.Dir) {
		return done, fmt.Errorf("restore into %s: %w: and what it holds is no store, so it is not replaced", o.Dir, ErrNotEmpty)
	}
	b, err := backup.NewReader(r)
	if err != nil {
		return done, err
	}
	done.Header = b.Header()
	var id [4]byte
	rand.Read(id[:])
	building := filepath.Clean(o.Dir) + ".restoring-" + hex.EncodeToString(id[:])
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(building))
		}
	}()
	files, err := fill(ctx, b, building, o)
	if err != nil {
		return done, err
	}
	done.Summary = b.Sum()
	if occupied {
		if err := carryOver(o, files); err != nil {
			return done, err
		}
	}
	for name, content := range files {
		if err := writeNewFile(filepath.Join(building, filepath.FromSlash(name)), content); err != nil {
			return done, err
		}
		done.Files = append(done.Files, name)
	}
	slices.Sort(done.Files)
	done.Moved, err = activate(building, o.Dir, occupied)
	return done, err
}

func isOccupied(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return len(entries) > 0, err
}

// One commit of a restore: what Badger takes in one transaction.
const (
	restoreBytes   = 1 << 20
	restoreEntries = 4096
)

// fill makes the store and returns the files of the backup. When it returns without an error everything was checked and is on disk.
func fill(ctx context.Context, b *backup.Reader, dir string, o RestoreOptions) (files map[string][]byte, err error) {
	st, err := badgerstore.Open(badgerstore.Options{Dir: dir, Sync: badgerstore.SyncNever, Logger: o.Logger})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	files = make(map[string][]byte)
	batch := new(store.Batch)
	commit := func() error {
		if o.Progress != nil {
			o.Progress(b.Sum().Entries, b.Sum().Bytes)
		}
		full := batch
		batch = new(store.Batch)
		return errors.Join(context.Cause(ctx), st.Commit(full))
	}
	_, err = b.Read(backup.Visitor{
		File: func(name string, content []byte) error {
			files[name] = bytes.Clone(content)
			return nil
		},
		Entry: func(key, value []byte) error {
			batch.Put(key, bytes.Clone(value))
			if batch.Bytes() < restoreBytes && batch.Len() < restoreEntries {
				return nil
			}
			return commit()
		},
	})
	if err == nil && batch.Len() > 0 {
		err = commit()
	}
	if err != nil {
		return nil, err
	}
	return files, compareSpaces(st, b.Header())
}

// compareSpaces checks that the store holds what the header says.
func compareSpaces(st store.Store, h backup.Header) error {
	snap, err := st.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	spaces, err := describeSpaces(snap)
	if err != nil {
		return fmt.Errorf("%w: what it holds is no store: %w", backup.ErrDamaged, err)
	}
	if !slices.Equal(spaces, h.Spaces) {
		return fmt.Errorf("%w: its header tells of the spaces %v, and it holds %v", backup.ErrDamaged, h.Spaces, spaces)
	}
	return nil
}

// carryOver adds files of the former directory that the backup lacks.
func carryOver(o RestoreOptions, files map[string][]byte) error {
	for _, name := range o.Keep {
		names := []string{name}
		if strings.HasSuffix(name, "/") {
			entries, err := os.ReadDir(filepath.Join(o.Dir, filepath.FromSlash(name)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			names = names[:0]
			for _, e := range entries {
				names = append(names, name+e.Name())
			}
		}
		for _, name := range names {
			if _, ok := files[name]; ok {
				continue
			}
			content, err := os.ReadFile(filepath.Join(o.Dir, filepath.FromSlash(name)))
			if err == nil {
				files[name] = content
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// writeNewFile writes a file that must not be there, so that no file of the store is replaced.
func writeNewFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// activate gives the new directory its name. The former one is moved aside first, while nobody has it open.
func activate(building, dir string, occupied bool) (moved string, err error) {
	if err := syncTree(building); err != nil {
		return "", err
	}
	dir = filepath.Clean(dir)
	if occupied {
		unlock, err := badgerstore.Lock(dir)
		if err != nil {
			return "", err
		}
		moved = dir + ".before-" + time.Now().UTC().Format("20060102T150405.000")
		if err := errors.Join(os.Rename(dir, moved), unlock()); err != nil {
			return "", err
		}
	}
	if err := os.Rename(building, dir); err != nil {
		if occupied {
			err = errors.Join(err, os.Rename(moved, dir))
		}
		return "", err
	}
	return moved, syncDir(filepath.Dir(dir))
}

// syncTree makes the names in a directory, and in those in it, durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
