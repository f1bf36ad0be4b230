package badgerstore_test

import (
	"testing"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
	"github.com/anabranch-db/anabranch/replica/storetest"
)

func open(t *testing.T, o badgerstore.Options) *badgerstore.Store {
	t.Helper()
	s, err := badgerstore.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStore(t *testing.T) {
	modes := []badgerstore.SyncMode{badgerstore.SyncAlways, badgerstore.SyncInterval, badgerstore.SyncNever}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			if testing.Short() && mode != badgerstore.SyncAlways {
				t.Skip("the default mode only")
			}
			storetest.Run(t, func(t *testing.T) store.Store {
				return open(t, badgerstore.Options{Dir: t.TempDir() + "/s", Sync: mode})
			})
			storetest.RunDurable(t, func(t *testing.T, dir string) store.Store {
				return open(t, badgerstore.Options{Dir: dir + "/s", Sync: mode})
			})
		})
	}
}
