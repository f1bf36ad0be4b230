//go:build linux

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const netNodes = 5

// schedule is one run of TestNodesInNamespaces.
type schedule struct {
	t      *testing.T
	wires  *wires
	nodes  []*netNode
	ledger *netLedger
	rng    *rand.Rand
	began  time.Time

	disturbances, settlements, doubts int
}

// Five nodes, each a process in a network of its own, write all the time, while the cables between them are pulled and plugged, and
// they are killed, put back to older copies of their stores, and their clocks set wrong. Whenever all is mended they come to hold the same;
// nothing that was acknowledged is lost or comes back, unless the only stores that had to have it were put back; and
// each store is sound.
//
// ANABRANCH_NETNS_SECONDS says how long it goes on, and ANABRANCH_NETNS_SEED what happens. The order of things is that of the seed, but
// processes run as they will, so a seed does not repeat a failure exactly.
func TestNodesInNamespaces(t *testing.T) {
	text := os.Getenv("ANABRANCH_NETNS_SECONDS")
	if text == "" {
		t.Skip("not tested: it makes network namespaces; run .ci/deep namespaces, or set ANABRANCH_NETNS_SECONDS")
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("ANABRANCH_NETNS_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ANABRANCH_NETNS_SEED=%d", seed)
	w := newWires(t, netNodes)
	s := &schedule{t: t, wires: w, nodes: newNetNodes(t, w), ledger: &netLedger{}, rng: rand.New(rand.NewPCG(seed, 0)), began: time.Now()}
	for _, n := range s.nodes {
		n.start()
	}
	s.run(time.Duration(seconds * float64(time.Second)))
	s.examine()
	t.Logf("%d acknowledged changes, %d known to be at peers; %d disturbances, %d times all was compared; %d changes were in doubt because stores were put back",
		s.ledger.acked, s.ledger.synced, s.disturbances, s.settlements, s.doubts)
	if s.ledger.acked < 100 || s.ledger.synced == 0 || s.disturbances < 5 {
		t.Error("the test has tested little")
	}
}

func (s *schedule) logf(format string, args ...any) {
	s.t.Helper()
	s.t.Logf("%7.1f s: %s", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

// run goes through the shapes while writers write, and compares everything after each round of them, and in the end.
func (s *schedule) run(length time.Duration) {
	ctx, stop := context.WithCancel(s.t.Context())
	var writers sync.WaitGroup
	defer writers.Wait()
	defer stop()
	for _, n := range s.nodes {
		w := &netWriter{t: s.t, node: n, ledger: s.ledger, rng: rand.New(rand.NewPCG(s.rng.Uint64(), 0))}
		writers.Go(func() { w.run(ctx) })
	}
	phase := min(length/time.Duration(len(shapes)+2), 30*time.Second)
	end := time.Now().Add(length)
	for time.Now().Before(end) && !s.t.Failed() {
		far := s.rng.IntN(len(s.nodes))
		for i, n := range s.nodes {
			n.mayBeFar = i == far
		}
		for _, i := range s.rng.Perm(len(shapes)) {
			if s.phase(shapes[i], phase); s.t.Failed() || !time.Now().Before(end) {
				break
			}
		}
		s.settle()
	}
}

// phase lets the network have one shape for a while, and disturbs nodes meanwhile.
func (s *schedule) phase(sh shape, length time.Duration) {
	s.wires.mend()
	sh.set(s.wires, s.rng)
	s.logf("%s: %s", sh.name, s.wires)
	if sh.long {
		length *= 3
	}
	end := time.After(length)
	for !s.t.Failed() {
		disturb := time.After(length/20 + time.Duration(s.rng.Int64N(int64(length/4))))
		var again <-chan time.Time
		if sh.again != nil {
			again = time.After(sh.every/4 + time.Duration(s.rng.Int64N(int64(2*sh.every))))
		}
	waiting:
		for {
			select {
			case <-end:
				return
			case <-again:
				sh.again(s.wires, s.rng)
				again = time.After(sh.every/4 + time.Duration(s.rng.Int64N(int64(2*sh.every))))
			case <-disturb:
				break waiting
			}
		}
		n := s.nodes[s.rng.IntN(len(s.nodes))]
		s.logf("node %d: %s", n.index, n.disturb(s.ledger, s.rng))
		s.disturbances++
	}
}

// settlePatience covers the longest time between two attempts to dial, and slow machines.
const settlePatience = 3 * time.Minute

// settle mends everything, waits until all nodes are level, and compares them with each other and with the ledger.
func (s *schedule) settle() {
	s.ledger.quiet.Lock() // nobody writes
	defer s.ledger.quiet.Unlock()
	s.wires.mend()
	for _, n := range s.nodes {
		if n.offset != 0 {
			n.stop(unix.SIGKILL)
			n.offset = 0
			n.start()
		}
	}
	began := time.Now()
	for !s.areLevel() {
		if s.t.Failed() {
			return
		}
		if time.Since(began) > settlePatience {
			s.showStates()
			s.t.Errorf("the nodes do not come level within %s", settlePatience)
			return
		}
		<-time.After(50 * time.Millisecond)
	}
	s.logf("all are level after %.1f s", time.Since(began).Seconds())
	s.settlements++
	_, first := s.nodes[0].shows(s.t.Context())
	for _, n := range s.nodes {
		numbers, all := n.shows(s.t.Context())
		if all != first {
			s.t.Errorf("nodes 0 and %d show different documents: %s", n.index, firstDifference(first, all))
		}
		doubts := s.ledger.compare(s.t, fmt.Sprintf("node %d", n.index), numbers)
		if n.index == 0 {
			s.doubts += doubts
		}
	}
	s.ledger.settled(len(s.nodes))
}

// areLevel reports whether all nodes have the same vector and digest.
func (s *schedule) areLevel() bool {
	var vector map[string]string
	digest := ""
	for i, n := range s.nodes {
		st := n.status()
		if st == nil {
			s.t.Errorf("node %d does not answer, and nobody disturbed it", n.index)
			return false
		}
		if len(st.Spaces) != 1 {
			return false
		}
		space := st.Spaces[0]
		for _, p := range space.Peers {
			if p.Mismatch {
				s.t.Errorf("node %d finds a mismatch with %s", n.index, p.Peer)
			}
		}
		if i == 0 {
			vector, digest = space.Vector, space.Digest
		}
		if !maps.Equal(space.Vector, vector) || space.Digest != digest {
			return false
		}
	}
	return true
}

func (s *schedule) showStates() {
	for _, n := range s.nodes {
		st := n.status()
		if st == nil {
			s.logf("node %d does not answer", n.index)
			continue
		}
		for _, space := range st.Spaces {
			s.logf("node %d, replica %s: digest %s, closed %v, vector %v, peers %+v", n.index, st.ReplicaID, space.Digest, space.Closed, space.Vector, space.Peers)
		}
		s.logf("node %d: peers %+v", n.index, st.Peers)
	}
}

// firstDifference returns the first lines that differ.
func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("%.300q and %.300q", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d and %d documents", len(x), len(y))
}

// examine stops all nodes and lets doctor look at each store.
func (s *schedule) examine() {
	for _, n := range s.nodes {
		n.stop(unix.SIGTERM)
		if out := command(s.t, "--dir", n.dir, "doctor"); !strings.Contains(out, "main: sound") {
			s.t.Errorf("node %d: doctor says\n%s", n.index, out)
		}
	}
}
