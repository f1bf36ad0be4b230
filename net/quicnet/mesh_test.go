package quicnet_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// TestNodesFindEachOther starts nodes that listen on ports of their own and know the first one, which then goes.
func TestNodesFindEachOther(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const nodes = 6
	var all []*replica.Replica
	var spaces []*replica.Space
	for i := range nodes {
		cfg := replica.Config{Transport: open(t, quicnet.Config{Identity: identity(t, byte(i+1))}), Degree: 2}
		if i > 0 {
			cfg.Peers = []replica.Peer{{ID: all[0].Self(), Addr: all[0].Addrs()[0]}}
		}
		r, s := openSpace(t, cfg)
		all, spaces = append(all, r), append(spaces, s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, r := range all[1:] {
		waitFor(ctx, t, func() bool { return connectedBesides(r, all[0].Self()) > 0 })
	}
	if err := all[0].Close(); err != nil {
		t.Fatal(err)
	}
	for i, s := range spaces[1:] {
		if _, err := s.Update(ctx, func(tx *replica.Tx) error { return tx.Doc("d").Set(crdt.Path{fmt.Sprint(i)}, i) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range spaces[1:] {
		waitFor(ctx, t, func() bool {
			doc, err := s.Get(ctx, "d")
			return err == nil && len(doc.Value()) == nodes-1
		})
	}
}

func connectedBesides(r *replica.Replica, other replica.PeerID) (n int) {
	for _, p := range r.Peers() {
		if p.Connected && p.ID != other {
			n++
		}
	}
	return n
}

func waitFor(ctx context.Context, t testing.TB, what func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !what() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it did not happen in time")
		}
	}
}

// BenchmarkMeshTraffic counts what ten fully connected nodes receive, packets and all, while each writes documents of 1 KiB, 20 a second, and
// compares it with what two nodes that do the same need, for each writer and each receiver.
func BenchmarkMeshTraffic(b *testing.B) {
	for b.Loop() {
		const nodes, writes = 10, 60
		least := meshTraffic(b, 2, 1, writes) * nodes * (nodes - 1)
		b.ReportMetric(float64(meshTraffic(b, nodes, nodes, writes))/float64(least), "x-least")
	}
}

func meshTraffic(b *testing.B, nodes, writers, writes int) uint64 {
	var all []*replica.Replica
	var spaces []*replica.Space
	for i := range nodes {
		cfg := replica.Config{Transport: open(b, quicnet.Config{Identity: identity(b, byte(i+1))})}
		for _, r := range all {
			cfg.Peers = append(cfg.Peers, replica.Peer{ID: r.Self(), Addr: r.Addrs()[0]})
		}
		r, err := replica.Open(cfg)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { r.Close() })
		all, spaces = append(all, r), append(spaces, spaceOf(b, r))
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for _, r := range all {
		waitFor(ctx, b, func() bool { return connectedBesides(r, replica.PeerID{}) == nodes-1 })
	}
	before := receivedBy(all)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for w := range writes {
		<-tick.C
		for i, s := range spaces[:writers] {
			_, err := s.Update(ctx, func(tx *replica.Tx) error {
				return tx.Doc(fmt.Sprintf("%d/%d", i, w)).Set(crdt.Path{"text"}, strings.Repeat(fmt.Sprint(i*w), 1024)[:1024])
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, s := range spaces {
		waitFor(ctx, b, func() bool {
			return s.Summary().Vector.Equal(spaces[0].Summary().Vector) && s.Summary().Vector.Len() == writers
		})
	}
	return receivedBy(all) - before
}

func receivedBy(all []*replica.Replica) (bytes uint64) {
	for _, r := range all {
		for _, p := range r.Peers() {
			bytes += p.Received
		}
	}
	return bytes
}
