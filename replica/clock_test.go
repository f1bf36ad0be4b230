package replica_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

const year = 365 * 24 * time.Hour

// wallClock is a clock that a test sets.
type wallClock struct{ ahead atomic.Int64 }

func (c *wallClock) set(ahead time.Duration) { c.ahead.Store(int64(ahead)) }
func (c *wallClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }

// station is a node of a test that can be closed, killed and opened again, with a clock of its own.
type station struct {
	name    string
	clock   wallClock
	network *memnet.Network
	cfg     replica.Config
	r       *replica.Replica
}

func newStation(t *testing.T, network *memnet.Network, name string, peers ...string) *station {
	t.Helper()
	n := &station{name: name, network: network}
	n.cfg = replica.Config{Dir: t.TempDir() + "/" + name, Now: n.clock.now}
	for _, p := range peers {
		n.cfg.Peers = append(n.cfg.Peers, replica.Peer{ID: memnet.ID(p), Addr: "mem:" + p})
	}
	t.Cleanup(func() { n.close() })
	return n
}

func (n *station) open(t *testing.T) *replica.Space {
	t.Helper()
	tr := n.network.Node(n.name)
	tr.SetNow(n.clock.now)
	n.cfg.Transport = tr
	r, err := replica.Open(n.cfg)
	if err != nil {
		t.Fatal(err)
	}
	n.r = r
	return space(t, r)
}

func (n *station) close() {
	if n.r != nil {
		n.r.Close()
		n.r = nil
	}
}

// until waits until what returns true.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// hasSoundTimes fails if a space holds a time that others would refuse.
func hasSoundTimes(t *testing.T, s *replica.Space) {
	t.Helper()
	st := s.Summary()
	if limit := time.Now().Add(time.Minute); st.Horizon.Max().Wall().After(limit) {
		t.Errorf("it holds %s", st.Horizon.Max())
	}
}

// A node a year ahead writes, meets a peer, is told, and holds; its clock is corrected, and within seconds all that it wrote
// is with the peer, with sound times.
func TestWritesOfANodeAheadAreHeldAndReissued(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	a.clock.set(year)
	sa, sb := a.open(t), b.open(t)
	set(t, sb, "shared", "x", "from b")
	before := set(t, sa, "early", "x", 1)
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding && len(a.r.Clock().Held) == 1 })
	if st := b.r.Peers(); len(st) != 1 || st[0].Skew < year-time.Minute {
		t.Errorf("b sees %+v", st)
	}
	until(t, "a receives while it holds", func() bool { _, err := sa.Get(t.Context(), "shared"); return err == nil })
	during := set(t, sa, "shared", "x", "from a")
	update(t, sa, func(tx *replica.Tx) { tx.Doc("count").Increment(crdt.Path{"n"}, 3) })
	update(t, sa, func(tx *replica.Tx) { tx.Doc("early").Delete() })
	cursor := sa.Cursor()
	set(t, sb, "later", "x", "from b")
	until(t, "a receives more", func() bool { _, err := sa.Get(t.Context(), "later"); return err == nil })
	if _, err := sb.Get(t.Context(), "count"); err == nil {
		t.Error("what a wrote came to b")
	}
	if sa.Synced(before) != 0 || sa.Synced(during) != 0 {
		t.Error("held writes count as synced")
	}

	a.clock.set(0)
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	begun := time.Now()
	for _, rc := range []replica.Receipt{before, during} {
		if err := sa.WaitSynced(ctx, rc, 1); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("all is with the peer %s after the clock was corrected", time.Since(begun).Round(time.Millisecond))
	update(t, sa, func(tx *replica.Tx) { tx.Doc("count").Increment(crdt.Path{"n"}, 4) })
	waitLevel(t, sa, sb)
	for _, s := range []*replica.Space{sa, sb} {
		hasSoundTimes(t, s)
		mustVerify(t, s)
		if got := show(t, s, "shared") + show(t, s, "count"); got != "map[x:from a]map[n:7]" {
			t.Error(got)
		}
		if _, err := s.Get(t.Context(), "early"); err == nil {
			t.Error("what was deleted is back")
		}
	}
	if st := a.r.Clock(); st.Holding || len(st.Held) > 0 {
		t.Errorf("%+v", st)
	}
	seen := 0
	watch, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	for _, err := range sa.Watch(watch, cursor) { // its cursor is still good
		if err != nil {
			break
		}
		if seen++; seen == 3 {
			break
		}
	}
	if seen == 0 {
		t.Error("a watcher that goes on from before sees nothing")
	}
}

// The clock jumps while the nodes are connected: nothing of what is written after that is sent, at once, for the peer's clock is known.
func TestClockThatJumpsDuringAConnection(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	sa, sb := a.open(t), b.open(t)
	rc := set(t, sa, "count", "x", 1)
	if err := sa.WaitSynced(t.Context(), rc, 1); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		a.clock.set(year)
		for i := range 20 {
			update(t, sa, func(tx *replica.Tx) { tx.Doc(fmt.Sprintf("%d-%d", round, i)).Increment(crdt.Path{"n"}, 1) })
			update(t, sa, func(tx *replica.Tx) { tx.Doc("count").Increment(crdt.Path{"n"}, 1) })
		}
		until(t, "it is noticed", func() bool { return a.r.Clock().Holding })
		if st, _ := sb.Status(t.Context()); len(st.Peers) != 1 || st.Peers[0].LastError != "" {
			t.Errorf("b refused something: %+v", st.Peers)
		}
		a.clock.set(0)
		waitLevelAfter(t, sa, sb)
		hasSoundTimes(t, sb)
		if got, want := show(t, sb, "count"), fmt.Sprintf("map[n:%d x:1]", 20*(round+1)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	mustVerify(t, sa)
}

// waitLevelAfter waits until nothing is held, and both are level.
func waitLevelAfter(t *testing.T, a, b *replica.Space) {
	t.Helper()
	until(t, "nothing is held", func() bool { return a.Summary().Horizon.Max().Wall().Before(time.Now().Add(time.Minute)) })
	waitLevel(t, a, b)
}
