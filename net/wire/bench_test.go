package wire

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func benchDelta(documents int) *protocol.Delta {
	d := &protocol.Delta{Delta: crdt.Delta{Origin: alice, From: at(1_790_000_000_000, 0), To: at(1_790_000_000_100, 0), Horizon: sampleVector()}}
	for i := range documents {
		d.Documents = append(d.Documents, crdt.DocumentDelta{Key: fmt.Sprintf("species/%08d", i), Cells: make([]byte, 120)})
	}
	return d
}

// BenchmarkMarshal and BenchmarkUnmarshal say what a frame costs, and how many bytes it takes beyond keys and cells.
func BenchmarkMarshal(b *testing.B) {
	for _, documents := range []int{1, 500} {
		b.Run(fmt.Sprint(documents), func(b *testing.B) {
			d := benchDelta(documents)
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = Marshal(buf[:0], d); err != nil {
					b.Fatal(err)
				}
			}
			b.SetBytes(int64(len(buf)))
			b.ReportMetric(float64(len(buf)-d.Size())/float64(documents), "overhead-B/doc")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*documents), "ns/doc")
		})
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, documents := range []int{1, 500} {
		b.Run(fmt.Sprint(documents), func(b *testing.B) {
			buf, err := Marshal(nil, benchDelta(documents))
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Unmarshal(buf); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*documents), "ns/doc")
		})
	}
}

func BenchmarkScan(b *testing.B) {
	buf, err := Marshal(nil, benchDelta(500))
	if err != nil {
		b.Fatal(err)
	}
	body := buf[headerBytes+1:]
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if err := scan(body); err != nil {
			b.Fatal(err)
		}
	}
}
