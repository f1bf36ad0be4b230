package badgerstore_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// wantOpenError checks that Open refuses with the error and says so in words.
func wantOpenError(t *testing.T, o badgerstore.Options, want error, words ...string) {
	t.Helper()
	s, err := badgerstore.Open(o)
	if err == nil {
		s.Close()
		t.Fatalf("opened, want an error")
	}
	if want != nil && !errors.Is(err, want) {
		t.Errorf("got %q, want it to be %q", err, want)
	}
	for _, w := range append(words, o.Dir) {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error %q does not say %q", err, w)
		}
	}
}

func newDir(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

func TestSecondOpenIsRefusedAndNamesTheHolder(t *testing.T) {
	o := small(newDir(t))
	s := open(t, o)
	wantOpenError(t, o, store.ErrInUse, fmt.Sprintf("process %d", os.Getpid()))
	o.ReadOnly = true
	wantOpenError(t, o, store.ErrInUse)
	o.ReadOnly = false
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, o).Close()
}

func TestNewerFormatIsRefused(t *testing.T) {
	o := small(newDir(t))
	open(t, o).Close()
	if err := badgerstore.SetFormat(o.Dir, 7); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, o, store.ErrNewerFormat, "format 7", "up to 1", "upgrade")
}

func TestDirectoryOthersMayWriteToIsRefused(t *testing.T) {
	o := small(newDir(t))
	open(t, o).Close()
	fi, err := os.Stat(o.Dir)
	if err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("made with mode %v, %v", fi.Mode(), err)
	}
	if err := os.Chmod(o.Dir, 0o770); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, o, nil, "0770", "chmod 700")
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	o := small(newDir(t))
	if err := os.MkdirAll(filepath.Join(o.Dir, "letters"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantOpenError(t, o, nil, "letters", "empty or new directory")
}

func TestFilesBesideTheStoreAreLeftAlone(t *testing.T) {
	o := small(newDir(t))
	file := filepath.Join(o.Dir, "identity")
	if err := os.Mkdir(o.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		open(t, o).Close()
		if text, err := os.ReadFile(file); string(text) != "secret" {
			t.Errorf("the file is now %q, %v", text, err)
		}
	}
	o.Dir = file
	wantOpenError(t, o, nil, "not a directory")
}

func TestReadOnly(t *testing.T) {
	o := small(newDir(t))
	ro := o
	ro.ReadOnly = true
	wantOpenError(t, ro, fs.ErrNotExist)
	s := open(t, o)
	c := contents{}
	c.commit(t, s, map[string]string{"a": "1", "b": "2"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, second := open(t, ro), open(t, ro)
	defer second.Close()
	for _, s := range []*badgerstore.Store{s, second} {
		if err := c.check(s); err != nil {
			t.Error(err)
		}
	}
	var b store.Batch
	b.Put([]byte("a"), nil)
	if err := s.Commit(&b); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("commit: %v", err)
	}
	if err := errors.Join(s.Sync(), s.Close()); err != nil {
		t.Error(err)
	}
}

func TestReadOnlyNeedsACleanlyClosedStore(t *testing.T) {
	dir, _ := killed(t)
	o := small(dir)
	o.ReadOnly = true
	wantOpenError(t, o, store.ErrReadOnly, "open it for writing once")
}

func TestBadOptionsAreRefused(t *testing.T) {
	dir := newDir(t)
	for name, o := range map[string]badgerstore.Options{
		"no directory":     {},
		"unknown sync":     {Dir: dir, Sync: 7},
		"small memtable":   {Dir: dir, MemTableBytes: 1},
		"large memtable":   {Dir: dir, MemTableBytes: 1 << 40},
		"negative seconds": {Dir: dir, Interval: -1},
	} {
		t.Run(name, func(t *testing.T) { wantOpenError(t, o, nil) })
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory was made: %v", err)
	}
}

// A killed process may leave a log that has no length yet.
func TestEmptyLogIsRemoved(t *testing.T) {
	dir, want := killed(t)
	if err := os.WriteFile(filepath.Join(dir, "data", "00099.mem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, dir, want); err != nil {
		t.Error(err)
	}
}

func TestInterruptedCreationBeginsAnew(t *testing.T) {
	o := small(newDir(t))
	first := open(t, o).Info()
	if err := badgerstore.SetPhase(o.Dir, "new"); err != nil {
		t.Fatal(err)
	}
	first2 := open(t, small(copyDir(t, o.Dir)))
	defer first2.Close()
	if first2.Info().ID != first.ID {
		t.Error("the ID changed")
	}
}

func TestInfoStays(t *testing.T) {
	o := small(newDir(t))
	s := open(t, o)
	info := s.Info()
	if len(info.ID) != 32 || info.Format != 1 || info.Created.IsZero() {
		t.Errorf("got %+v", info)
	}
	s.Close()
	s = open(t, o)
	defer s.Close()
	if s.Info() != info {
		t.Errorf("got %+v, was %+v", s.Info(), info)
	}
}

func TestVerifyTables(t *testing.T) {
	dir, _ := closed(t)
	ctx := context.Background()
	var done, total int
	if err := badgerstore.VerifyTables(ctx, dir, func(d, n int) { done, total = d, n }); err != nil {
		t.Fatal(err)
	}
	if done != total || total < 2 {
		t.Errorf("%d of %d tables", done, total)
	}
	var tables []string
	for _, f := range files(t, dir) {
		if strings.HasSuffix(f, ".sst") {
			tables = append(tables, f)
		}
	}
	bad := mutate(t, mutate(t, dir, tables[0], "byte at 1/4"), tables[1], "half")
	err := badgerstore.VerifyTables(ctx, bad, nil)
	if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), filepath.Base(tables[0])) || !strings.Contains(err.Error(), filepath.Base(tables[1])) {
		t.Errorf("got %v", err)
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if err := badgerstore.VerifyTables(stopped, dir, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
