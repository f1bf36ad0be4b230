package quicnet_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// badNetworks lose that share of the packets, each way; all of them delay, reorder and repeat packets.
var badNetworks = []struct {
	drop      float64
	documents int // at each side, of a test: at 20 % a few packets a round trip is what congestion control allows
}{{0.01, 500}, {0.05, 200}, {0.2, 60}}

func loss(drop float64) nettest.Loss {
	const delay = 100 * time.Millisecond
	return nettest.Loss{Drop: drop, Duplicate: 0.02, Reorder: 0.05, MinDelay: delay, MaxDelay: delay + 10*time.Millisecond, HoldBack: 30 * time.Millisecond}
}

// TestReplicasConvergeOverABadNetwork lets two nodes write at once, each on its side of a bad network. Sockets, QUIC and engine are real.
func TestReplicasConvergeOverABadNetwork(t *testing.T) {
	for _, n := range badNetworks {
		t.Run(fmt.Sprintf("%.0f %% lost", 100*n.drop), func(t *testing.T) {
			t.Parallel()
			took, counts := exchangeOver(t, loss(n.drop), n.documents)
			if counts.Dropped == 0 || counts.Reordered == 0 || counts.Duplicated == 0 {
				t.Errorf("the network was not bad: %+v", counts)
			}
			t.Logf("%d KiB each way in %s: %.1f KiB/s; of %d packets %d were lost, %d late, %d repeated",
				n.documents*documentBytes>>10, took.Round(time.Millisecond), float64(n.documents*documentBytes>>10)/took.Seconds(),
				counts.Written, counts.Dropped, counts.Reordered, counts.Duplicated)
		})
	}
}

// BenchmarkBadNetwork measures what gets through, each way, while both ways are busy.
func BenchmarkBadNetwork(b *testing.B) {
	for _, n := range badNetworks {
		b.Run(fmt.Sprintf("%.0f%%", 100*n.drop), func(b *testing.B) {
			for b.Loop() {
				documents := 5 * n.documents
				took, _ := exchangeOver(b, loss(n.drop), documents)
				b.ReportMetric(float64(documents*documentBytes>>10)/took.Seconds(), "KiB/s")
			}
		})
	}
}

const documentBytes = 1 << 10

// exchangeOver returns how long it takes until both of two replicas have the documents that each of them wrote while they were apart.
func exchangeOver(t testing.TB, l nettest.Loss, documents int) (time.Duration, nettest.LossCounts) {
	t.Helper()
	a, wire := openOver(t, 1, l)
	b, _ := openOver(t, 2, l)
	var spaces []*replica.Space
	for i, r := range []*replica.Replica{a, b} {
		s := spaceOf(t, r)
		fill(t, s, i, documents)
		spaces = append(spaces, s)
	}
	began := time.Now()
	b.AddPeer(replica.Peer{ID: a.Self(), Addr: a.Addrs()[0]})
	waitEqual(t, spaces[0], spaces[1])
	return time.Since(began), wire.Counts()
}

// lossySocket opens a socket whose packets are treated badly.
func lossySocket(t testing.TB, number byte, l nettest.Loss) *nettest.LossyPacketConn {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return nettest.NewLossyPacketConn(socket, uint64(number), l)
}

// openOver opens a replica whose packets are treated badly.
func openOver(t testing.TB, number byte, l nettest.Loss) (*replica.Replica, *nettest.LossyPacketConn) {
	t.Helper()
	wire := lossySocket(t, number, l)
	tr := open(t, quicnet.Config{
		Identity: identity(t, number), Listen: "127.0.0.1:0", PacketConn: wire, InsecureAllowAny: true, Logger: slog.New(slog.DiscardHandler),
	})
	r, err := replica.Open(replica.Config{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, wire
}

// fill writes documents that do not compress well.
func fill(t testing.TB, s *replica.Space, seed, documents int) {
	t.Helper()
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	for i := range documents {
		text := make([]byte, documentBytes*3/4)
		_, _ = rng.Read(text) // never fails
		write(t, s, func(tx *replica.Tx) error {
			return tx.Doc(fmt.Sprintf("%d/%d", seed, i)).Set(crdt.Path{"text"}, base64.StdEncoding.EncodeToString(text))
		})
	}
}

func spaceOf(t testing.TB, r *replica.Replica) *replica.Space {
	t.Helper()
	s, err := r.Space("notes")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t testing.TB, s *replica.Space, fn func(tx *replica.Tx) error) {
	t.Helper()
	if _, err := s.Update(t.Context(), fn); err != nil {
		t.Fatal(err)
	}
}

func waitEqual(t testing.TB, a, b *replica.Space) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		x, y := a.Summary(), b.Summary()
		if x.Vector.Equal(y.Vector) && x.Vector.Len() == 2 {
			if x.Digest != y.Digest {
				t.Fatalf("equal vectors and other digests: %s and %s", x.Digest, y.Digest)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("they do not come level")
		}
	}
}
