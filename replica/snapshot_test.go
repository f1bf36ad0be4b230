package replica_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// fill writes documents and deletes every third of them.
func fill(t *testing.T, s *replica.Space, from, to int) {
	t.Helper()
	for ; from < to; from += 100 {
		update(t, s, func(tx *replica.Tx) {
			for i := from; i < min(from+100, to); i++ {
				tx.Doc(fmt.Sprintf("doc/%06d", i)).Set(crdt.Path{"n"}, i)
			}
		})
	}
	update(t, s, func(tx *replica.Tx) {
		for i := 0; i < to; i += 3 {
			tx.Doc(fmt.Sprintf("doc/%06d", i)).Delete()
		}
	})
}

func forget(t *testing.T, s *replica.Space) {
	t.Helper()
	if err := s.Forget(); err != nil {
		t.Fatal(err)
	}
}

func TestFreshReplicaJoinsByASnapshotWhatIsForgotten(t *testing.T) {
	var said bytes.Buffer
	p := newStrangers(t, replica.Config{}, replica.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	fill(t, p.sa, 0, 3000)
	forget(t, p.sa)
	set(t, p.sb, "own", "n", 1)
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		mustVerify(t, s)
		if st := s.Summary(); st.Documents != 2001 || !st.Closed {
			t.Errorf("%d documents, closed: %v", st.Documents, st.Closed)
		}
	}
	if got := show(t, p.sa, "own"); got != "map[n:1]" {
		t.Errorf("what was written meanwhile is %s", got)
	}
	if err := p.b.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "asking for a snapshot"); n != 1 {
		t.Errorf("it asked for %d snapshots", n)
	}
}

// Nothing is forgotten, but there is so much that walking it takes less than looking it up.
func TestFreshReplicaTakesALargeSpaceByASnapshot(t *testing.T) {
	for documents, snapshots := range map[int]int{50_000: 1, 5_000: 0} {
		t.Run(fmt.Sprint(documents, " documents"), func(t *testing.T) {
			var said bytes.Buffer
			p := newStrangers(t, replica.Config{}, replica.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
			fillLarge(t, p.sa, documents)
			set(t, p.sb, "own", "n", 1)
			p.network.Heal()
			p.level(t)
			set(t, p.sa, "later", "n", 2)
			p.level(t)
			mustVerify(t, p.sb)
			if got := p.sb.Summary().Documents; got != int64(documents)+2 {
				t.Errorf("%d documents", got)
			}
			if got := show(t, p.sa, "own") + show(t, p.sb, "later"); got != "map[n:1]map[n:2]" {
				t.Errorf("what was written beside is %s", got)
			}
			if err := p.b.Close(); err != nil {
				t.Fatal(err)
			}
			for _, what := range []string{"asking for a snapshot", "the snapshot is through"} {
				if n := strings.Count(said.String(), what); n != snapshots {
					t.Errorf("it said %q %d times, want %d", what, n, snapshots)
				}
			}
		})
	}
}

// A node whose clock is ahead holds back what it wrote, which a snapshot would tell. What others wrote comes from it by deltas.
func TestFreshReplicaGetsALargeSpaceOfANodeThatIsAhead(t *testing.T) {
	network := memnet.New(1)
	a, b, c := newStation(t, network, "a", "b", "c"), newStation(t, network, "b"), newStation(t, network, "c")
	sa, sb, sc := a.open(t), b.open(t), c.open(t)
	until(t, "all know each other, so that nothing is forgotten", func() bool { return members(t, sa) == 2 && members(t, sc) == 2 })
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	network.Break(memnet.ID("a"), memnet.ID("b"))
	const documents = 50_000
	fillLarge(t, sc, documents)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	arrives := func(s *replica.Space) {
		if err := s.WaitVector(ctx, sc.Summary().Vector); err != nil {
			t.Fatalf("what another wrote did not come: %v", err)
		}
	}
	arrives(sa)
	a.clock.set(2 * time.Hour)
	set(t, sa, "held", "n", 1)
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding })
	network.Heal()
	arrives(sb)
	if got := sb.Summary().Documents; got != documents {
		t.Errorf("%d documents", got)
	}
	a.clock.set(0)
	waitLevelAfter(t, sa, sb)
	waitLevel(t, sa, sb, sc)
	if got := show(t, sb, "held"); got != "map[n:1]" {
		t.Errorf("what was held is %s", got)
	}
}

// What is forgotten comes by a snapshot only, and not from a node that holds writes back: it is taken from another.
func TestFreshReplicaDoesNotWaitForTheSnapshotOfANodeThatIsAhead(t *testing.T) {
	network := memnet.New(1)
	a, b, c := newStation(t, network, "a", "b", "c"), newStation(t, network, "b"), newStation(t, network, "c")
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	var said nettest.Journal
	b.cfg.Logger = said.Logger()
	sa, sb, sc := a.open(t), b.open(t), c.open(t)
	fill(t, sc, 0, 500)
	waitLevel(t, sa, sc)
	forget(t, sa)
	forget(t, sc)
	a.clock.set(2 * time.Hour)
	set(t, sa, "held", "n", 1)
	until(t, "the clock is told", func() bool { return a.r.Clock().Holding })
	network.Heal()
	said.Says(t, "asking for a snapshot")
	c.r.AddPeer(replica.Peer{ID: memnet.ID("b"), Addr: "mem:b"})
	until(t, "what is forgotten arrives", func() bool { return sb.Summary().Documents == sc.Summary().Documents })
	a.clock.set(0)
	waitLevelAfter(t, sa, sb)
	waitLevel(t, sa, sb, sc)
}

