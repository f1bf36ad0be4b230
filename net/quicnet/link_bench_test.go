package quicnet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/replica"
)

// BenchmarkLink lets a fresh node take 10,000 documents over a slow link, and then has single writes pass, one after the other. Sockets, QUIC
// and engine are real. bound is the target: 1.3 times what the bytes that were sent take at the bandwidth, and two round trips. bare is what the
// same bytes take in one stream of the QUIC library alone.
func BenchmarkLink(b *testing.B) {
	for _, mbit := range []int{1, 10} {
		for _, delay := range []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond} {
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
	took := time.Since(began)
	report(b, l, "sync", took, wire.Counts().Bytes-sent)
	b.ReportMetric(float64(took)/float64(bareOver(ctx, b, l, to.Peers()[0].Received)), "bare-sync")

	var lives []time.Duration
	sent = wire.Counts().Bytes
	const writes = 50
	for i := range writes {
		began := time.Now()
		write(b, source, func(tx *replica.Tx) error { return tx.Doc("live").Set(crdt.Path{"n"}, i) })
		if err := target.WaitVector(ctx, source.Summary().Vector); err != nil {
			b.Fatal(err)
		}
		lives = append(lives, time.Since(began))
		<-time.After(20 * time.Millisecond) // so that each one goes alone
	}
	slices.Sort(lives)
	bytes := (wire.Counts().Bytes - sent) / writes
	report(b, l, "live-p50", lives[writes/2], bytes)
	report(b, l, "live-max", lives[writes-1], bytes)
}

// bareOver returns how long it takes from dialling until that many bytes have come in one stream.
func bareOver(ctx context.Context, b *testing.B, l nettest.Loss, bytes uint64) time.Duration {
	end := func(number byte) *quic.Transport {
		tr := &quic.Transport{Conn: lossySocket(b, number, l)}
		b.Cleanup(func() {
			tr.Close()
			tr.Conn.Close()
		})
		return tr
	}
	from, to := end(1), end(2)
	ln, err := from.Listen(rawTLS(certificate(b, edKey(1)), "bare"), nil)
	if err != nil {
		b.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		qc, err := ln.Accept(ctx)
		if err != nil {
			sent <- err
			return
		}
		stream, err := qc.AcceptStream(ctx)
		if err == nil {
			_, err = stream.Write(make([]byte, bytes))
			stream.Close()
		}
		sent <- err
	}()
	began := time.Now()
	qc, err := to.Dial(ctx, ln.Addr(), rawTLS(certificate(b, edKey(2)), "bare"), nil)
	if err != nil {
		b.Fatal(err)
	}
	stream, err := qc.OpenStreamSync(ctx)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := stream.Write([]byte("go")); err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, stream)
	took := time.Since(began)
	if err := errors.Join(err, <-sent); err != nil || uint64(n) != bytes {
		b.Fatalf("%d of %d bytes came: %v", n, bytes, err)
	}
	return took
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
