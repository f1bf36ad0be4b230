package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// fullMesh opens n replicas, each connected with each.
func fullMesh(t testing.TB, n int) ([]*replica.Replica, []*replica.Space) {
	network := memnet.New(1)
	network.SetFaults(memnet.Faults{MinDelay: time.Millisecond, MaxDelay: 10 * time.Millisecond})
	var all []*replica.Replica
	var spaces []*replica.Space
	for i := range n {
		cfg := replica.Config{Transport: network.Node(fmt.Sprint(i))}
		for j := range i {
			cfg.Peers = append(cfg.Peers, replica.Peer{ID: memnet.ID(fmt.Sprint(j)), Addr: fmt.Sprint("mem:", j)})
		}
		r, err := replica.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		s, err := r.Space("notes")
		if err != nil {
			t.Fatal(err)
		}
		all, spaces = append(all, r), append(spaces, s)
	}
	return all, spaces
}

func received(all []*replica.Replica) (bytes uint64) {
	for _, r := range all {
		for _, p := range r.Peers() {
			bytes += p.Received
		}
	}
	return bytes
}

// TestDuplicateTrafficOfAMesh counts what ten fully connected nodes receive, acknowledgements included, and compares it with
// the least: what the receiver of the same writes gets when there are two nodes, for each writer and each receiver.
func TestDuplicateTrafficOfAMesh(t *testing.T) {
	const nodes, writes = 10, 60
	for _, c := range []struct {
		name  string
		bytes int // of each document
		apart bool
	}{
		{"as fast as they come", 1000, false},
		{"one after the other", 1000, true},
		{"small ones, one after the other", 400, true},
	} {
		// In a bubble, so that a busy machine takes nobody's patience: there, time passes on the way of the packets only.
		synctest.Test(t, func(t *testing.T) {
			least := nodes * (nodes - 1) * trafficOf(t, 2, 1, writes, c.bytes, c.apart)
			got := trafficOf(t, nodes, nodes, writes, c.bytes, c.apart)
			ratio := float64(got) / float64(least)
			t.Logf("%s: %d nodes that write %d documents each received %d bytes, %.3f times the least", c.name, nodes, writes, got, ratio)
			if ratio > 1.3 {
				t.Errorf("they received %.3f times the least", ratio)
			}
		})
	}
}

// trafficOf returns the bytes received in a full mesh, once it is connected, while some of its nodes write for the first time.
func trafficOf(t *testing.T, nodes, writers, writes, bytes int, apart bool) uint64 {
	all, spaces := fullMesh(t, nodes)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	waitPeers(ctx, t, spaces, nodes-1)
	before := received(all)
	rng := rand.New(rand.NewPCG(1, 2))
	for w := range writes {
		for i, s := range spaces[:writers] {
			rc := set(t, s, fmt.Sprintf("%d/%d", i, w), "text", text(rng, bytes))
			if !apart && w > 0 {
				continue
			}
			if err := s.WaitSynced(ctx, rc, nodes-1); err != nil {
				t.Fatal(err)
			}
		}
	}
	waitLevel(t, spaces...)
	return received(all) - before
}

// text returns a text that does not compress well.
func text(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + rng.IntN(64))
	}
	return string(b)
}

// waitPeers returns when each space is level with n peers.
func waitPeers(ctx context.Context, t *testing.T, spaces []*replica.Space, n int) {
	t.Helper()
	for _, s := range spaces {
		for {
			st, err := s.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			level := 0
			for _, p := range st.Peers {
				if p.Connected && p.Level {
					level++
				}
			}
			if level == n {
				break
			}
			waitChange(ctx, t, s)
		}
	}
}

// In a chain and in a star nobody but the node in between can pass a write on, so it must not wait for others to do it.
func TestRelayThroughAChainAndAStarDoesNotWait(t *testing.T) {
	for name, parent := range map[string]func(i int) int{
		"chain": func(i int) int { return i - 1 },
		"star":  func(int) int { return 0 },
	} {
		synctest.Test(t, func(t *testing.T) {
			spaces := tree(t, 6, parent)
			waitLevel(t, spaces...)
			time.Sleep(time.Second) // what they tell each other besides is over
			first, last := spaces[1], spaces[len(spaces)-1]
			for i := range 20 {
				began := time.Now()
				set(t, first, fmt.Sprint(i), "x", 1)
				for change, err := range last.Watch(t.Context(), replica.Cursor{}) {
					if err != nil {
						t.Fatal(err)
					}
					if change.Key == fmt.Sprint(i) {
						break
					}
				}
				if took := time.Since(began); i > 0 && took > 0 { // the first is a trial at each node
					t.Errorf("%s: write %d took %s", name, i, took)
				}
			}
		})
	}
}

// tree opens n replicas, each of which dials its parent; the first has none.
func tree(t *testing.T, n int, parent func(i int) int) []*replica.Space {
	network := memnet.New(1)
	var spaces []*replica.Space
	for i := range n {
		cfg := replica.Config{Transport: network.Node(fmt.Sprint(i))}
		if i > 0 {
			cfg.Peers = []replica.Peer{{ID: memnet.ID(fmt.Sprint(parent(i))), Addr: fmt.Sprint("mem:", parent(i))}}
		}
		spaces = append(spaces, space(t, open(t, cfg)))
	}
	return spaces
}
