package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

// Archive is what a Node can be asked of backups.
type Archive interface {
	// Backup writes a backup of the whole store, as it is at one moment, and checks what it writes.
	Backup(ctx context.Context, w io.Writer, o BackupOptions) (Backup, error)
}

// BackupOptions say what goes into a backup.
type BackupOptions struct {
	Secrets bool // the node's identity and other keys, with which another node can pass for this one
	// Progress, if not nil, is called now and then with how much was read.
	Progress func(entries, bytes int64)
}

// Backup tells what a backup holds.
type Backup struct {
	Store   string         `json:"store,omitempty"` // ID
	Created time.Time      `json:"created"`
	Program string         `json:"program,omitempty"`
	Spaces  []backup.Space `json:"spaces"`
	Files   []string       `json:"files,omitempty"`
	backup.Summary
}

// KeptFiles returns the names of the files that belong to a node and not to its store, and so stay with a directory whose store is
// replaced. One that ends with a slash is a directory.
func KeptFiles() []string { return []string{identityFile, "anabranch.toml", replica.KeysDir + "/"} }

const identityFile = "identity.pem"

// secretFiles returns the files of a store directory that hold keys: the node's, and those of the spaces that were made here.
func secretFiles(dir string) (map[string][]byte, error) {
	paths, err := keyfile.Dir{Path: filepath.Join(dir, replica.KeysDir)}.Files()
	if err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	for _, path := range append(paths, filepath.Join(dir, identityFile)) {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return nil, err
		}
		files[filepath.ToSlash(name)] = content
	}
	return files, nil
}

// Backup writes a backup.
func (l *Local) Backup(ctx context.Context, w io.Writer, o BackupOptions) (Backup, error) {
	var files map[string][]byte
	if o.Secrets {
		var err error
		if files, err = secretFiles(l.dir); err != nil {
			return Backup{}, err
		}
	}
	checked := newChecker(w)
	_, err := l.r.Backup(ctx, checked, replica.BackupOptions{Files: files, Program: l.version, Progress: o.Progress})
	return checked.finish(err)
}

// CheckBackup reads a backup from its beginning to its end and tells what is in it; what was read goes to w too, unless that is nil.
func CheckBackup(ctx context.Context, r io.Reader, w io.Writer, progress func(entries, bytes int64)) (Backup, error) {
	if w != nil {
		r = io.TeeReader(r, w)
	}
	b, err := backup.NewReader(r)
	if err != nil {
		return Backup{}, err
	}
	h := b.Header()
	out := Backup{Store: h.Store, Created: h.Created, Program: h.Program, Spaces: h.Spaces}
	entries := int64(0)
	out.Summary, err = b.Read(backup.Visitor{
		File: func(name string, _ []byte) error { out.Files = append(out.Files, name); return nil },
		Entry: func(_, _ []byte) error {
			if entries++; entries%1024 != 0 {
				return nil
			}
			if progress != nil {
				progress(entries, b.Sum().Bytes)
			}
			return context.Cause(ctx)
		},
	})
	return out, err
}

// checker passes on what is written through it, and reads it as a backup at the same time: a disk or a cable may fail, but what
// is written is known to be readable.
type checker struct {
	*io.PipeWriter
	done chan struct{}
	out  Backup
	err  error
}

func newChecker(w io.Writer) *checker {
	r, pipe := io.Pipe()
	c := &checker{PipeWriter: pipe, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.out, c.err = CheckBackup(context.Background(), r, w, nil)
		_ = r.CloseWithError(c.err) // whoever writes on learns of it; it returns nil
	}()
	return c
}

// finish returns what the reader says, or why the writer ended.
func (c *checker) finish(err error) (Backup, error) {
	_ = c.CloseWithError(err) // nil is the end of the stream; it returns nil
	<-c.done
	if err == nil {
		err = c.err
	}
	if err != nil {
		return Backup{}, fmt.Errorf("back up the store: %w", err)
	}
	return c.out, nil
}
