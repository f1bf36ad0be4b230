package replica_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
// Two of five are an hour ahead, and hold what they write. Then they are alone with each other: they must not take each other's word for it, or
// what one of them has of the other would wait until its time comes.
func TestTwoNodesAheadHoldAlsoWhenTheyAreAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		names := []string{"a", "b", "c", "d", "e"}
		clocks, spaces, all := make([]wallClock, len(names)), make([]*replica.Space, len(names)), make([]*replica.Replica, len(names))
		ids := make([]replica.PeerID, len(names))
		for i, name := range names {
			tr := network.Node(name)
			tr.SetNow(clocks[i].now)
			cfg := replica.Config{Transport: tr, Now: clocks[i].now}
			for _, other := range names[:i] {
				cfg.Peers = append(cfg.Peers, replica.Peer{ID: memnet.ID(other), Addr: "mem:" + other})
			}
			all[i], ids[i] = open(t, cfg), memnet.ID(name)
			spaces[i] = space(t, all[i])
		}
		set(t, spaces[2], "start", "x", 1)
		waitLevel(t, spaces...)
		for i := range 2 {
			clocks[i].set(time.Hour)
		}
		pass(time.Minute) // all have asked all for their clocks
		for i, r := range all {
			if st := r.Clock(); st.Holding != (i < 2) {
				t.Errorf("the clock of %s: %+v", names[i], st)
			}
		}
		held := []replica.Receipt{set(t, spaces[0], "a", "x", 1), set(t, spaces[1], "b", "x", 1)}
		network.Partition(ids[:2], ids[2:])
		pass(20 * time.Minute)
		for i, key := range []string{"b", "a"} {
			if _, err := spaces[i].Get(t.Context(), key); !errors.Is(err, replica.ErrNotFound) {
				t.Errorf("%s has what the other held: %v", names[i], err)
			}
			if st := all[i].Clock(); !st.Holding || st.Peers != 4 || st.Ahead != 3 {
				t.Errorf("alone with the other, the clock of %s: %+v", names[i], st)
			}
		}
		for i := range 2 {
			clocks[i].set(0)
		}
		network.Heal()
		pass(2 * time.Minute)
		for i, rc := range held {
			if n := spaces[i].Synced(rc); n != 4 {
				t.Errorf("%d nodes have what %s held", n, names[i])
			}
		}
		waitLevel(t, spaces...)
		for _, s := range spaces {
			hasSoundTimes(t, s)
		}
	})
}

// The machine was asleep: what is remembered of clocks says nothing of them any more.
func TestClocksFromBeforeASleepDoNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		var asleep wallClock // of both, by how much the monotonic clock was left behind
		var all []*replica.Replica
		for i, name := range []string{"a", "b", "c", "d"} {
			tr := network.Node(name)
			tr.SetNow(asleep.now)
			cfg := replica.Config{Transport: tr, Now: asleep.now}
			if i > 0 {
				cfg.Peers = []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}
			}
			all = append(all, open(t, cfg))
			space(t, all[i])
		}
		pass(time.Minute)
		network.Partition([]replica.PeerID{memnet.ID("a"), memnet.ID("b")}, []replica.PeerID{memnet.ID("c")}, []replica.PeerID{memnet.ID("d")})
		pass(10 * time.Second)
		if st := all[0].Clock(); st.Peers != 3 || !st.Sound {
			t.Errorf("before: %+v", st)
		}
		asleep.set(8 * time.Hour)
		pass(time.Minute)
		if st := all[0].Clock(); st.Peers != 1 || !st.Sound {
			t.Errorf("after: %+v", st)
		}
	})
}

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
		if st, _ := sb.Status(t.Context()); len(st.Peers) != 1 || strings.Contains(st.Peers[0].LastError, "refused") {
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

// A new node with a wrong clock is filled before it meets anybody. Alone, what it deletes is pruned at once; and yet all that is left goes
// out with sound times, and nothing that was deleted.
func TestNodeThatWasAloneWithAWrongClock(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	a.clock.set(year)
	a.cfg.PruneDelay = -1
	sa := a.open(t)
	for i := range 30 {
		set(t, sa, fmt.Sprint("kept ", i), "x", i)
		set(t, sa, fmt.Sprint("gone ", i), "x", i)
		update(t, sa, func(tx *replica.Tx) { tx.Doc(fmt.Sprint("gone ", i)).Delete() })
	}
	update(t, sa, func(tx *replica.Tx) {
		for i := range 500 { // in chunks
			tx.Doc("large").Set(crdt.Path{fmt.Sprint(i)}, fmt.Sprintf("%032d", i))
		}
	})
	until(t, "it is pruned", func() bool { return sa.Summary().Stable.Equal(sa.Summary().Vector) })
	rc := set(t, sa, "newer", "x", 1)
	until(t, "no log is left", func() bool {
		report, err := sa.Verify(t.Context(), replica.VerifyOptions{})
		return err == nil && report.LogEntries < 3
	})
	sb := b.open(t)
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding })
	a.clock.set(0)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := sa.WaitSynced(ctx, rc, 1); err != nil {
		t.Fatal(err, a.r.Clock())
	}
	waitLevel(t, sa, sb)
	hasSoundTimes(t, sb)
	mustVerify(t, sa)
	mustVerify(t, sb)
	if n := sb.Summary().Documents; n != 32 {
		t.Errorf("%d documents", n)
	}
}

