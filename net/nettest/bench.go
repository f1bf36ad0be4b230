package nettest

import (
	"fmt"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
)

// Bench measures a transport: what one stream carries, and how long a small frame takes there and back when nothing else
// is going on.
func Bench(b *testing.B, make Maker) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("Throughput/%dKiB", size>>10), func(b *testing.B) { benchThroughput(b, make, size) })
	}
	b.Run("RoundTrip", func(b *testing.B) { benchRoundTrip(b, make) })
	b.Run("Dial", func(b *testing.B) { benchDial(b, make) })
}

func benchPair(b *testing.B, make Maker) (s, r replica.Stream, n *Net) {
	n = make(b, 2, Options{})
	dialler, accepter := connect(b, n.Transports[0], n.Transports[1])
	s, r = open(b, dialler, accepter, "bench")
	return s, r, n
}

func benchThroughput(b *testing.B, make Maker, size int) {
	s, r, n := benchPair(b, make)
	f := frame(b, n.Transports[0], 1, size)
	b.SetBytes(int64(len(f)))
	b.ReportAllocs()
	b.ResetTimer()
	wrote := inBackground(func() error {
		for range b.N {
			if err := s.WriteFrames(f); err != nil {
				return err
			}
		}
		return nil
	})
	for range b.N {
		if _, err := r.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-wrote; err != nil {
		b.Fatal(err)
	}
}

func benchRoundTrip(b *testing.B, make Maker) {
	s, r, n := benchPair(b, make)
	f := frame(b, n.Transports[0], 1, 100)
	echoed := inBackground(func() error {
		for range b.N {
			got, err := r.ReadFrame()
			if err != nil {
				return err
			}
			if err := r.WriteFrames(got); err != nil {
				return err
			}
		}
		return nil
	})
	b.ResetTimer()
	for range b.N {
		if err := s.WriteFrames(f); err != nil {
			b.Fatal(err)
		}
		if _, err := s.ReadFrame(); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := <-echoed; err != nil {
		b.Fatal(err)
	}
}

func benchDial(b *testing.B, make Maker) {
	n := make(b, 2, Options{})
	for b.Loop() {
		dialler, accepter := connect(b, n.Transports[0], n.Transports[1])
		dialler.Close(replica.CloseDone, "")
		<-accepter.Done()
	}
}
