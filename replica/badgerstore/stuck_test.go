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

// Badger can write no table any more. It tries again for ever; commits and Close must not wait for ever.
func TestStoreThatCannotWriteItsTablesGivesUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for five attempts, a second each")
	}
	dir, c := filepath.Join(t.TempDir(), "s"), contents{}
	s := open(t, small(dir))
	var inTheWay []string
	for n := range 60 {
		path := filepath.Join(dir, "data", fmt.Sprintf("%06d.sst", n))
		if os.Mkdir(path, 0o700) == nil {
			inTheWay = append(inTheWay, path)
		}
	}
	var err error
	for i := 0; err == nil; i++ {
		key, value := fmt.Sprint("k", i%10), strings.Repeat("x", 500<<10)+fmt.Sprint(i)
		var b store.Batch
		b.Put([]byte(key), []byte(value))
		if err = s.Commit(&b); err == nil {
			c[key] = value
		}
		if i == 1000 {
			t.Fatal("there is always room")
		}
	}
	if !errors.Is(err, store.ErrReadOnly) || !strings.Contains(err.Error(), "cannot write its tables") {
		t.Errorf("the commit ends with %v", err)
	}
	if err := c.check(s); err != nil {
		t.Errorf("reading: %v", err)
	}
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "nothing is lost") {
		t.Errorf("close: %v", err)
	}
	// What Badger does in this process goes on, and so does the lock: the next process opens a copy.
	next := copyDir(t, dir)
	for _, path := range inTheWay {
		if err := os.Remove(filepath.Join(next, "data", filepath.Base(path))); err != nil {
			t.Fatal(err)
		}
	}
	again, err := badgerstore.Open(small(next))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := c.check(again); err != nil {
		t.Error(err)
	}
}
