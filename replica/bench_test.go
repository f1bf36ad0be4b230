package replica_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
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

// fieldCounts are of the documents of which one field is set, read and synced. That must follow the change, not the size of the document.
var fieldCounts = []int{10, 100, 10_000, 100_000}

func fieldPath(i int) crdt.Path { return crdt.Path{fmt.Sprintf("field%06d", i)} }

// fillFields makes a document of so many fields.
func fillFields(b *testing.B, s *replica.Space, fields int) {
	b.Helper()
	for i := 0; i < fields; i += 10_000 {
		mustUpdate(b, s, func(tx *replica.Tx) error {
			for k := i; k < min(fields, i+10_000); k++ {
				if err := tx.Doc("doc").Set(fieldPath(k), k); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func BenchmarkSetOneFieldOf(b *testing.B) {
	for _, fields := range fieldCounts {
		b.Run(fmt.Sprint(fields), func(b *testing.B) {
			s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever})
			fillFields(b, s, fields)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				mustUpdate(b, s, func(tx *replica.Tx) error { return tx.Doc("doc").Set(fieldPath(i*7919%fields), i) })
			}
		})
	}
}

func BenchmarkReadOneFieldOf(b *testing.B) {
	for _, fields := range fieldCounts {
		b.Run(fmt.Sprint(fields), func(b *testing.B) {
			s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever})
			fillFields(b, s, fields)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := s.GetPath(b.Context(), "doc", fieldPath(i*7919%fields)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// From the call that sets one field until another replica has it, as the first one knows.
func BenchmarkSyncOneFieldOf(b *testing.B) {
	for _, fields := range fieldCounts {
		b.Run(fmt.Sprint(fields), func(b *testing.B) {
			network := memnet.New(1)
			peer := []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}
			s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever, Transport: network.Node("a")})
			benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever, Transport: network.Node("b"), Peers: peer})
			fillFields(b, s, fields)
			set := func(i int) {
				receipt, err := s.Update(b.Context(), func(tx *replica.Tx) error { return tx.Doc("doc").Set(fieldPath(i*7919%fields), -i) })
				if err == nil {
					err = s.WaitSynced(b.Context(), receipt, 1)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			set(1) // both are level now
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				set(i + 2)
			}
		})
	}
}

// Reading a document whole, a few kilobytes at a time; allocated is what that takes in all.
func BenchmarkStreamLeaves(b *testing.B) {
	s := benchSpace(b, replica.Config{Dir: b.TempDir(), Sync: replica.SyncNever})
	const fields = 100_000
	fillFields(b, s, fields)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		n := 0
		for _, err := range s.Leaves(b.Context(), "doc") {
			if n++; err != nil {
				b.Fatal(err)
			}
		}
		if n != fields {
			b.Fatalf("%d leaves, want %d", n, fields)
		}
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

// Writers that each wait until a peer has their last write, durably: what comes in at the peer must not wait for more of it.
func BenchmarkSyncedUpdate(b *testing.B) {
	for _, writers := range []int{1, 2, 3, 4, 8, 32} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			network := memnet.New(1)
			peer := []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}
			s := benchSpace(b, replica.Config{Dir: b.TempDir(), Transport: network.Node("a")})
			benchSpace(b, replica.Config{Dir: b.TempDir(), Transport: network.Node("b"), Peers: peer})
			var next atomic.Int64
			var all sync.WaitGroup
			b.ResetTimer()
			for range writers {
				all.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						receipt, err := s.Update(b.Context(), func(tx *replica.Tx) error {
							return tx.Doc(fmt.Sprintf("doc%d", i%1000)).Set(crdt.Path{"n"}, i)
						})
						if err == nil {
							err = s.WaitSynced(b.Context(), receipt, 1)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			all.Wait()
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
