package badgerstore_test

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Each benchmark has a twin named Bare that does the same with Badger's own API and comparable settings: judge by
// the ratio of the two in one run.

var quiet = slog.New(slog.DiscardHandler)

func benchStore(b *testing.B) *badgerstore.Store {
	b.Helper()
	s, err := badgerstore.Open(badgerstore.Options{Dir: b.TempDir() + "/s", Logger: quiet})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	return s
}

func benchBadger(b *testing.B) *badger.DB {
	b.Helper()
	o := badger.DefaultOptions(b.TempDir()).WithLogger(nil).WithSyncWrites(true).WithDetectConflicts(false).
		WithMetricsEnabled(false).WithMemTableSize(8 << 20).WithBlockCacheSize(16 << 20).WithNumCompactors(2)
	db, err := badger.Open(o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	return db
}

func benchKey(i int) []byte {
	return fmt.Appendf(nil, "documents/%012x", uint64(i)*0x9e3779b97f4a7c15>>16)
}

func benchValue() []byte {
	rng := rand.New(rand.NewPCG(1, 1))
	v := make([]byte, 120)
	for i := range v {
		v[i] = "0123456789abcdef"[rng.IntN(16)]
	}
	return v
}

func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 16, 128, 1000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			s, value := benchStore(b), benchValue()
			b.ResetTimer()
			for i := range b.N {
				var batch store.Batch
				for k := range n {
					batch.Put(benchKey(i*n+k), value)
				}
				if err := s.Commit(&batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
		b.Run(fmt.Sprintf("entries=%d/Bare", n), func(b *testing.B) {
			db, value := benchBadger(b), benchValue()
			b.ResetTimer()
			for i := range b.N {
				err := db.Update(func(txn *badger.Txn) error {
					for k := range n {
						if err := txn.Set(benchKey(i*n+k), value); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

const benchRecords = 100_000

func benchFill(b *testing.B, put func(first, n int)) {
	b.Helper()
	for i := 0; i < benchRecords; i += 1000 {
		put(i, 1000)
	}
	b.ResetTimer()
}

func benchFilledStore(b *testing.B) *badgerstore.Store {
	s, value := benchStore(b), benchValue()
	benchFill(b, func(first, n int) {
		var batch store.Batch
		for k := range n {
			batch.Put(benchKey(first+k), value)
		}
		if err := s.Commit(&batch); err != nil {
			b.Fatal(err)
		}
	})
	return s
}

func benchFilledBadger(b *testing.B) *badger.DB {
	db, value := benchBadger(b), benchValue()
	benchFill(b, func(first, n int) {
		err := db.Update(func(txn *badger.Txn) error {
			for k := range n {
				if err := txn.Set(benchKey(first+k), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	})
	return db
}

func BenchmarkGet(b *testing.B) {
	for name, offset := range map[string]int{"hit": 0, "miss": benchRecords} {
		b.Run(name, func(b *testing.B) {
			s := benchFilledStore(b)
			sn, err := s.Snapshot()
			if err != nil {
				b.Fatal(err)
			}
			defer sn.Close()
			rng := rand.New(rand.NewPCG(2, 2))
			for range b.N {
				if _, ok, err := sn.Get(benchKey(offset + rng.IntN(benchRecords))); err != nil || ok != (offset == 0) {
					b.Fatal(ok, err)
				}
			}
		})
		b.Run(name+"/Bare", func(b *testing.B) {
			db := benchFilledBadger(b)
			txn := db.NewTransaction(false)
			defer txn.Discard()
			rng := rand.New(rand.NewPCG(2, 2))
			for range b.N {
				item, err := txn.Get(benchKey(offset + rng.IntN(benchRecords)))
				if errors.Is(err, badger.ErrKeyNotFound) {
					continue
				}
				if err == nil {
					_, err = item.ValueCopy(nil)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	b.Run("entries", func(b *testing.B) {
		s := benchFilledStore(b)
		for range b.N {
			sn, err := s.Snapshot()
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range sn.Scan(nil, nil) {
				if err != nil {
					b.Fatal(err)
				}
			}
			sn.Close()
		}
		b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("keys", func(b *testing.B) {
		s := benchFilledStore(b)
		for range b.N {
			sn, err := s.Snapshot()
			if err != nil {
				b.Fatal(err)
			}
			for _, err := range sn.Keys(nil, nil) {
				if err != nil {
					b.Fatal(err)
				}
			}
			sn.Close()
		}
		b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "entries/s")
	})
	b.Run("entries/Bare", func(b *testing.B) {
		db := benchFilledBadger(b)
		for range b.N {
			txn := db.NewTransaction(false)
			it := txn.NewIterator(badger.DefaultIteratorOptions)
			for it.Rewind(); it.Valid(); it.Next() {
				if err := it.Item().Value(func([]byte) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			it.Close()
			txn.Discard()
		}
		b.ReportMetric(float64(b.N*benchRecords)/b.Elapsed().Seconds(), "entries/s")
	})
}

func BenchmarkSnapshot(b *testing.B) {
	s := benchStore(b)
	for range b.N {
		sn, err := s.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		sn.Close()
	}
}
