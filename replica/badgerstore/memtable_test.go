package badgerstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// When Badger cannot make the file of its next memtable, it fails the commit and has no memtable any more: whoever reads then would
// meet a nil pointer.
func TestStoreWithoutAMemtableIsReadOnly(t *testing.T) {
	dir, c := filepath.Join(t.TempDir(), "s"), contents{}
	s := open(t, small(dir))
	c.commit(t, s, map[string]string{"first": "x"})
	names, err := filepath.Glob(filepath.Join(dir, "data", "*.mem"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	var n int
	if _, err := fmt.Sscanf(filepath.Base(names[0]), "%d.mem", &n); err != nil {
		t.Fatal(err)
	}
	inTheWay := filepath.Join(dir, "data", fmt.Sprintf("%05d.mem", n+1))
	if err := os.Mkdir(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; err == nil; i++ {
		key, value := fmt.Sprint("k", i%10), strings.Repeat("x", 500<<10)+fmt.Sprint(i)
		var b store.Batch
		b.Put([]byte(key), []byte(value))
		if err = s.Commit(&b); err == nil {
			c[key] = value
		}
		if i == 1000 {
			t.Fatal("there is always a next memtable")
		}
	}
	if !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("the commit ends with %v", err)
	}
	if err := c.check(s); !errors.Is(err, store.ErrReadOnly) {
		t.Errorf("a scan ends with %v", err)
	}
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := sn.Get([]byte("first")); !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "open the store again") {
		t.Errorf("a read ends with %v", err)
	}
	sn.Close()
	if err := s.Close(); err != nil {
		t.Logf("close: %v", err)
	}
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	again, err := badgerstore.Open(small(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := c.check(again); err != nil {
		t.Error(err)
	}
}
