package replica_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// asks is a node that only asks to join, and then says what a test wants.
func asks(t *testing.T, network *memnet.Network, name string, n *node, ticket string) ([]byte, *memnet.Transport) {
	t.Helper()
	id := keyOf(name)
	tr := network.Transport(id.PeerID())
	t.Cleanup(func() { tr.Close() })
	tk, err := grant.ParseTicket(ticket)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := tr.Join(t.Context(), n.addr, n.id.PeerID(), protocol.JoinRequest{Space: tk.Space, Ticket: tk.Key(), Proof: tk.Prove(id.PeerID())})
	if err != nil || answer.Code != protocol.Joined {
		t.Fatalf("%v, %v", answer.Code, err)
	}
	return answer.Statements, tr
}

func dialSpace(t *testing.T, tr *memnet.Transport, n *node, s *replica.Space) *player {
	t.Helper()
	p := &player{t: t, tr: tr}
	var err error
	if p.conn, err = tr.Dial(t.Context(), n.addr, n.id.PeerID()); err != nil {
		t.Fatal(err)
	}
	id, _ := s.ID()
	if p.stream, err = p.conn.OpenStream(t.Context(), id.String()); err != nil {
		t.Fatal(err)
	}
	return p
}

// ends returns how the peer closed the stream.
func (p *player) ends() replica.CloseCode {
	p.t.Helper()
	for {
		if _, err := p.stream.ReadFrame(); err != nil {
			var closed *replica.CloseError
			if errors.As(err, &closed) {
				return closed.Code
			}
			if errors.Is(err, io.EOF) {
				return replica.CloseDone
			}
			p.t.Fatal(err)
		}
	}
}

func forged(t *testing.T) *protocol.Delta {
	t.Helper()
	return &protocol.Delta{Delta: crdt.Delta{Origin: 7, To: hlc.FromWall(time.Now()), Horizon: crdt.NewVersionVector(crdt.Dot{Replica: 7, Time: hlc.FromWall(time.Now())})}}
}

// Whatever a node that may only read sends, its own API skipped: nothing of it is merged, and it is told why.
func TestWritesOfReadersAreRefusedOnTheWire(t *testing.T) {
	for rights, want := range map[replica.Rights]bool{replica.ReadRights: false, replica.WriteRights: true} {
		synctest.Test(t, func(t *testing.T) {
			network := memnet.New(1)
			a := openNode(t, network, "a")
			sa := create(t, a, "recipes")
			put(t, sa, "pie")
			chain, tr := asks(t, network, "hostile", a, invite(t, sa, replica.Invitation{Rights: rights}))
			p := dialSpace(t, tr, a, sa)
			p.say(&protocol.Grants{Statements: chain})
			hear[*protocol.Grants](p)
			p.say(&protocol.Vectors{Self: 7})
			p.say(forged(t))
			if want {
				eventually(t, "it is merged", func() bool { return sa.Summary().Vector.Get(7) != 0 })
				p.conn.Close(0, "")
				return
			}
			if m := hear[*protocol.Refusal](p); m.Code != protocol.RefusedPermission || m.Origin != 7 {
				t.Errorf("refusal %+v", m)
			}
			if code := p.ends(); code != replica.CloseRefused {
				t.Errorf("closed with %s", code)
			}
			if sa.Summary().Vector.Get(7) != 0 {
				t.Error("it was merged")
			}
			p.conn.Close(0, "")
		})
	}
}

func TestASessionTakesSoundGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b := openNode(t, network, "a"), openNode(t, network, "b")
		sa := create(t, a, "recipes")
		other := create(t, b, "other")
		_, otherAdmin := asks(t, network, "friend of b", b, invite(t, other, replica.Invitation{Rights: replica.AdminRights}))
		foreign, _ := otherAdmin.Join(t.Context(), b.addr, b.id.PeerID(), protocol.JoinRequest{})
		chain, tr := asks(t, network, "hostile", a, invite(t, sa, replica.Invitation{Rights: replica.ReadRights}))
		someoneElses, _ := asks(t, network, "someone else", a, invite(t, sa, replica.Invitation{Rights: replica.AdminRights}))
		raised := slices.Clone(chain)
		raised[len(raised)-grant.Size+2] = byte(replica.AdminRights)
		otherSubject := slices.Clone(someoneElses)
		id := keyOf("hostile").PeerID()
		copy(otherSubject[len(otherSubject)-grant.Size+55:], id[:])
		for name, c := range map[string]struct {
			say  []protocol.Message
			want replica.CloseCode
		}{
			"vectors before grants":           {[]protocol.Message{&protocol.Vectors{}}, replica.CloseMalformed},
			"a delta before grants":           {[]protocol.Message{forged(t)}, replica.CloseMalformed},
			"half a statement":                {[]protocol.Message{&protocol.Grants{Statements: chain[:50]}}, replica.CloseMalformed},
			"rights raised":                   {[]protocol.Message{&protocol.Grants{Statements: raised}}, replica.CloseMalformed},
			"another's grant with one's name": {[]protocol.Message{&protocol.Grants{Statements: otherSubject}}, replica.CloseMalformed},
			"too many statements":             {[]protocol.Message{&protocol.Grants{Statements: []byte(strings.Repeat(string(chain), 40))}}, replica.CloseMalformed},
			"a snapshot by a reader": {[]protocol.Message{&protocol.Grants{Statements: chain}, &protocol.Vectors{},
				&protocol.SnapshotPiece{}}, replica.CloseRefused},
		} {
			p := dialSpace(t, tr, a, sa)
			for _, m := range c.say {
				p.say(m)
			}
			if got := p.ends(); got != c.want {
				t.Errorf("%s: closed with %q, want %q", name, got, c.want)
			}
			p.conn.Close(0, "")
			<-time.After(time.Second)
		}
		if foreign.Code != protocol.JoinUnknown {
			t.Errorf("a question about no space: %v", foreign.Code)
		}
		for _, p := range sa.Permissions() {
			if p.Peer == id && p.Rights != replica.ReadRights {
				t.Errorf("the hostile node may %s", p.Rights)
			}
		}
	})
}

// What a node says when it joins is of no use to anybody else, and nobody learns whether a space is here.
func TestQuestionsToJoinCannotBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a := openNode(t, network, "a")
		sa := create(t, a, "recipes")
		tk, err := grant.ParseTicket(invite(t, sa, replica.Invitation{Rights: replica.WriteRights, Uses: 5}))
		if err != nil {
			t.Fatal(err)
		}
		honest, thief := keyOf("honest").PeerID(), network.Transport(keyOf("thief").PeerID())
		defer thief.Close()
		question := protocol.JoinRequest{Space: tk.Space, Ticket: tk.Key(), Proof: tk.Prove(honest)}
		unknownTicket, otherSpace, noProof, foreignGrant := question, question, question, question
		unknownTicket.Ticket[3] ^= 1
		otherSpace.Space[3] ^= 1
		noProof.Proof = [64]byte{}
		foreignGrant.Ticket = [32]byte{}
		chain, _ := asks(t, network, "honest", a, invite(t, sa, replica.Invitation{Rights: replica.AdminRights}))
		foreignGrant.Statements = chain
		for name, c := range map[string]struct {
			q    protocol.JoinRequest
			want protocol.JoinCode
		}{
			"replayed":          {question, protocol.JoinProof},
			"another ticket":    {unknownTicket, protocol.JoinUnknown},
			"another space":     {otherSpace, protocol.JoinUnknown},
			"no proof":          {noProof, protocol.JoinProof},
			"another's grants":  {foreignGrant, protocol.JoinUnknown},
			"no grants":         {protocol.JoinRequest{Space: tk.Space}, protocol.JoinUnknown},
			"damaged grants":    {protocol.JoinRequest{Space: tk.Space, Statements: chain[1:]}, protocol.JoinUnknown},
			"nothing whatever":  {protocol.JoinRequest{}, protocol.JoinUnknown},
			"grants, one short": {protocol.JoinRequest{Space: tk.Space, Statements: chain[grant.Size:]}, protocol.JoinUnknown},
		} {
			answer, err := thief.Join(t.Context(), a.addr, a.id.PeerID(), c.q)
			if err != nil || answer.Code != c.want || len(answer.Statements) != 0 {
				t.Errorf("%s: %v, %v, want %v", name, answer.Code, err, c.want)
			}
		}
		if _, err := thief.Dial(t.Context(), a.addr, a.id.PeerID()); err == nil {
			t.Error("the thief was let in")
		}
		if left := sa.Tickets()[0].Left; left != 5 {
			t.Errorf("%d uses are left", left)
		}
		busy := 0
		for range 100 {
			if answer, _ := thief.Join(t.Context(), a.addr, a.id.PeerID(), question); answer.Code == protocol.JoinBusy {
				busy++
			}
		}
		if busy < 50 {
			t.Errorf("%d of 100 questions in a moment were put off", busy)
		}
	})
}

