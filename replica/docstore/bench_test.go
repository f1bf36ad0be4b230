package docstore

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// benchDocs is how many documents one turn of these benchmarks takes: as many as a bulk frame.
const benchDocs = 500

func benchLeaves(b *testing.B) []crdt.Leaf {
	leaves, err := crdt.ParseJSON([]byte(`{"age":41,"city":"Trondheim","name":"Nadia Eriksen","note":"lagoon marsh narrow oxbow","score":98765}`))
	if err != nil {
		b.Fatal(err)
	}
	return leaves
}

func benchSpace(b *testing.B, s *memstore.Store) (*Space, store.Snapshot) {
	snap, err := s.Snapshot()
	if err != nil {
		b.Fatal(err)
	}
	space, err := Load(snap, 1)
	if err != nil {
		b.Fatal(err)
	}
	return space, snap
}

// writeAll runs a transaction for each document.
func writeAll(b *testing.B, s *Space, snap store.Snapshot, batch *store.Batch, from hlc.Time, change func(tx *Transaction, key string) error) {
	for i := range benchDocs {
		tx := s.Begin(&Overlay{Batch: batch, Snapshot: snap}, crdt.EventAt(crdt.Dot{Replica: 1, Time: from + hlc.Time(i)}))
		if err := change(tx, fmt.Sprintf("item/%08x", uint32(i)*2654435761)); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Commit(batch); err != nil {
			b.Fatal(err)
		}
	}
}

// benchStore returns a store of benchDocs documents that were written at the times from 1 on.
func benchStore(b *testing.B) *memstore.Store {
	st, batch, leaves := memstore.New(), new(store.Batch), benchLeaves(b)
	s, snap := benchSpace(b, st)
	writeAll(b, s, snap, batch, 1, func(tx *Transaction, key string) error { return tx.Replace(key, leaves) })
	s.Flush(batch)
	if err := st.Commit(batch); err != nil {
		b.Fatal(err)
	}
	return st
}

// perDocument reports what one document takes.
func perDocument(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*benchDocs), "ns/document")
}

func BenchmarkWriteNewDocuments(b *testing.B) {
	b.ReportAllocs()
	leaves := benchLeaves(b)
	s, snap := benchSpace(b, memstore.New())
	next := hlc.Time(1)
	for b.Loop() {
		fresh := *s
		writeAll(b, &fresh, snap, new(store.Batch), next, func(tx *Transaction, key string) error { return tx.Replace(key, leaves) })
		next += benchDocs
	}
	perDocument(b)
}

func BenchmarkSetField(b *testing.B) {
	b.ReportAllocs()
	p, err := crdt.Path{"note"}.Pack()
	if err != nil {
		b.Fatal(err)
	}
	s, snap := benchSpace(b, benchStore(b))
	next := hlc.Time(1 + benchDocs)
	for b.Loop() {
		writeAll(b, s, snap, new(store.Batch), next, func(tx *Transaction, key string) error {
			return tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.StringValue("upland vale weir yarrow")}})
		})
		next += benchDocs
	}
	perDocument(b)
}

func BenchmarkBuildDelta(b *testing.B) {
	b.ReportAllocs()
	_, snap := benchSpace(b, benchStore(b))
	for b.Loop() {
		if d, err := Build(snap, 1, 1, 0, benchDocs, 0); err != nil || len(d.Documents) != benchDocs {
			b.Fatal(d, err)
		}
	}
	perDocument(b)
}

func BenchmarkMergeNewDocuments(b *testing.B) {
	b.ReportAllocs()
	_, from := benchSpace(b, benchStore(b))
	d, err := Build(from, 1, 1, 0, benchDocs, 0)
	if err != nil {
		b.Fatal(err)
	}
	st := memstore.New()
	for b.Loop() {
		s, snap := benchSpace(b, st)
		batch := new(store.Batch)
		if _, err := s.Merge(&Overlay{Batch: batch, Snapshot: snap}, batch, d, 2, anyTime); err != nil {
			b.Fatal(err)
		}
	}
	perDocument(b)
}

// BenchmarkMergeConflicts merges what another replica set in every document while this one set something else.
func BenchmarkMergeConflicts(b *testing.B) {
	b.ReportAllocs()
	p, err := crdt.Path{"note"}.Pack()
	if err != nil {
		b.Fatal(err)
	}
	st := benchStore(b)
	other, snap := benchSpace(b, st)
	d := &crdt.Delta{Origin: 3, To: 2 * benchDocs}
	for i := range benchDocs {
		batch := new(store.Batch)
		tx := other.Begin(&Overlay{Batch: batch, Snapshot: snap}, crdt.EventAt(crdt.Dot{Replica: 3, Time: hlc.Time(benchDocs + 1 + i)}))
		if err := tx.SetLeaves(fmt.Sprintf("item/%08x", uint32(i)*2654435761), p, []crdt.Leaf{{Path: p, Value: crdt.StringValue("other")}}); err != nil {
			b.Fatal(err)
		}
		part, err := tx.Commit(batch)
		if err != nil {
			b.Fatal(err)
		}
		d.Documents = append(d.Documents, part.Documents...)
	}
	slices.SortFunc(d.Documents, func(x, y crdt.DocumentDelta) int { return strings.Compare(x.Key, y.Key) })
	for b.Loop() {
		s, snap := benchSpace(b, st)
		batch := new(store.Batch)
		if _, err := s.Merge(&Overlay{Batch: batch, Snapshot: snap}, batch, d, 2, anyTime); err != nil {
			b.Fatal(err)
		}
	}
	perDocument(b)
}
