package crdt_test

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// benchmarkText is the document of the bulk workload: 5 fields.
const benchmarkText = `{"active":true,"city":"Trondheim","email":"person.12345@example.org","name":"Person Number 12345","score":98765}`

func benchmarkNested() string {
	text := `{"list":[1,2,{"a":null}]`
	for i := range 10 {
		text += fmt.Sprintf(`,"section%d":{"common":"text %d","deep":{"x":%d.5,"y":[1,2,3]},"official":"longer text \u00e9 %d"}`, i, i, i, i)
	}
	return text + "}"
}

func benchmarkDocuments(b *testing.B, run func(b *testing.B, text []byte, d *crdt.Document)) {
	for name, text := range map[string]string{"five": benchmarkText, "nested41": benchmarkNested()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			run(b, []byte(text), document(b, text))
		})
	}
}

func BenchmarkParseJSON(b *testing.B) {
	benchmarkDocuments(b, func(b *testing.B, text []byte, _ *crdt.Document) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if _, err := crdt.ParseJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendJSON(b *testing.B) {
	var buf []byte
	benchmarkDocuments(b, func(b *testing.B, text []byte, d *crdt.Document) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			buf = d.AppendJSON(buf[:0])
		}
	})
}

func BenchmarkLeaves(b *testing.B) {
	benchmarkDocuments(b, func(b *testing.B, _ []byte, d *crdt.Document) {
		for b.Loop() {
			for range d.Leaves() {
			}
		}
	})
}

func BenchmarkValue(b *testing.B) {
	benchmarkDocuments(b, func(b *testing.B, _ []byte, d *crdt.Document) {
		for b.Loop() {
			_ = d.Value()
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	d := document(b, benchmarkText)
	b.ReportAllocs()
	for b.Loop() {
		var dst struct {
			Active            bool
			City, Email, Name string
			Score             int64
		}
		if err := d.Decode(&dst); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeavesOfStruct(b *testing.B) {
	v := struct {
		Active            bool
		City, Email, Name string
		Score             int64
	}{true, "Trondheim", "person.12345@example.org", "Person Number 12345", 98765}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := crdt.Leaves("", v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkReplaceOneField saves a document of which one field differs.
func BenchmarkReplaceOneField(b *testing.B) {
	benchmarkDocuments(b, func(b *testing.B, text []byte, d *crdt.Document) {
		leaves, err := crdt.ParseJSON(text)
		if err != nil {
			b.Fatal(err)
		}
		leaves[1].Value = crdt.StringValue("changed")
		var fields []crdt.Field
		for f := range d.Fields() {
			fields = append(fields, f)
		}
		for b.Loop() {
			crdt.NewDocument(fields).Replace(at(2, 2), leaves)
		}
	})
}

// BenchmarkMergeCell joins two cells: one write over another, siblings of two, and siblings of eight.
func BenchmarkMergeCell(b *testing.B) {
	never := crdt.VersionVector{}
	var first, second crdt.Cell
	first.Write(at(1, 1), crdt.IntValue(1))
	second = first
	second.Write(at(2, 2), crdt.IntValue(2))
	var many, others crdt.Cell
	for r := range crdt.ReplicaID(8) {
		if err := many.Increment(at(r+1, 10), 1); err != nil {
			b.Fatal(err)
		}
		if err := others.Increment(at(r+5, 20), 1); err != nil {
			b.Fatal(err)
		}
	}
	var apart crdt.Cell
	apart.Write(at(3, 3), crdt.IntValue(3))
	for _, c := range []struct {
		name string
		a, b crdt.Cell
	}{{"newer", first, second}, {"siblings", first, apart}, {"eight", many, others}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				crdt.Merge(c.a, never, c.b, never)
			}
		})
	}
}

// BenchmarkMergeDocument receives one changed field of a document.
func BenchmarkMergeDocument(b *testing.B) {
	benchmarkDocuments(b, func(b *testing.B, _ []byte, d *crdt.Document) {
		var fields []crdt.Field
		for f := range d.Fields() {
			fields = append(fields, f)
		}
		changed := fields[1]
		changed.Cell.Write(at(2, 2), crdt.StringValue("changed"))
		for b.Loop() {
			crdt.NewDocument(fields).MergeField(crdt.VersionVector{}, changed.Path, changed.Cell)
		}
	})
}
