package replica_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/mesh"
)

// town is a set of nodes that find each other, in a bubble of synctest.
type town struct {
	t       *testing.T
	network *memnet.Network
	nodes   map[string]*replica.Replica
	spaces  map[string]*replica.Space
	stores  map[string]*memstore.Store
}

func newTown(t *testing.T) *town {
	return &town{t: t, network: memnet.New(1), nodes: map[string]*replica.Replica{}, spaces: map[string]*replica.Space{}, stores: map[string]*memstore.Store{}}
}

// start opens a node at an address of its name; it is told of others by their names.
func (w *town) start(name string, cfg replica.Config, told ...string) {
	w.t.Helper()
	w.startAt(name, w.network.Node(name), cfg, told...)
}

func (w *town) startAt(name string, transport *memnet.Transport, cfg replica.Config, told ...string) {
	w.t.Helper()
	if cfg.Degree == 0 {
		cfg.Degree = 4
	}
	cfg.Transport = transport
	for _, other := range told {
		cfg.Peers = append(cfg.Peers, replica.Peer{ID: memnet.ID(other), Addr: "mem:" + other})
	}
	if w.stores[name] == nil {
		w.stores[name] = memstore.New()
	} else {
		w.stores[name] = w.stores[name].Clone()
	}
	r, err := replica.OpenOn(cfg, w.stores[name])
	if err != nil {
		w.t.Fatal(err)
	}
	w.nodes[name] = r
	s, err := r.Space("notes")
	if err != nil {
		w.t.Fatal(err)
	}
	w.spaces[name] = s
}

func (w *town) stop(name string) {
	w.t.Helper()
	if err := w.nodes[name].Close(); err != nil {
		w.t.Fatal(err)
	}
	delete(w.nodes, name)
	delete(w.spaces, name)
}

func (w *town) stopAll() {
	for name := range w.nodes {
		w.stop(name)
	}
}

// pass lets the time pass.
func (w *town) pass(d time.Duration) {
	timer := time.NewTimer(d)
	<-timer.C
	synctest.Wait()
}

// check fails unless all nodes are connected, directly or by way of others, none of them with more than most.
func (w *town) check(most int) {
	w.t.Helper()
	ids := map[replica.PeerID]string{}
	for name, r := range w.nodes {
		ids[r.Self()] = name
	}
	reached := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if reached[name] {
			return
		}
		reached[name] = true
		for _, other := range w.connected(name) {
			visit(ids[other])
		}
	}
	var degrees []int
	for name := range w.nodes {
		if len(reached) == 0 {
			visit(name)
		}
		n := len(w.connected(name))
		degrees = append(degrees, n)
		if n > most {
			w.t.Errorf("%s has %d connections, more than %d", name, n, most)
		}
	}
	slices.Sort(degrees)
	w.t.Logf("%d nodes, degrees %v", len(w.nodes), degrees)
	if len(reached) != len(w.nodes) {
		w.t.Errorf("%d of %d nodes are connected", len(reached), len(w.nodes))
	}
}

func (w *town) connected(name string) []replica.PeerID {
	var ids []replica.PeerID
	for _, p := range w.nodes[name].Peers() {
		if p.Connected {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

// converge writes at each node, and fails unless all have it all a moment later.
func (w *town) converge() {
	w.t.Helper()
	for name, s := range w.spaces {
		set(w.t, s, name, fmt.Sprint(time.Now().Unix()), 1)
	}
	w.pass(5 * time.Second)
	var first *replica.SpaceStatus
	for name, s := range w.spaces {
		st := s.Summary()
		if first == nil {
			first = &st
		}
		if !st.Vector.Equal(first.Vector) || st.Digest != first.Digest {
			w.t.Errorf("%s lacks something", name)
		}
	}
}

func name(i int) string { return fmt.Sprintf("node-%d", i) }

func TestNodesWithOneCommonAddressFormAMesh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const nodes, most = 20, 8
		w := newTown(t)
		defer w.stopAll()
		for i := range nodes {
			w.start(name(i), replica.Config{MaxPeers: most}, name(0))
		}
		w.pass(time.Minute)
		w.check(most)
		w.converge()

		// The common one goes, and four others.
		for i := range 5 {
			w.stop(name(i))
		}
		w.pass(2 * time.Minute)
		w.check(most)
		w.converge()

		// What is quiet stays as it is: nothing is dropped and dialled again all the time.
		before := map[string]string{}
		for name := range w.nodes {
			before[name] = fmt.Sprint(w.connected(name))
		}
		w.pass(30 * time.Minute)
		changed := 0
		for name := range w.nodes {
			if fmt.Sprint(w.connected(name)) != before[name] {
				changed++
			}
		}
		t.Logf("in half an hour the connections of %d nodes changed", changed)
		w.check(most)
		w.converge()
	})
}

func TestNodeThatHasMovedIsFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.stopAll()
		w.start("a", replica.Config{})
		w.start("b", replica.Config{}, "a")
		w.start("c", replica.Config{}, "a")
		w.pass(30 * time.Second)
		w.check(2)
		w.stop("c")
		w.stop("a")
		w.pass(10 * time.Minute)
		// C has another address, and nobody told it of B but A, which is gone: B is in its book.
		w.startAt("c", w.network.NodeAt("c", "c2"), replica.Config{}, "a")
		w.pass(30 * time.Second)
		if n := len(w.connected("b")); n != 1 {
			t.Fatalf("B has %d connections", n)
		}
		// A comes back, with C's old address in its book, and finds it by way of B.
		w.startAt("a", w.network.NodeAt("a", "a2"), replica.Config{}, "b")
		w.pass(30 * time.Second)
		for name := range w.nodes {
			if n := len(w.connected(name)); n != 2 {
				t.Errorf("%s has %d connections", name, n)
			}
		}
		w.converge()
	})
}

func TestPeerNamedByItsIDIsFoundWhereOthersSayItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.stopAll()
		w.start("a", replica.Config{})
		w.startAt("b", w.network.NodeAt("b", "elsewhere"), replica.Config{}, "a")
		w.start("c", replica.Config{Degree: 1}, "a", "b") // b's address is wrong
		w.pass(time.Minute)
		if !slices.Contains(w.connected("c"), memnet.ID("b")) {
			t.Error("not found")
		}
	})
}

func TestStarWhoseLeavesCannotReachEachOtherStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.stopAll()
		const leaves = 14
		w.start("hub", replica.Config{})
		for i := range leaves {
			w.start(name(i), replica.Config{}, "hub")
			for j := range i {
				w.network.Cut(memnet.ID(name(i)), memnet.ID(name(j)))
			}
		}
		w.pass(10 * time.Minute)
		w.check(leaves)
		w.converge()
	})
}

func TestNodeIsNotToldOfOthersThatItMayNotKnow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.stopAll()
		w.start("a", replica.Config{Introduce: func(to, of replica.PeerID) bool { return to != memnet.ID("c") && of != memnet.ID("c") }})
		w.start("b", replica.Config{}, "a")
		w.start("c", replica.Config{}, "a")
		w.pass(time.Minute)
		if n := len(w.connected("b")) + len(w.connected("c")); n != 2 {
			t.Error("b and c know each other")
		}
	})
}

func TestPeersSayWhereAnAddressComesFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTown(t)
		defer w.stopAll()
		w.start("a", replica.Config{})
		w.start("b", replica.Config{}, "a")
		w.nodes["b"].Learn(memnet.ID("z"), mesh.FromTicket, "mem:z")
		w.pass(30 * time.Second)
		var lines []string
		for _, p := range w.nodes["b"].Peers() {
			lines = append(lines, fmt.Sprintln(p.Addr, p.Connected, p.Source))
		}
		if got := strings.Join(lines, ""); !strings.Contains(got, "mem:a true configured\n") || !strings.Contains(got, "mem:z false ticket\n") {
			t.Error(got)
		}
	})
}