// Neither tickets nor keys come into the logs, whatever happens to them.
func TestLogsHoldNoSecrets(t *testing.T) {
	var mu sync.Mutex
	var log strings.Builder
	write := func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return log.Write(p) }
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		loud := func(c *replica.Config) {
			c.Logger = slog.New(slog.NewTextHandler(writer(write), &slog.HandlerOptions{Level: slog.LevelDebug}))
		}
		a, b, c := openNode(t, network, "a", loud), openNode(t, network, "b", loud), openNode(t, network, "c", loud)
		sa := create(t, a, "recipes")
		ticket := invite(t, sa, replica.Invitation{Rights: replica.WriteRights})
		for _, n := range []*node{b, c} {
			_, err := n.Join(t.Context(), ticket, "")
			if err != nil {
				fmt.Fprint(writer(write), err)
			}
		}
		_, err := c.Join(t.Context(), ticket[:len(ticket)-2]+"aa", "")
		fmt.Fprint(writer(write), err)
		if err := sa.Revoke(t.Context(), b.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if !strings.Contains(log.String(), "a node has joined") {
			t.Error("nothing was logged")
		}
		for i := range len(ticket) - 40 {
			if strings.Contains(log.String(), ticket[i:i+40]) {
				t.Fatalf("a part of the ticket was logged:\n%s", &log)
			}
		}
	})
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestRightsAtRandom lets admins invite and revoke, and everybody write, in a network that falls apart. In the end all agree on who may do
// what and on what was written, and no node has what was written by one that knew of its revocation.
func TestRightsAtRandom(t *testing.T) {
	seeds := 30
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newRights(t, uint64(seed)).run() })
		})
	}
}

type randomRights struct {
	t       *testing.T
	rng     *rand.Rand
	network *memnet.Network
	nodes   []*node
	spaces  []*replica.Space // nil: has not joined
	written []secretFrom
	joined  []int // when each node was let in last, in steps
	step    int
}

// secretFrom is a document, and who must not get it: those that its author knew to be revoked.
type secretFrom struct {
	key  string
	from []int
	step int
}

func newRights(t *testing.T, seed uint64) *randomRights {
	w := &randomRights{t: t, rng: rand.New(rand.NewPCG(seed, 1)), network: memnet.New(seed)}
	for i := range 6 {
		w.nodes = append(w.nodes, openNode(t, w.network, fmt.Sprint("n", i)))
	}
	w.spaces, w.joined = make([]*replica.Space, len(w.nodes)), make([]int, len(w.nodes))
	w.spaces[0] = create(t, w.nodes[0], "recipes")
	return w
}

