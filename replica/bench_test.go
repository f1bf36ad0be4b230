package replica_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func benchSpace(b *testing.B, cfg replica.Config) *replica.Space {
	b.Helper()
	r, err := replica.Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	s, err := r.Space("bench")
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func mustUpdate(b *testing.B, s *replica.Space, fn func(tx *replica.Tx) error) {
	if _, err := s.Update(context.Background(), fn); err != nil {
		b.Fatal(err)
	}
}

// The cost of setting one field must follow the change, not the size of the document.
func BenchmarkSetOneFieldOf(b *testing.B) {
	for _, fields := range []int{10, 100, 10_000, 100_000} {
		b.Run(fmt.Sprint(fields), func(b *testing.B) {
			s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever})
			for i := 0; i < fields; i += 10_000 {
				mustUpdate(b, s, func(tx *replica.Tx) error {
					for k := i; k < min(fields, i+10_000); k++ {
						tx.Doc("doc").Set(crdt.Path{fmt.Sprintf("field%06d", k)}, k)
					}
					return nil
				})
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				mustUpdate(b, s, func(tx *replica.Tx) error {
					return tx.Doc("doc").Set(crdt.Path{fmt.Sprintf("field%06d", i*7919%fields)}, i)
				})
			}
		})
	}
}

// Durable transactions share syncs: the rate grows with the writers.
func BenchmarkDurableUpdate(b *testing.B) {
	for _, writers := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchSpace(b, replica.Config{Dir: b.TempDir()})
			b.SetParallelism(max(1, writers/2))
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					mustUpdate(b, s, func(tx *replica.Tx) error {
						return tx.Doc(fmt.Sprintf("doc%d", i%1000)).Set(crdt.Path{"n"}, i)
					})
				}
			})
		})
	}
}

func BenchmarkGet(b *testing.B) {
	s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever})
	mustUpdate(b, s, func(tx *replica.Tx) error {
		for i := range 1000 {
			tx.Doc(fmt.Sprintf("doc%d", i)).Replace(map[string]any{"title": "t", "n": i, "done": false})
		}
		return nil
	})
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if _, err := s.Get(context.Background(), fmt.Sprintf("doc%d", i%1000)); err != nil {
			b.Fatal(err)
		}
	}
}
