package replica_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// meshDelay is how long every packet of a large mesh is on its way, so that times are hops.
const meshDelay = 10 * time.Millisecond

// sparseMesh is a mesh in which each node has about six peers: it dials three others, chosen at random.
type sparseMesh struct {
	network *memnet.Network
	all     []*replica.Replica
	spaces  []*replica.Space
}

func newSparseMesh(t *testing.T, n int) sparseMesh {
	network := memnet.New(1)
	network.SetFaults(memnet.Faults{MinDelay: meshDelay, MaxDelay: meshDelay})
	rng := rand.New(rand.NewPCG(3, uint64(n)))
	m := sparseMesh{network: network}
	for i := range n {
		cfg := replica.Config{Transport: network.Node(fmt.Sprint(i))}
		for _, k := range rng.Perm(n - 1)[:min(n-1, 3)] {
			j := (i + 1 + k) % n
			cfg.Peers = append(cfg.Peers, replica.Peer{ID: memnet.ID(fmt.Sprint(j)), Addr: fmt.Sprint("mem:", j)})
		}
		r := open(t, cfg)
		m.all, m.spaces = append(m.all, r), append(m.spaces, space(t, r))
	}
	return m
}

// settle lets so much time pass that connections are made and everybody is level.
func (m sparseMesh) settle(t *testing.T) {
	t.Helper()
	pass(10 * time.Second)
	m.expectEqual(t)
}

func (m sparseMesh) expectEqual(t *testing.T) {
	t.Helper()
	first := m.spaces[0].Summary()
	for i, s := range m.spaces {
		if now := s.Summary(); !now.Vector.Equal(first.Vector) || now.Digest != first.Digest {
			t.Fatalf("node %d is at %s, and node 0 at %s", i, now.Vector, first.Vector)
		}
	}
}

// spread writes one document at a node and returns when each other node had it, the earliest first.
func (m sparseMesh) spread(t *testing.T, at int, key string, bytes int) []time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	took := make([]time.Duration, len(m.spaces))
	var all sync.WaitGroup
	began := time.Now()
	for i, s := range m.spaces {
		since := s.Cursor()
		all.Go(func() {
			for c, err := range s.Watch(ctx, since) {
				if err != nil {
					t.Errorf("node %d: %v", i, err)
					return
				}
				if c.Key == key {
					took[i] = time.Since(began)
					return
				}
			}
		})
	}
	set(t, m.spaces[at], key, "text", text(rand.New(rand.NewPCG(1, 2)), bytes))
	all.Wait()
	slices.Sort(took)
	return took
}

// write lets some nodes write, each a part, one write after the other, and returns how long after the last everybody had everything.
func (m sparseMesh) write(t *testing.T, writers, writes, bytes int, every time.Duration) time.Duration {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	for w := range writes {
		set(t, m.spaces[w%writers*len(m.spaces)/writers], fmt.Sprintf("d/%d", w%2000), "text", text(rng, bytes))
		pass(every)
	}
	began := time.Now()
	for time.Since(began) < time.Minute {
		want := m.spaces[0].Summary().Vector
		if !slices.ContainsFunc(m.spaces, func(s *replica.Space) bool { return !s.Summary().Vector.Equal(want) }) {
			break
		}
		pass(time.Millisecond)
	}
	took := time.Since(began)
	m.expectEqual(t)
	return took
}

func numberOf(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 {
		t.Fatalf("%s=%q: want a number from 2 on", name, text)
	}
	return n
}

// traffic is what the nodes have received, acknowledgements and everything else included.
type traffic struct{ bytes, messages uint64 }

func (m sparseMesh) traffic() traffic { return traffic{received(m.all), m.network.Messages()} }

func (a traffic) since(b traffic) traffic { return traffic{a.bytes - b.bytes, a.messages - b.messages} }

// hops are the mean and the greatest of some times.
func hops(took []time.Duration) (mean, most float64) {
	for _, d := range took {
		mean += float64(d) / float64(meshDelay) / float64(len(took))
	}
	return mean, float64(took[len(took)-1]) / float64(meshDelay)
}

// TestLargeMesh counts, in simulated time, what it takes for a write, and for many, to come to every node of a mesh of which each has few
// peers. ANABRANCH_MESH_NODES and ANABRANCH_MESH_WRITES make it larger.
func TestLargeMesh(t *testing.T) {
	nodes, writes := numberOf(t, "ANABRANCH_MESH_NODES", 40), numberOf(t, "ANABRANCH_MESH_WRITES", 400)
	const writers, bytes, every = 10, 400, 10 * time.Millisecond
	var least traffic // for each node
	synctest.Test(t, func(t *testing.T) {
		m := newSparseMesh(t, 2)
		m.settle(t)
		before := m.traffic()
		m.write(t, 1, writes, bytes, every)
		least = m.traffic().since(before)
	})
	synctest.Test(t, func(t *testing.T) {
		m := newSparseMesh(t, nodes)
		m.settle(t)
		before := m.traffic()
		pass(10 * time.Second)
		idle := m.traffic().since(before)
		t.Logf("%d nodes, idle: %d bytes a node and second", nodes, idle.bytes/uint64(10*nodes))

		var last []time.Duration
		for i := range 3 {
			last = m.spread(t, nodes/2, fmt.Sprint("alone ", i), bytes)
			mean, most := hops(last)
			t.Logf("write %d of one node: %.1f hops, at most %.1f; log2 of %d is %.1f", i+1, mean, most, nodes, math.Log2(float64(nodes)))
			pass(10 * time.Second)
		}
		// Each peer passes on to more than two others that do not have it.
		if _, most := hops(last); most > 1+math.Log2(float64(nodes)) {
			t.Errorf("once the node has a tree its writes take %.1f hops", most)
		}

		// Each changes what all members hold, and that is told.
		const sparse, pause = 12, 5 * time.Second
		before = m.traffic()
		for i := range sparse {
			set(t, m.spaces[0], fmt.Sprint("sparse ", i), "i", i)
			pass(pause)
		}
		told := m.traffic().since(before).bytes / uint64(nodes) / uint64((sparse * pause).Seconds())
		t.Logf("a write each %s: %d bytes a node and second", pause, told)
		if told > 8000 {
			t.Errorf("a write each %s costs a node %d bytes a second", pause, told)
		}

		before = m.traffic()
		took := m.write(t, writers, writes, bytes, every)
		got := m.traffic().since(before)
		ratio := float64(got.bytes) / float64(least.bytes) / float64(nodes-1)
		t.Logf("%d writes of %d bytes by %d nodes: a node receives %d bytes in %d messages (%d in %d from the writer alone), %.3f times the least; all have all %s after the last write",
			writes, bytes, writers, got.bytes/uint64(nodes), got.messages/uint64(nodes), least.bytes, least.messages, ratio, took)
		if ratio > 1.3 {
			t.Errorf("they received %.3f times the least", ratio)
		}
	})
}
