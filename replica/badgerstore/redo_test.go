package badgerstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

// largeBatch is beyond what one transaction takes with the smallest memtables.
func largeBatch() *store.Batch {
	b := new(store.Batch)
	for i := range 40 {
		b.Put(fmt.Appendf(nil, "k%02d", i), fmt.Appendf(nil, "%0100000d", i))
	}
	b.Delete([]byte("old"))
	return b
}

func openSmall(t *testing.T, dir string) (*Store, error) {
	t.Helper()
	return Open(Options{Dir: dir, MemTableBytes: minMemTableBytes})
}

// countKeys returns how many keys there are, and whether "old" is one.
func countKeys(t *testing.T, s *Store) (n int, old bool) {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	for key, err := range sn.Keys(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		old = old || string(key) == "old"
	}
	return n, old
}

// A crash at each step of a large commit: after the redo file is there, the commit is whole; before, it is not.
func TestLargeCommitSurvivesACrashAtEachStep(t *testing.T) {
	ops := func(b *store.Batch) (list []store.BatchOp, keys []string) {
		for key, op := range b.All() {
			list, keys = append(list, op), append(keys, key)
		}
		return list, keys
	}
	tests := []struct {
		name   string
		do     func(t *testing.T, s *Store, ts uint64, b *store.Batch) error
		keys   int
		remain bool // old
		err    error
	}{
		{"before the redo file", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			return os.WriteFile(s.redoPath()+".tmp", packRedo(ts, b)[:1000], 0o600)
		}, 1, true, nil},
		{"after the redo file", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			return writeFile(s.redoPath(), packRedo(ts, b))
		}, 40, false, nil},
		{"half applied", applyHalf(ops, true), 40, false, nil},
		{"half applied and the redo file lost", applyHalf(ops, false), 0, false, store.ErrDamaged},
		{"the redo file damaged", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			text := packRedo(ts, b)
			text[len(text)/2] ^= 1
			return writeFile(s.redoPath(), text)
		}, 0, false, store.ErrDamaged},
		{"the redo file of another time", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			return writeFile(s.redoPath(), packRedo(ts+5, b))
		}, 0, false, store.ErrDamaged},
		{"before the redo file is removed", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			if err := s.writeLarge(ts, b); err != nil {
				return err
			}
			return writeFile(s.redoPath(), packRedo(ts, b))
		}, 40, false, nil},
		{"after all", func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
			if err := s.writeLarge(ts, b); err != nil {
				return err
			}
			txn := s.db.NewTransactionAt(ts, false)
			defer txn.Discard()
			if item, err := txn.Get(pendingKey); err != nil || item.Version() != ts || item.ValueSize() == 0 {
				t.Errorf("the commit was not marked as pending at its time: %v", err)
			}
			return nil
		}, 40, false, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s, err := openSmall(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var b store.Batch
			b.Put([]byte("old"), []byte("x"))
			if err := s.Commit(&b); err != nil {
				t.Fatal(err)
			}
			if s.fitsOneTxn(largeBatch()) {
				t.Fatal("the batch is not large")
			}
			if err := test.do(t, s, s.lastTs.Load()+1, largeBatch()); err != nil {
				t.Fatal(err)
			}
			if n, old := countKeys(t, s); n != 1 || !old {
				t.Errorf("%d keys can be seen before the commit is complete", n)
			}
			crashed := dir + "-crashed"
			if out, err := exec.Command("cp", "-a", "--sparse=always", dir, crashed).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			checkAfterCrash(t, crashed, test.keys, test.remain, test.err)
		})
	}
}

// applyHalf writes some of the transactions of a large commit.
func applyHalf(ops func(*store.Batch) ([]store.BatchOp, []string), keepFile bool) func(*testing.T, *Store, uint64, *store.Batch) error {
	return func(t *testing.T, s *Store, ts uint64, b *store.Batch) error {
		if keepFile {
			if err := writeFile(s.redoPath(), packRedo(ts, b)); err != nil {
				return err
			}
		}
		w := &redoWriter{s: s, ts: ts}
		err := w.put(pendingKey, store.BatchOp{Value: []byte("pending")})
		list, keys := ops(b)
		for i := range len(list) / 2 {
			err = errors.Join(err, w.put(engineKey([]byte(keys[i])), list[i]))
		}
		return errors.Join(err, w.flush())
	}
}

func checkAfterCrash(t *testing.T, dir string, keys int, remain bool, want error) {
	t.Helper()
	for range 2 {
		s, err := openSmall(t, dir)
		if want != nil {
			if !errors.Is(err, want) {
				t.Errorf("open: %v, want %v", err, want)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if n, old := countKeys(t, s); n != keys || old != remain {
			t.Errorf("%d keys, old is one: %v; want %d, %v", n, old, keys, remain)
		}
		if _, err := os.Stat(s.redoPath()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the redo file is still there: %v", err)
		}
		var b store.Batch
		b.Put([]byte("k01"), nil)
		b.Put([]byte("old"), nil)
		b.Delete([]byte("old"))
		if err := errors.Join(s.Commit(&b), s.Close()); err != nil {
			t.Fatal(err)
		}
		if keys == 1 {
			keys, remain = 1, false
		}
	}
}

func TestRedoFileOfTruncatedOrChangedBytesIsRefused(t *testing.T) {
	var b store.Batch
	b.Put([]byte("a"), []byte("1"))
	b.Put(nil, nil)
	b.Delete([]byte("b"))
	text := packRedo(7, &b)
	ts, got, err := parseRedo(text)
	if err != nil || ts != 7 || got.Len() != 3 || got.Bytes() != b.Bytes() {
		t.Fatalf("time %d, %v, %v", ts, got, err)
	}
	for i := range text {
		if _, _, err := parseRedo(text[:i]); err == nil {
			t.Errorf("cut at %d: no error", i)
		}
		changed := append([]byte(nil), text...)
		changed[i] ^= 1
		if _, _, err := parseRedo(changed); err == nil {
			t.Errorf("changed at %d: no error", i)
		}
	}
}

// A redo file is durable when it is written. If the commits before it were not, a power cut would leave a redo file that
// does not follow the last commit, and the store would not open.
func TestLargeCommitFirstSyncsWhatCameBefore(t *testing.T) {
	for _, mode := range []SyncMode{SyncInterval, SyncNever} {
		t.Run(mode.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			s, err := Open(Options{Dir: dir, Sync: mode, Interval: time.Hour, MemTableBytes: minMemTableBytes})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var b store.Batch
			b.Put([]byte("before"), []byte("x"))
			if err := s.Commit(&b); err != nil {
				t.Fatal(err)
			}
			if !s.dirty.Load() {
				t.Fatal("the commit was synced at once")
			}
			// The redo file cannot be written, so the large commit gets just as far as that.
			if err := os.Mkdir(s.redoPath()+".tmp", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := s.Commit(largeBatch()); !errors.Is(err, store.ErrReadOnly) {
				t.Fatalf("the large commit ends with %v", err)
			}
			if s.dirty.Load() {
				t.Error("the redo file would have been written before the commits that it follows were synced")
			}
		})
	}
}