func (w *randomRights) run() {
	for w.step = range 150 {
		i, j := w.rng.IntN(len(w.nodes)), w.rng.IntN(len(w.nodes))
		switch w.rng.IntN(8) {
		case 0, 1, 2:
			w.write(i)
		case 3:
			w.invite(i, j)
		case 4:
			if w.rng.IntN(2) == 0 && w.spaces[i] != nil && j != 0 {
				_ = w.spaces[i].Revoke(w.t.Context(), w.nodes[j].id.PeerID()) // it may have no right to
			}
		case 5:
			w.partition()
		case 6:
			w.network.Heal()
		case 7:
			w.nodes[i].AddPeer(replica.Peer{ID: w.nodes[j].id.PeerID(), Addr: w.nodes[j].addr})
		}
		<-time.After(time.Duration(w.rng.IntN(400)) * time.Millisecond)
	}
	w.settle()
	w.check()
}

func (w *randomRights) write(i int) {
	s := w.spaces[i]
	if s == nil {
		return
	}
	doc := secretFrom{key: fmt.Sprint("doc ", w.step), step: w.step}
	for _, p := range s.Permissions() {
		for j, n := range w.nodes {
			if n.id.PeerID() == p.Peer && p.Rights == replica.NoRights {
				doc.from = append(doc.from, j)
			}
		}
	}
	err := tryPut(s, doc.key)
	if may := s.Rights() >= replica.WriteRights; (err == nil) != may || err != nil && !errors.Is(err, replica.ErrPermission) {
		w.t.Fatalf("step %d: node %d may %s, and writing gives %v", w.step, i, s.Rights(), err)
	}
	if err == nil {
		w.written = append(w.written, doc)
	}
}

func (w *randomRights) invite(i, j int) {
	if w.spaces[i] == nil || i == j {
		return
	}
	rights := replica.Rights(1 + w.rng.IntN(3))
	text, _, err := w.spaces[i].Invite(w.t.Context(), replica.Invitation{Rights: rights})
	if err != nil {
		return // it is no admin
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Second)
	defer cancel()
	if s, err := w.nodes[j].Join(ctx, text, ""); err == nil {
		w.spaces[j], w.joined[j] = s, w.step
	}
}

func (w *randomRights) partition() {
	var groups [2][]replica.PeerID
	for _, n := range w.nodes {
		g := w.rng.IntN(2)
		groups[g] = append(groups[g], n.id.PeerID())
	}
	w.network.Partition(groups[0], groups[1])
}

// settle joins the network, and lets everybody find everybody.
func (w *randomRights) settle() {
	w.network.Heal()
	for _, n := range w.nodes {
		for _, m := range w.nodes {
			if n != m {
				n.AddPeer(replica.Peer{ID: m.id.PeerID(), Addr: m.addr})
			}
		}
	}
	put(w.t, w.spaces[0], "the last")
	eventually(w.t, "all agree", func() bool {
		want := fmt.Sprint(w.spaces[0].Permissions())
		for _, i := range w.members() {
			if !has(w.spaces[i], "the last") || fmt.Sprint(w.spaces[i].Permissions()) != want {
				return false
			}
		}
		return true
	})
	<-time.After(3 * time.Minute)
}

// members are the nodes that have rights, by what the first knows.
func (w *randomRights) members() (all []int) {
	for _, p := range w.spaces[0].Permissions() {
		for i, n := range w.nodes {
			if n.id.PeerID() == p.Peer && p.Rights != replica.NoRights {
				all = append(all, i)
			}
		}
	}
	return all
}

func (w *randomRights) check() {
	members := w.members()
	want := w.spaces[0].Summary()
	for _, i := range members {
		got := w.spaces[i].Summary()
		if w.spaces[i].Rights() >= replica.WriteRights && (got.Digest != want.Digest || !got.Vector.Equal(want.Vector)) {
			w.t.Errorf("member %d, who may %s, holds other documents", i, w.spaces[i].Rights())
		}
	}
	for i, s := range w.spaces {
		if s != nil && !slices.Contains(members, i) && s.Rights() != replica.NoRights {
			w.t.Errorf("node %d takes itself for one that may %s", i, s.Rights())
		}
	}
	for _, doc := range w.written {
		for _, i := range doc.from {
			if w.joined[i] < doc.step && has(w.spaces[i], doc.key) {
				w.t.Errorf("node %d, which was revoked, has %q", i, doc.key)
			}
		}
	}
}