func members(t *testing.T, s *replica.Space) int {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(st.Stability.Members)
}

// fillLarge writes many documents in few transactions.
func fillLarge(t *testing.T, s *replica.Space, documents int) {
	t.Helper()
	for from := 0; from < documents; from += 2500 {
		update(t, s, func(tx *replica.Tx) {
			for i := range 2500 {
				tx.Doc(fmt.Sprintf("doc/%06d", from+i)).Set(crdt.Path{"n"}, i)
			}
		})
	}
}

func TestReplicaThatWasLongGoneKeepsItsWritesAndBringsNothingBack(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	fill(t, p.sa, 0, 500)
	p.level(t)
	p.network.Cut(p.ida, p.idb)
	update(t, p.sa, func(tx *replica.Tx) {
		tx.Doc("doc/000001").Delete()
		tx.Doc("doc/000002").Set(crdt.Path{"n"}, "new")
	})
	set(t, p.sb, "doc/000004", "n", "unsent")
	set(t, p.sb, "doc/000001", "more", "unsent")
	forget(t, p.sa)
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		mustVerify(t, s)
		for key, want := range map[string]string{
			"doc/000001": "map[more:unsent]", "doc/000002": "map[n:new]", "doc/000004": "map[n:unsent]",
		} {
			if got := show(t, s, key); got != want {
				t.Errorf("%s shows %s, want %s", key, got, want)
			}
		}
	}
}

// Of what is here already nothing travels, though nobody knows who has it.
func TestReplicaThatWasLongGoneTakesWhatDiffers(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	fill(t, p.sa, 0, 3000)
	p.level(t)
	p.network.Cut(p.ida, p.idb)
	update(t, p.sa, func(tx *replica.Tx) {
		tx.Doc("doc/000001").Delete()
		tx.Doc("doc/000002").Set(crdt.Path{"n"}, "new")
	})
	set(t, p.sb, "doc/002999", "n", "unsent")
	forget(t, p.sa)
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		mustVerify(t, s)
		if got := show(t, s, "doc/000002") + show(t, s, "doc/002999"); got != "map[n:new]map[n:unsent]" {
			t.Errorf("the documents show %s", got)
		}
		if st := s.Summary(); st.Documents != 1999 || !st.Closed {
			t.Errorf("%d documents, closed: %v", st.Documents, st.Closed)
		}
	}
}

// A backup from before is put back, and what was deleted since is forgotten by then.
func TestRestoredBackupGetsItsWritesBackByASnapshot(t *testing.T) {
	network := memnet.New(1)
	a := open(t, replica.Config{Transport: network.Node("a")})
	sa := space(t, a)
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	openB := func(dir string) (*replica.Replica, *replica.Space) {
		b, err := replica.Open(replica.Config{Dir: dir, Transport: network.Node("b"), Peers: []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}})
		if err != nil {
			t.Fatal(err)
		}
		return b, space(t, b)
	}
	b, sb := openB(dir)
	set(t, sb, "kept", "n", 1)
	set(t, sb, "deleted", "n", 1)
	waitLevel(t, sa, sb)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(backup, 0o700); err != nil {
		t.Fatal(err)
	}
	b, sb = openB(dir)
	set(t, sb, "kept", "n", 2)
	set(t, sb, "late", "n", 3)
	update(t, sb, func(tx *replica.Tx) { tx.Doc("deleted").Delete() })
	waitLevel(t, sa, sb)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	forget(t, sa)

	b, sb = openB(backup)
	defer b.Close()
	waitLevel(t, sa, sb)
	set(t, sb, "after", "n", 4) // under a fresh ReplicaID
	waitLevel(t, sa, sb)
	for _, s := range []*replica.Space{sa, sb} {
		mustVerify(t, s)
		if n := s.Summary().Documents; n != 3 {
			t.Errorf("%d documents, want 3", n)
		}
		for key, want := range map[string]string{"kept": "map[n:2]", "late": "map[n:3]", "after": "map[n:4]"} {
			if got := show(t, s, key); got != want {
				t.Errorf("%s shows %s, want %s", key, got, want)
			}
		}
	}
}