// Whether a process was killed or its store put back, it comes back under another life: to whom it sent something is not certain then, so
// it asks all it knows, and then goes on. A rebase that was broken off goes on as well.
func TestHeldWritesOutliveKills(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	sa, sb := a.open(t), b.open(t)
	if err := sa.WaitSynced(t.Context(), set(t, sa, "count", "n", 0), 1); err != nil {
		t.Fatal(err)
	}
	want := 0
	for range 3 {
		a.clock.set(year)
		for range 10 {
			update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
			want++
		}
		a.close()
		touch(t, a.cfg.Dir) // as if it had been killed
		sa = a.open(t)
		update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
		want++
	}
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding })
	a.clock.set(0)
	waitLevelAfter(t, sa, sb)
	hasSoundTimes(t, sb)
	if got := show(t, sb, "sum"); got != fmt.Sprintf("map[n:%d]", want) {
		t.Errorf("got %s, want %d", got, want)
	}
	mustVerify(t, sa)
}

// touch disturbs a closed store, so that its next life is another one.
func touch(t *testing.T, dir string) {
	t.Helper()
	if err := os.Remove(dir + "/ANCHOR"); err != nil {
		t.Fatal(err)
	}
}

// A backup that was taken while writes were held is put back after they were re-issued: they are not brought in twice, and what was
// written after the backup comes back from the peer.
func TestBackupFromBeforeARebase(t *testing.T) {
	network := memnet.New(1)
	a, b := newStation(t, network, "a", "b"), newStation(t, network, "b")
	sa, sb := a.open(t), b.open(t)
	waitLevel(t, sa, sb)
	a.clock.set(year)
	for range 10 {
		update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
		update(t, sa, func(tx *replica.Tx) { tx.Doc("other").Set(crdt.Path{"x"}, "held") })
	}
	a.close()
	backup := t.TempDir() + "/backup"
	if err := os.CopyFS(backup, os.DirFS(a.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	sa = a.open(t)
	update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 5) })
	a.clock.set(0)
	waitLevelAfter(t, sa, sb)
	if got := show(t, sb, "sum"); got != "map[n:15]" {
		t.Fatal(got)
	}
	a.close()
	a.cfg.Dir = backup
	if err := os.Chmod(backup, 0o700); err != nil {
		t.Fatal(err)
	}
	sa = a.open(t)
	update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 2) })
	waitLevelAfter(t, sa, sb)
	for _, s := range []*replica.Space{sa, sb} {
		hasSoundTimes(t, s)
		mustVerify(t, s)
		if got := show(t, s, "sum") + show(t, s, "other"); got != "map[n:17]map[x:held]" {
			t.Error(got)
		}
		doc, err := s.Get(t.Context(), "other")
		if err != nil || len(doc.Conflicts()) > 0 {
			t.Errorf("%v, conflicts %v", err, doc.Conflicts())
		}
	}
}

