package badgerstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// mountSmall mounts a file system of the given size, or skips the test.
func mountSmall(t *testing.T, bytes int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("anabranch-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skipf("not tested: mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// Without the floor the process would die of SIGBUS somewhere in here.
func TestDiskFull(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 100 MB")
	}
	dir := mountSmall(t, 160<<20)
	o := small(filepath.Join(dir, "s"))
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 30<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	s := open(t, o)
	c := contents{}
	first := fillUntilFull(t, s, c, 0)
	if err := c.check(s); err != nil {
		t.Errorf("reading on the full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if second := fillUntilFull(t, s, c, first); second <= first {
		t.Errorf("no commit after there was space again")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t // how much a compaction has given back by now differs
	if err := unix.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	if left := int64(fs.Bavail)*fs.Bsize - 8<<20; left > 0 {
		if err := os.WriteFile(ballast, make([]byte, left), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantOpenError(t, o, store.ErrNoSpace, "MiB are free")
	if err := unix.Mount("anabranch-test", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%d", 400<<20)); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, o.Dir, c); err != nil {
		t.Error(err)
	}
}

// fillUntilFull commits from number i on until it is refused, and returns the number of the first one refused.
func fillUntilFull(t *testing.T, s *badgerstore.Store, c contents, i int) int {
	t.Helper()
	rng := rand.New(rand.NewPCG(9, uint64(i)))
	for ; i < 1000; i++ {
		value := make([]byte, 250<<10)
		for j := range value {
			value[j] = byte(rng.Uint32())
		}
		key := fmt.Sprintf("k%d", i%100)
		var b store.Batch
		b.Put([]byte(key), value)
		err := s.Commit(&b)
		if errors.Is(err, store.ErrNoSpace) {
			t.Logf("full after %d commits", i)
			return i
		}
		if err != nil {
			t.Fatal(err)
		}
		c[key] = string(value)
	}
	t.Fatal("the disk is never full")
	return i
}