// The source is gone for good in the middle, and everybody else was taking a snapshot from it: nobody waits for ever.
func TestSourceThatIsGoneIsGivenUp(t *testing.T) {
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	network := memnet.New(1)
	a := open(t, replica.Config{Transport: network.Node("a"), Now: now})
	sa := space(t, a)
	fill(t, sa, 0, 3000)
	forget(t, sa)
	var spaces []*replica.Space
	for _, name := range []string{"b", "c"} {
		peers := []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}, {ID: memnet.ID("b"), Addr: "mem:b"}}
		r := open(t, replica.Config{Transport: &gated{Transport: network.Node(name), frames: 5}, Peers: peers, Now: now})
		spaces = append(spaces, space(t, r))
		waitSnapshot(t, spaces[len(spaces)-1], 500)
	}
	sb, sc := spaces[0], spaces[1]
	set(t, sb, "b", "n", 1)
	set(t, sc, "c", "n", 1)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// What they wrote themselves goes its way meanwhile. Their digests may differ: each has as much of the snapshot as came to it.
	for to, from := range map[*replica.Space]*replica.Space{sb: sc, sc: sb} {
		if err := to.WaitVector(ctx, from.Summary().Vector); err != nil {
			t.Fatal(err)
		}
	}
	ahead.Store(int64(2 * time.Minute))
	for _, s := range spaces {
		for s.Summary().Snapshot != nil {
			waitChange(ctx, t, s)
			if ctx.Err() != nil {
				t.Fatalf("it still takes a snapshot: %+v", s.Summary().Snapshot)
			}
		}
		mustVerify(t, s)
	}
}

// The node that takes the snapshot is closed in the middle, over QUIC, and opened again: it goes on where it stopped.
func TestSnapshotThatWasBrokenOffGoesOnWhereItStopped(t *testing.T) {
	ida, idb := identity(t), identity(t)
	a := open(t, replica.Config{Transport: quic(t, ida, idb)})
	sa := space(t, a)
	const documents = 12_000
	fill(t, sa, 0, documents)
	forget(t, sa)

	dir := t.TempDir()
	openB := func(frames int) (*replica.Replica, *replica.Space) {
		b, err := replica.Open(replica.Config{
			Dir: dir, Transport: &gated{Transport: quic(t, idb, ida), frames: frames}, Peers: []replica.Peer{{ID: a.Self(), Addr: a.Addrs()[0]}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return b, space(t, b)
	}
	b, sb := openB(10)
	stopped := waitSnapshot(t, sb, documents/4)
	if stopped.Peer != a.Self() || stopped.KnownDocuments != documents*2/3 || stopped.Bytes == 0 {
		t.Errorf("the status says %+v", stopped)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b, sb = openB(1 << 30)
	defer b.Close()
	if st := sb.Summary().Snapshot; st == nil || st.Documents < stopped.Documents {
		t.Fatalf("after it was opened again the status says %+v, and before %+v", st, stopped)
	}
	waitLevel(t, sa, sb)
	mustVerify(t, sb)
	if st := sb.Summary(); st.Snapshot != nil || !st.Closed || !st.Stable.Equal(sa.Summary().Stable) {
		t.Errorf("at the end the status says %+v", st)
	}
	// What was sent again is less than what had come already.
	if received := b.Peers()[0].Received; received > stopped.KnownBytes*3/4 {
		t.Errorf("%d bytes came after the break, of %d in all", received, stopped.KnownBytes)
	}
}

// waitSnapshot waits until some documents of a snapshot have come.
func waitSnapshot(t *testing.T, s *replica.Space, documents uint64) *replica.SnapshotStatus {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		if st := s.Summary().Snapshot; st != nil && st.Documents >= documents {
			return st
		}
		waitChange(ctx, t, s)
		if ctx.Err() != nil {
			t.Fatal("no snapshot came")
		}
	}
}

// gated is a transport of which each stream stops after some frames, until the connection ends.
type gated struct {
	replica.Transport
	frames int
}

type gatedConn struct {
	replica.Conn
	frames int
}

type gatedStream struct {
	replica.Stream
	left int
	done <-chan struct{}
}

func (g *gated) Dial(ctx context.Context, addr string, peer replica.PeerID) (replica.Conn, error) {
	c, err := g.Transport.Dial(ctx, addr, peer)
	if err != nil {
		return nil, err
	}
	return &gatedConn{c, g.frames}, nil
}

func (c *gatedConn) OpenStream(ctx context.Context, space string) (replica.Stream, error) {
	s, err := c.Conn.OpenStream(ctx, space)
	if err != nil {
		return nil, err
	}
	return &gatedStream{s, c.frames, c.Done()}, nil
}

func (s *gatedStream) ReadFrame() ([]byte, error) {
	if s.left--; s.left < 0 {
		<-s.done
	}
	return s.Stream.ReadFrame()
}

func identity(t *testing.T) quicnet.Identity {
	t.Helper()
	id, err := quicnet.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// quic returns a node's end of a network that one other node is allowed in.
func quic(t *testing.T, id, other quicnet.Identity) replica.Transport {
	t.Helper()
	n, err := quicnet.New(quicnet.Config{
		Identity: id, Listen: "127.0.0.1:0", Allow: func(p replica.PeerID) bool { return p == other.PeerID() },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}