// The peer's clock is ahead as well when a frame goes out, and then the cable is pulled: whether it arrived, only the peer knows. Its word in the
// next session decides. What it has keeps its time, and what it has not is re-issued: nothing is lost, and nothing is counted twice.
func TestFrameWhoseAcknowledgementNeverCame(t *testing.T) {
	for _, tt := range []struct{ arrives, killed bool }{{true, true}, {false, true}, {true, false}, {false, false}} {
		arrives := tt.arrives
		t.Run(fmt.Sprintf("it arrives: %t, killed: %t", arrives, tt.killed), func(t *testing.T) {
			network := memnet.New(1)
			a, b, c := newStation(t, network, "a", "b", "c"), newStation(t, network, "b"), newStation(t, network, "c")
			a.clock.set(time.Hour)
			b.clock.set(time.Hour)
			sa, sb := a.open(t), b.open(t)
			waitLevel(t, sa, sb)
			if arrives {
				rc := update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
				if err := sb.WaitVector(t.Context(), crdt.NewVersionVector(rc.Dot)); err != nil {
					t.Fatal(err)
				}
			}
			network.Cut(memnet.ID("a"), memnet.ID("b"))
			// What is written now is handed to a session that leads nowhere.
			update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
			a.close()
			if tt.killed {
				touch(t, a.cfg.Dir)
			}
			network.Heal()
			network.Cut(memnet.ID("a"), memnet.ID("b"))
			a.clock.set(0)
			b.clock.set(0)
			sa, sc := a.open(t), c.open(t)
			waits := false
			until(t, "a waits for the word of b, or never told it anything", func() bool {
				held := a.r.Clock().Held
				waits = len(held) == 1 && len(held[0].WaitsFor) == 1 && held[0].WaitsFor[0] == memnet.ID("b")
				// The session may have ended before the first write of all; then there is nobody to wait for.
				never := !arrives && !tt.killed && sa.Summary().Horizon.Max().Wall().Before(time.Now().Add(time.Minute))
				return waits || never
			})
			if _, err := sc.Get(t.Context(), "sum"); err == nil && waits {
				t.Error("c has it before b has said what it has")
			}
			network.Heal()
			want := "map[n:1]"
			if arrives {
				want = "map[n:2]"
				// What b has lies in the future: until then its peers refuse it. The rest of the test is an hour later.
				for _, n := range []*station{a, b, c} {
					n.clock.set(time.Hour)
				}
			}
			waitLevel(t, sa, sb, sc)
			for _, s := range []*replica.Space{sa, sb, sc} {
				if got := show(t, s, "sum"); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				mustVerify(t, s)
			}
		})
	}
}

// One of three is a year ahead. Two to one: it is told, and holds, and relays between the others all the while.
func TestNodeAheadStillRelays(t *testing.T) {
	network := memnet.New(1)
	a, b, c := newStation(t, network, "a", "b", "c"), newStation(t, network, "b"), newStation(t, network, "c")
	a.clock.set(year)
	sa, sb, sc := a.open(t), b.open(t), c.open(t) // b and c know each other by way of a alone
	set(t, sa, "mine", "x", 1)
	until(t, "the clock is told", func() bool { st := a.r.Clock(); return st.Holding && st.Ahead == 2 })
	for i := range 10 {
		rb, rc := set(t, sb, "b", "x", i), set(t, sc, "c", "x", i)
		if err := sc.WaitVector(t.Context(), crdt.NewVersionVector(rb.Dot)); err != nil {
			t.Fatal(err)
		}
		if err := sb.WaitVector(t.Context(), crdt.NewVersionVector(rc.Dot)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sb.Get(t.Context(), "mine"); err == nil {
		t.Error("what a wrote came to b")
	}
	a.clock.set(0)
	waitLevelAfter(t, sa, sb)
	waitLevel(t, sa, sb, sc)
	hasSoundTimes(t, sc)
	if got := show(t, sc, "mine"); got != "map[x:1]" {
		t.Error(got)
	}
}

// A backup does not know what was handed out after it was taken. So the writes in it are re-issued only when all members have been asked.
func TestBackupFromBeforeSomethingWasHandedOut(t *testing.T) {
	network := memnet.New(1)
	a, b, c := newStation(t, network, "a", "b", "c"), newStation(t, network, "b"), newStation(t, network, "c")
	a.clock.set(time.Hour)
	b.clock.set(time.Hour)
	sa, sb := a.open(t), b.open(t)
	if err := sa.WaitSynced(t.Context(), set(t, sa, "first", "x", 1), 1); err != nil {
		t.Fatal(err)
	}
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	a.close()
	touch(t, a.cfg.Dir) // it writes under an ID of which b was never told
	sa = a.open(t)
	rc := update(t, sa, func(tx *replica.Tx) { tx.Doc("sum").Increment(crdt.Path{"n"}, 1) })
	a.close()
	backup := t.TempDir() + "/backup"
	if err := os.CopyFS(backup, os.DirFS(a.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(backup, 0o700); err != nil {
		t.Fatal(err)
	}
	sa = a.open(t)
	network.Heal()
	if err := sa.WaitSynced(t.Context(), rc, 1); err != nil {
		t.Fatal(err)
	}
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	a.close()
	a.cfg.Dir = backup
	a.clock.set(0)
	b.clock.set(0)
	sa, sc := a.open(t), c.open(t)
	until(t, "a waits for the word of b", func() bool {
		held := a.r.Clock().Held
		return len(held) == 1 && len(held[0].WaitsFor) == 1 && held[0].WaitsFor[0] == memnet.ID("b")
	})
	network.Heal()
	until(t, "a has heard", func() bool { return len(a.r.Clock().Held) == 0 })
	for _, n := range []*station{a, b, c} {
		n.clock.set(time.Hour)
	}
	waitLevel(t, sa, sb, sc)
	for _, s := range []*replica.Space{sa, sb, sc} {
		if got := show(t, s, "sum"); got != "map[n:1]" {
			t.Errorf("got %s", got)
		}
	}
}
