package quicnet_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/replica"
)

// BenchmarkLink lets a fresh node take 10,000 documents over a slow link, and then has single writes pass, one after the other. Sockets, QUIC
// and engine are real. bound is the target: 1.3 times what the bytes that were sent take at the bandwidth, and two round trips.
func BenchmarkLink(b *testing.B) {
	for _, mbit := range []int{1, 10} {
		for _, delay := range []time.Duration{20 * time.Millisecond, 100 * time.Millisecond} {
			for _, drop := range []float64{0, 0.01, 0.05} {
				b.Run(fmt.Sprintf("%dMbit/%s/%.0f%%", mbit, delay, 100*drop), func(b *testing.B) {
					l := nettest.Loss{Drop: drop, MinDelay: delay, MaxDelay: delay, BitsPerSecond: mbit * 1e6}
					for b.Loop() {
						syncOver(b, l)
					}
				})
			}
		}
	}
}

const linkDocuments = 10_000

func syncOver(b *testing.B, l nettest.Loss) {
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
	defer cancel()
	from, wire := openOver(b, 1, l)
	to, _ := openOver(b, 2, l)
	source, target := spaceOf(b, from), spaceOf(b, to)
	for i := 0; i < linkDocuments; i += 500 {
		write(b, source, func(tx *replica.Tx) error {
			for k := i; k < i+500; k++ {
				leaves, err := crdt.ParseJSON(fmt.Appendf(nil, `{"age":%d,"city":"Trondheim %d","name":"Nadia Eriksen %x","note":"lagoon marsh %x narrow oxbow","score":%d}`,
					k%90, k%977, k*2654435761, k*40503, k*7919%100_000))
				if err != nil {
					return err
				}
				if err := tx.Doc(fmt.Sprintf("item/%08x", uint32(k)*2654435761)).Replace(leaves); err != nil {
					return err
				}
			}
			return nil
		})
	}
	began, sent := time.Now(), wire.Counts().Bytes
	to.AddPeer(replica.Peer{ID: from.Self(), Addr: from.Addrs()[0]})
	if err := target.WaitVector(ctx, source.Summary().Vector); err != nil {
		b.Fatal(err)
	}
	report(b, l, "sync", time.Since(began), wire.Counts().Bytes-sent)

	var took []time.Duration
	sent = wire.Counts().Bytes
	const writes = 50
	for i := range writes {
		began := time.Now()
		write(b, source, func(tx *replica.Tx) error { return tx.Doc("live").Set(crdt.Path{"n"}, i) })
		if err := target.WaitVector(ctx, source.Summary().Vector); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		<-time.After(20 * time.Millisecond) // so that each one goes alone
	}
	slices.Sort(took)
	bytes := (wire.Counts().Bytes - sent) / writes
	report(b, l, "live-p50", took[writes/2], bytes)
	report(b, l, "live-max", took[writes-1], bytes)
}

// report tells how long something took, and in times of its bound.
func report(b *testing.B, l nettest.Loss, what string, took time.Duration, bytes int) {
	least := time.Duration(bytes) * 8 * time.Second / time.Duration(l.BitsPerSecond)
	bound := least*13/10 + 4*l.MinDelay
	b.ReportMetric(float64(took)/float64(time.Millisecond), "ms-"+what)
	b.ReportMetric(float64(took)/float64(bound), "bounds-"+what)
	if what == "sync" {
		b.ReportMetric(float64(bytes)/linkDocuments, "B/document")
	}
}
