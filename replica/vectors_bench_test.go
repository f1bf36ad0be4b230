package replica

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// BenchmarkUpdateWithManyReplicas says what a transaction costs in a space that has heard of so many replicas.
func BenchmarkUpdateWithManyReplicas(b *testing.B) {
	for _, replicas := range []int{10, 10_000} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			st := memstore.New()
			if err := fillVectors(st, replicas); err != nil {
				b.Fatal(err)
			}
			cfg, err := Config{}.withDefaults()
			if err != nil {
				b.Fatal(err)
			}
			r, err := openWith(cfg, st, "bench")
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			s, err := r.Space("notes")
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := s.Update(b.Context(), func(tx *Tx) error { return tx.Doc("d").Set(crdt.Path{"x"}, i) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// fillVectors makes the space notes one that has deltas of many replicas.
func fillVectors(st store.Store, replicas int) error {
	b := new(store.Batch)
	docstore.PutSpace(b, "notes", 1)
	snap, err := st.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	s, err := docstore.Load(snap, 1)
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range replicas {
		d := &crdt.Delta{Origin: crdt.ReplicaID(rng.Uint64() | 1), To: hlc.Time(1 + rng.Uint64N(1<<30))}
		if _, err := s.Merge(&docstore.Overlay{Batch: b, Snapshot: snap}, b, d, 0, func(hlc.Time) error { return nil }); err != nil {
			return err
		}
	}
	s.Flush(b)
	return st.Commit(b)
}
