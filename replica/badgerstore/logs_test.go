package badgerstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

const logCommits = 60

// crashedWithTwoLogs returns a directory as a crash leaves it while a memtable is being flushed: two logs, of 30
// commits each. Commit i sets "n" to i and puts "k<i>".
func crashedWithTwoLogs(t *testing.T, mode SyncMode) (dir, first, second string) {
	t.Helper()
	orig := filepath.Join(t.TempDir(), "s")
	s, err := Open(Options{Dir: orig, MemTableBytes: minMemTableBytes, Sync: mode})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range logCommits {
		var b store.Batch
		b.Put([]byte("n"), []byte{byte(i)})
		b.Put(fmt.Appendf(nil, "k%02d", i), bytes.Repeat([]byte{byte(i)}, 1000))
		if err := s.Commit(&b); err != nil {
			t.Fatal(err)
		}
	}
	dir = orig + "-crashed"
	if out, err := exec.Command("cp", "-a", "--sparse=always", orig, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	logs, err := logFiles(dataDir(dir))
	if err != nil || len(logs) != 1 {
		t.Fatalf("%v, %v", logs, err)
	}
	first, second = logs[0], filepath.Join(dataDir(dir), "00077.mem")
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	at := endOf(t, first, logCommits/2)
	head, tail := bytes.Clone(text[:at]), append(bytes.Clone(text[:logHeaderBytes]), text[at:]...)
	if err := errors.Join(writeLog(first, head, len(text)), writeLog(second, tail, len(text))); err != nil {
		t.Fatal(err)
	}
	return dir, first, second
}

// endOf returns where the nth commit of a log ends.
func endOf(t *testing.T, path string, n int) (end int64) {
	t.Helper()
	if _, _, err := scanLog(path, func(_ uint64, at int64) bool { n--; end = at; return n > 0 }); err != nil || n > 0 {
		t.Fatalf("%d commits missing: %v", n, err)
	}
	return end
}

// writeLog writes a log as Badger leaves it: with zeros up to its full size.
func writeLog(path string, text []byte, size int) error {
	return errors.Join(os.WriteFile(path, bytes.TrimRight(text, "\x00"), 0o600), os.Truncate(path, int64(size)))
}

// commitsIn returns how many commits the store has, and fails unless they are the first ones.
func commitsIn(t *testing.T, s *Store) int {
	t.Helper()
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	n, ok, err := sn.Get([]byte("n"))
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return 0
	}
	for i := range logCommits {
		_, ok, err := sn.Get(fmt.Appendf(nil, "k%02d", i))
		if err != nil || ok != (i <= int(n[0])) {
			t.Errorf("the last commit is %d; commit %d is there: %v, %v", n[0], i, ok, err)
		}
	}
	return int(n[0]) + 1
}

// What is lost in the middle is damage, unless nobody had been told that it is durable; then all that followed
// must go, too, or history would have a hole.
func TestHolesInTheLogs(t *testing.T) {
	zero := func(t *testing.T, path string, from, to int64) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt(make([]byte, to-from), from)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	harm := []struct {
		name string
		do   func(t *testing.T, first, second string)
		left int // of 60 commits, if lost ones may be lost
	}{
		{"nothing is lost", func(t *testing.T, first, second string) {}, 60},
		{"the first log lacks its end", func(t *testing.T, first, second string) {
			zero(t, first, endOf(t, first, 20), endOf(t, first, 30))
		}, 20},
		{"the first log lacks a page", func(t *testing.T, first, second string) {
			zero(t, first, endOf(t, first, 10)+500, endOf(t, first, 12)+500)
		}, 10},
		{"the first log is gone", func(t *testing.T, first, second string) {
			if err := os.Remove(first); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"the second log lacks a page", func(t *testing.T, first, second string) {
			zero(t, second, endOf(t, second, 10)+500, endOf(t, second, 12)+500)
		}, 40},
		{"the second log is cut within a commit", func(t *testing.T, first, second string) {
			if err := os.Truncate(second, endOf(t, second, 10)+500); err != nil {
				t.Fatal(err)
			}
		}, -1},
	}
	for _, mode := range []SyncMode{SyncAlways, SyncInterval} {
		for _, boot := range []string{"same boot", "other boot"} {
			for _, h := range harm {
				t.Run(fmt.Sprintf("%v/%s/%s", mode, boot, h.name), func(t *testing.T) {
					want := h.left
					if want != logCommits && (mode == SyncAlways || boot == "same boot") {
						want = -1
					}
					dir, first, second := crashedWithTwoLogs(t, mode)
					h.do(t, first, second)
					if boot != "same boot" {
						if err := SetBoot(dir, boot); err != nil {
							t.Fatal(err)
						}
					}
					checkCommits(t, dir, want)
				})
			}
		}
	}
}

// checkCommits opens twice; want -1 is for a damaged store.
func checkCommits(t *testing.T, dir string, want int) {
	t.Helper()
	for range 2 {
		s, err := Open(Options{Dir: dir, MemTableBytes: minMemTableBytes})
		if want < 0 {
			if !errors.Is(err, store.ErrDamaged) {
				t.Errorf("open: %v, want damage", err)
			}
			if err == nil {
				s.Close()
			}
			continue // and the second time it must be refused again
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := commitsIn(t, s); got != want {
			t.Errorf("%d commits are left, want %d", got, want)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A power cut in the middle of the last commit of a store that syncs each: that one may be there in any part, even
// its end without its beginning.
func TestTornLastCommit(t *testing.T) {
	dir, _, second := crashedWithTwoLogs(t, SyncAlways)
	f, err := os.OpenFile(second, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(make([]byte, 400), endOf(t, second, 29)+100)
	if err = errors.Join(err, f.Close(), SetBoot(dir, "other")); err != nil {
		t.Fatal(err)
	}
	checkCommits(t, dir, 59)
}

func TestScanLogOfAnyBytes(t *testing.T) {
	_, first, _ := crashedWithTwoLogs(t, SyncNever)
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	end := endOf(t, first, 2)
	path := filepath.Join(t.TempDir(), "x.mem")
	for i := int64(0); i < end; i += 1 + i/100 { // each byte of the headers, and some of the values
		for _, bytes := range [][]byte{text[:i], flipped(text[:end], i)} {
			if err := os.WriteFile(path, bytes, 0o600); err != nil {
				t.Fatal(err)
			}
			n := 0
			how, open, err := scanLog(path, func(uint64, int64) bool { n++; return true })
			if err != nil {
				t.Fatal(err)
			}
			// The IV, bytes 8 to 19, is not used.
			if n == 2 && (i < 8 || i >= logHeaderBytes) {
				t.Errorf("byte %d: both commits are accepted; %v, %v", i, how, open)
			}
		}
	}
}

func flipped(text []byte, i int64) []byte {
	c := bytes.Clone(text)
	c[i] ^= 0x41
	return c
}
