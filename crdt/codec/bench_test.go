package codec_test

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
)

// fiveFields is the document of the bulk workload: 5 fields, some 110 bytes as JSON.
func fiveFields() []crdt.Field {
	d := dot(0x1234567890abcdef, 0)
	return []crdt.Field{
		{Path: path("active"), Cell: live(entry(d, crdt.BoolValue(true)))},
		{Path: path("city"), Cell: live(entry(d, crdt.StringValue("Trondheim")))},
		{Path: path("email"), Cell: live(entry(d, crdt.StringValue("person.12345@example.org")))},
		{Path: path("name"), Cell: live(entry(d, crdt.StringValue("Person Number 12345")))},
		{Path: path("score"), Cell: live(entry(d, crdt.IntValue(98765)))},
	}
}

func editedFields() []crdt.Field {
	fields := fiveFields()
	fields[1].Cell.Write(crdt.EventAt(dot(42, 5000)), crdt.StringValue("Bergen"))
	fields[4].Cell = live(entry(dot(42, 5000), crdt.CounterValue(5)), entry(dot(77, 1), crdt.CounterValue(1)))
	return fields
}

func nestedFields() []crdt.Field {
	var fields []crdt.Field
	for i := range 10 {
		for j := range 10 {
			fields = append(fields, crdt.Field{Path: path("group", fmt.Sprint("section", i), fmt.Sprint("item", j)), Cell: live(entry(dot(1, int64(i)), crdt.IntValue(int64(i*j))))})
		}
	}
	return fields
}

func benchmarks(b *testing.B, run func(b *testing.B, fields []crdt.Field, packed []byte)) {
	for _, c := range []struct {
		name   string
		fields []crdt.Field
	}{{"five", fiveFields()}, {"edited", editedFields()}, {"nested100", nestedFields()}} {
		b.Run(c.name, func(b *testing.B) {
			packed := codec.AppendCells(nil, c.fields)
			b.ReportAllocs()
			b.SetBytes(int64(len(packed)))
			b.ResetTimer()
			run(b, c.fields, packed)
		})
	}
}

func BenchmarkAppendCells(b *testing.B) {
	var buf []byte
	benchmarks(b, func(b *testing.B, fields []crdt.Field, _ []byte) {
		for b.Loop() {
			buf = codec.AppendCells(buf[:0], fields)
		}
	})
}

func BenchmarkParseCells(b *testing.B) {
	benchmarks(b, func(b *testing.B, _ []crdt.Field, packed []byte) {
		for b.Loop() {
			if _, err := codec.ParseCells(packed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendDots(b *testing.B) {
	var dots []crdt.Dot
	benchmarks(b, func(b *testing.B, _ []crdt.Field, packed []byte) {
		for b.Loop() {
			var err error
			if dots, err = codec.AppendDots(dots[:0], packed); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkUniform(b *testing.B) {
	packed := codec.AppendCells(nil, fiveFields())
	for b.Loop() {
		if _, ok := codec.Uniform(packed); !ok {
			b.Fatal("not uniform")
		}
	}
}

func BenchmarkVector(b *testing.B) {
	vv := vectors()["three hundred"]
	packed := codec.AppendVector(nil, vv)
	b.Run("append", func(b *testing.B) {
		var buf []byte
		for b.Loop() {
			buf = codec.AppendVector(buf[:0], vv)
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := codec.ParseVector(packed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
