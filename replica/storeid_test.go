package replica_test

import (
	"path/filepath"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
)

func TestStoreIDStaysWithTheStore(t *testing.T) {
	dir := t.TempDir()
	id := func(name string) string {
		r, err := replica.Open(replica.Config{Dir: filepath.Join(dir, name)})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		return r.StoreID()
	}
	first := id("a")
	if again := id("a"); len(first) != 16 || again != first {
		t.Errorf("the store is %q, and after opening it again %q", first, again)
	}
	if other := id("b"); other == first {
		t.Errorf("two stores are %q", other)
	}
}
