package replica_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// keyed is a node's identity made from its name, so that runs are alike.
type keyed struct{ key ed25519.PrivateKey }

func keyOf(name string) keyed {
	seed := sha256.Sum256([]byte("test key " + name))
	return keyed{ed25519.NewKeyFromSeed(seed[:])}
}

func (k keyed) PeerID() replica.PeerID              { return replica.PeerID(k.key.Public().(ed25519.PublicKey)) }
func (k keyed) Sign(message []byte) ([]byte, error) { return ed25519.Sign(k.key, message), nil }

// node is a replica on a network where nobody is on anybody's list.
type node struct {
	*replica.Replica
	id      keyed
	network *memnet.Network
	addr    string
}

func addrOf(id keyed) string { return "mem:" + id.PeerID().String() }

func openNode(t testing.TB, network *memnet.Network, name string, change ...func(*replica.Config)) *node {
	t.Helper()
	id := keyOf(name)
	transport := network.Transport(id.PeerID())
	transport.SetAllow(func(replica.PeerID) bool { return false })
	cfg := replica.Config{Transport: transport, Identity: id}
	for _, c := range change {
		c(&cfg)
	}
	r, err := replica.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &node{Replica: r, id: id, network: network, addr: addrOf(id)}
}

func create(t testing.TB, n *node, name string) *replica.Space {
	t.Helper()
	s, err := n.CreateSpace(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func invite(t testing.TB, s *replica.Space, inv replica.Invitation) string {
	t.Helper()
	text, _, err := s.Invite(context.Background(), inv)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func join(t testing.TB, n *node, s *replica.Space, rights replica.Rights) *replica.Space {
	t.Helper()
	joined, err := n.Join(context.Background(), invite(t, s, replica.Invitation{Rights: rights}), "")
	if err != nil {
		t.Fatal(err)
	}
	return joined
}

// eventually waits, in the time of the bubble, for a condition to come about.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 1200 {
		if cond() {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
	t.Fatalf("it has not come about: %s", what)
}

func has(s *replica.Space, key string) bool {
	_, err := s.Get(context.Background(), key)
	return err == nil
}

func put(t testing.TB, s *replica.Space, key string) {
	t.Helper()
	if err := tryPut(s, key); err != nil {
		t.Fatal(err)
	}
}

func tryPut(s *replica.Space, key string) error {
	_, err := s.Update(context.Background(), func(tx *replica.Tx) error { return tx.Doc(key).Set([]string{"x"}, key) })
	return err
}

func TestANodeJoinsWithATicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b := openNode(t, network, "a"), openNode(t, network, "b")
		sa := create(t, a, "recipes")
		put(t, sa, "apple pie")
		if _, err := b.Join(t.Context(), invite(t, sa, replica.Invitation{Rights: replica.WriteRights}), "kitchen"); err != nil {
			t.Fatal(err)
		}
		sb, err := b.Space("kitchen")
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "b has what a wrote", func() bool { return has(sb, "apple pie") })
		put(t, sb, "dal")
		eventually(t, "a has what b wrote", func() bool { return has(sa, "dal") })
		ida, _ := sa.ID()
		idb, _ := sb.ID()
		if ida != idb || sa.Rights() != replica.AdminRights || sb.Rights() != replica.WriteRights {
			t.Errorf("IDs %s and %s, rights %s and %s", ida, idb, sa.Rights(), sb.Rights())
		}
		if byID, err := b.Space(ida.String()); err != nil || byID != sb {
			t.Errorf("by its ID: %v, %v", byID, err)
		}
		for _, s := range []*replica.Space{sa, sb} {
			members := s.Permissions()
			if len(members) != 2 {
				t.Fatalf("%d members: %+v", len(members), members)
			}
			for _, m := range members {
				switch m.Peer {
				case a.id.PeerID():
					if m.Rights != replica.AdminRights || !m.By.IsZero() || m.Ticket != "" {
						t.Errorf("a: %+v", m)
					}
				default:
					if m.Rights != replica.WriteRights || m.By != a.id.PeerID() || m.Ticket == "" {
						t.Errorf("b: %+v", m)
					}
				}
			}
		}
	})
}

// A restarted node goes on where it was: with its rights, the tickets it gave, and the way to who let it in.
func TestRightsAreKept(t *testing.T) {
	network := memnet.New(1)
	dirA, dirB := t.TempDir(), t.TempDir()
	in := func(dir string) func(*replica.Config) {
		return func(c *replica.Config) { c.Dir, c.MemTableBytes = dir, 8<<20 }
	}
	a, b := openNode(t, network, "a", in(dirA)), openNode(t, network, "b", in(dirB))
	sa := create(t, a, "recipes")
	ticket := invite(t, sa, replica.Invitation{Rights: replica.ReadRights})
	sb := join(t, b, sa, replica.WriteRights)
	put(t, sb, "dal")
	eventually(t, "a has it", func() bool { return has(sa, "dal") })
	for _, n := range []*node{a, b} {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	a, b = openNode(t, network, "a", in(dirA)), openNode(t, network, "b", in(dirB))
	sa, err := a.Space("recipes")
	if err != nil {
		t.Fatal(err)
	}
	if sb, err = b.Space("recipes"); err != nil || sb.Rights() != replica.WriteRights {
		t.Fatalf("b's rights: %s, %v", sb.Rights(), err)
	}
	put(t, sb, "naan")
	eventually(t, "b found a by itself", func() bool { return has(sa, "naan") })
	c := openNode(t, network, "c")
	if _, err := c.Join(t.Context(), ticket, ""); err != nil {
		t.Errorf("a ticket from before: %v", err)
	}
	d := openNode(t, network, "d")
	if _, err := d.Join(t.Context(), ticket, ""); !errors.Is(err, replica.ErrTicket) || !strings.Contains(err.Error(), "used") {
		t.Errorf("and used since: %v", err)
	}
}

func TestATicketIsRefusedWithAReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b, c := openNode(t, network, "a"), openNode(t, network, "b"), openNode(t, network, "c")
		sa := create(t, a, "recipes")
		used := invite(t, sa, replica.Invitation{Rights: replica.WriteRights})
		if _, err := c.Join(t.Context(), used, ""); err != nil {
			t.Fatal(err)
		}
		withdrawn, info, err := sa.Invite(t.Context(), replica.Invitation{Rights: replica.ReadRights})
		if err != nil || len(sa.Tickets()) != 1 {
			t.Fatal(err)
		}
		if err := sa.Withdraw(info.ID); err != nil {
			t.Fatal(err)
		}
		admin := openNode(t, network, "former admin")
		sd := join(t, admin, sa, replica.AdminRights)
		byFormerAdmin := invite(t, sd, replica.Invitation{Rights: replica.ReadRights})
		if err := sa.Revoke(t.Context(), admin.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the former admin has heard", func() bool { return sd.Rights() == replica.NoRights })
		expired := invite(t, sa, replica.Invitation{Rights: replica.ReadRights, Within: time.Hour})
		<-time.After(time.Hour + 30*time.Second) // b's clock allows for a minute; a's does not
		tooLate := invite(t, sa, replica.Invitation{Rights: replica.ReadRights, Within: time.Hour, Lasting: time.Minute})
		longAgo := invite(t, sa, replica.Invitation{Rights: replica.ReadRights, Within: time.Millisecond})
		<-time.After(5 * time.Minute)
		nowhere := invite(t, sa, replica.Invitation{Rights: replica.ReadRights, Addrs: []string{"mem:nowhere", "mem:there"}})
		for _, tt := range []struct{ name, ticket, want string }{
			{"used", used, "it was used already"},
			{"withdrawn", withdrawn, "withdrawn"},
			{"by a former admin", byFormerAdmin, "may not let anybody in any more"},
			{"expired a moment ago", expired, "expired"},
			{"expired long ago", longAgo, "expired"},
			{"for rights that are over", tooLate, "expired"},
			{"altered", strings.Replace(used, used[100:102], "zz", 1), "altered"},
			{"cut off", used[:200], "copy it"},
			{"something else", "hello", "does not begin with"},
			{"no node at its addresses", nowhere, "cannot be reached"},
		} {
			_, err := b.Join(t.Context(), tt.ticket, "")
			if err == nil || !strings.Contains(err.Error(), tt.want) || tt.name != "no node at its addresses" && !errors.Is(err, replica.ErrTicket) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
			}
		}
		if names := b.Spaces(); len(names) != 0 {
			t.Errorf("b has spaces: %q", names)
		}
		if _, err := a.Join(t.Context(), nowhere, ""); !errors.Is(err, replica.ErrTicket) {
			t.Errorf("one's own ticket: %v", err)
		}
		if _, err := b.Space("recipes"); err != nil {
			t.Fatal(err)
		}
		good := invite(t, sa, replica.Invitation{Rights: replica.ReadRights})
		if _, err := b.Join(t.Context(), good, ""); !errors.Is(err, replica.ErrSpaceExists) {
			t.Errorf("under a name that is taken: %v", err)
		}
		if _, err := b.Join(t.Context(), good, "recipes of a"); err != nil {
			t.Errorf("under another name: %v", err)
		}
	})
}

func TestWhoMayOnlyReadWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b := openNode(t, network, "a"), openNode(t, network, "b")
		sa := create(t, a, "recipes")
		sb := join(t, b, sa, replica.ReadRights)
		put(t, sa, "apple pie")
		eventually(t, "b has it", func() bool { return has(sb, "apple pie") })
		err := tryPut(sb, "dal")
		var denied *replica.PermissionError
		if !errors.Is(err, replica.ErrPermission) || !errors.As(err, &denied) || denied.Have != replica.ReadRights || denied.Need != replica.WriteRights {
			t.Errorf("a write: %v", err)
		}
		if has(sb, "dal") {
			t.Error("it was written")
		}
		for what, err := range map[string]error{
			"invite": func() error {
				_, _, err := sb.Invite(t.Context(), replica.Invitation{Rights: replica.ReadRights})
				return err
			}(),
			"revoke": sb.Revoke(t.Context(), a.id.PeerID()),
		} {
			if !errors.Is(err, replica.ErrPermission) {
				t.Errorf("%s: %v", what, err)
			}
		}
		// Who has lost the answer asks again and is let in again.
		ticket := invite(t, sa, replica.Invitation{Rights: replica.ReadRights})
		for range 2 {
			if again, err := b.Join(t.Context(), ticket, ""); err != nil || again != sb {
				t.Errorf("joining again: %v", err)
			}
		}
		// Greater rights come with another ticket.
		if again := join(t, b, sa, replica.WriteRights); again != sb {
			t.Error("joining again made another space")
		}
		put(t, sb, "dal")
		eventually(t, "a has it", func() bool { return has(sa, "dal") })
	})
}

// A ticket that gave a node nothing more than it had before, or less than it has got since, lets it in again too. What it gave counts, not
// whether that is what the node's rights are taken from.
func TestWhoAsksAgainIsLetInAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b, c := openNode(t, network, "a"), openNode(t, network, "b"), openNode(t, network, "c")
		sa := create(t, a, "recipes")
		var tickets []string
		for _, rights := range []replica.Rights{replica.ReadRights, replica.ReadRights, replica.WriteRights, replica.ReadRights} {
			ticket := invite(t, sa, replica.Invitation{Rights: rights})
			if _, err := b.Join(t.Context(), ticket, ""); err != nil {
				t.Fatal(err)
			}
			tickets = append(tickets, ticket)
			<-time.After(time.Second) // so that it is known which grant is the first
		}
		for i, ticket := range tickets {
			if _, err := b.Join(t.Context(), ticket, ""); err != nil {
				t.Errorf("ticket %d again: %v", i, err)
			}
			if _, err := c.Join(t.Context(), ticket, ""); !errors.Is(err, replica.ErrTicket) || !strings.Contains(err.Error(), "used") {
				t.Errorf("ticket %d of somebody else: %v", i, err)
			}
		}
		if err := sa.Revoke(t.Context(), b.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		for i, ticket := range tickets {
			if _, err := b.Join(t.Context(), ticket, ""); !errors.Is(err, replica.ErrTicket) || !strings.Contains(err.Error(), "revoked") {
				t.Errorf("ticket %d after the revocation: %v", i, err)
			}
		}
	})
}

func TestARevocationEndsSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b, c := openNode(t, network, "a"), openNode(t, network, "b"), openNode(t, network, "c")
		sa := create(t, a, "recipes")
		sb, sc := join(t, b, sa, replica.WriteRights), join(t, c, sa, replica.WriteRights)
		forMany := invite(t, sa, replica.Invitation{Rights: replica.WriteRights, Uses: 10})
		put(t, sb, "dal")
		eventually(t, "all have it", func() bool { return has(sa, "dal") && has(sc, "dal") })
		if err := sa.Revoke(t.Context(), b.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		put(t, sa, "secret")
		eventually(t, "c has it", func() bool { return has(sc, "secret") })
		eventually(t, "b knows", func() bool { return sb.Rights() == replica.NoRights })
		if err := tryPut(sb, "naan"); !errors.Is(err, replica.ErrPermission) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("b writes: %v", err)
		}
		eventually(t, "the connection is gone", func() bool { return len(peersOf(a)) == 1 && len(peersOf(b)) == 0 })
		<-time.After(time.Minute)
		if has(sb, "secret") {
			t.Error("b got what was written after its revocation")
		}
		if !has(sb, "dal") {
			t.Error("b lost what it had")
		}
		if _, err := b.Join(t.Context(), forMany, ""); !errors.Is(err, replica.ErrTicket) || !strings.Contains(err.Error(), "revoked") {
			t.Errorf("b comes back with an old ticket: %v", err)
		}
		// It can be invited again, and does not come back with what it had.
		<-time.After(time.Second)
		join(t, b, sa, replica.ReadRights)
		eventually(t, "b has it", func() bool { return has(sb, "secret") })
	})
}

func peersOf(n *node) (ids []replica.PeerID) {
	for _, p := range n.Peers() {
		if p.Connected {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func TestRightsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b := openNode(t, network, "a"), openNode(t, network, "b")
		sa := create(t, a, "recipes")
		sb, err := b.Join(t.Context(), invite(t, sa, replica.Invitation{Rights: replica.WriteRights, Lasting: time.Hour}), "")
		if err != nil {
			t.Fatal(err)
		}
		put(t, sb, "dal")
		eventually(t, "a has it", func() bool { return has(sa, "dal") })
		<-time.After(time.Hour + 2*time.Minute)
		if err := tryPut(sb, "naan"); !errors.Is(err, replica.ErrPermission) || !strings.Contains(err.Error(), "expired") {
			t.Errorf("b writes: %v", err)
		}
		if n := len(peersOf(a)); n != 0 {
			t.Errorf("%d connections", n)
		}
	})
}

// Those that a revoked admin had let in stay, signed for by who revoked it.
func TestMembersOutliveTheirInviter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b, c := openNode(t, network, "a"), openNode(t, network, "b"), openNode(t, network, "c")
		sa := create(t, a, "recipes")
		sb := join(t, b, sa, replica.AdminRights)
		sc := join(t, c, sb, replica.WriteRights)
		eventually(t, "a knows c", func() bool { return len(sa.Permissions()) == 3 })
		if err := sb.Revoke(t.Context(), a.id.PeerID()); !errors.Is(err, replica.ErrPermission) {
			t.Errorf("an admin revokes who made the space: %v", err)
		}
		if err := sa.Revoke(t.Context(), b.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		c.AddPeer(replica.Peer{ID: a.id.PeerID(), Addr: a.addr})
		put(t, sc, "naan")
		eventually(t, "a has it", func() bool { return has(sa, "naan") })
		if sc.Rights() != replica.WriteRights {
			t.Errorf("c may %s", sc.Rights())
		}
		if err := sa.Revoke(t.Context(), b.id.PeerID()); !errors.Is(err, replica.ErrNotFound) {
			t.Errorf("revoking a second time: %v", err)
		}
	})
}

// b and c have both joined through a, and a is gone: neither knows of the other's grant. They have no list either.
func TestMembersMeetWithoutWhoLetThemIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b, c := openNode(t, network, "a"), openNode(t, network, "b"), openNode(t, network, "c")
		sa := create(t, a, "recipes")
		sb := join(t, b, sa, replica.WriteRights)
		put(t, sb, "dal")
		eventually(t, "a has it", func() bool { return has(sa, "dal") })
		network.Partition([]replica.PeerID{a.id.PeerID(), c.id.PeerID()}, []replica.PeerID{b.id.PeerID()})
		sc := join(t, c, sa, replica.WriteRights)
		eventually(t, "c has it", func() bool { return has(sc, "dal") })
		put(t, sc, "naan")
		a.Close()
		network.Heal()
		c.AddPeer(replica.Peer{ID: b.id.PeerID(), Addr: b.addr})
		eventually(t, "b has heard of c", func() bool { return has(sb, "naan") })
	})
}

// A peer is told of what it has rights in, and of nothing else.
func TestNobodyHearsOfOtherSpaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a, b := openNode(t, network, "a"), openNode(t, network, "b")
		shared := create(t, a, "shared")
		create(t, a, "private")
		if _, err := a.Space("open"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Space("open"); err != nil {
			t.Fatal(err)
		}
		conn, err := network.Transport(keyOf("stranger").PeerID()).Dial(t.Context(), a.addr, a.id.PeerID())
		if err == nil {
			conn.Close(0, "")
			t.Error("a stranger was let in")
		}
		_, guest := asks(t, network, "guest", a, invite(t, shared, replica.Invitation{Rights: replica.AdminRights}))
		c, err := guest.Dial(t.Context(), a.addr, a.id.PeerID())
		if err != nil {
			t.Fatal(err)
		}
		listening, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		id, _ := shared.ID()
		for {
			name, stream, err := c.AcceptStream(listening)
			if err != nil {
				break
			}
			if name != id.String() {
				t.Errorf("a guest was told of %q", name)
			}
			stream.Close(replica.CloseDone)
		}
		c.Close(0, "")
		sb := join(t, b, shared, replica.AdminRights)
		put(t, shared, "x")
		eventually(t, "b has it", func() bool { return has(sb, "x") })
		<-time.After(time.Minute)
		if got := fmt.Sprint(b.Spaces()); got != "[open shared]" {
			t.Errorf("b has %s", got)
		}
		open, err := a.Space("open")
		if err != nil {
			t.Fatal(err)
		}
		put(t, open, "x")
		<-time.After(time.Minute)
		if openB, _ := b.Space("open"); has(openB, "x") {
			t.Error("a space without a key was shared with who is not on the list")
		}
	})
}

func TestASpaceIDIsNoName(t *testing.T) {
	r := open(t, replica.Config{Identity: keyOf("a")})
	s, err := r.CreateSpace(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	id, _ := s.ID()
	if _, err := r.CreateSpace(t.Context(), id.String()); !errors.Is(err, replica.ErrSpace) {
		t.Errorf("%v", err)
	}
	other := replica.SpaceID(keyOf("other").PeerID())
	if _, err := r.Space(other.String()); !errors.Is(err, replica.ErrSpace) {
		t.Errorf("%v", err)
	}
	if _, err := r.CreateSpace(t.Context(), "mine"); !errors.Is(err, replica.ErrSpaceExists) {
		t.Errorf("%v", err)
	}
	if _, err := open(t, replica.Config{}).CreateSpace(t.Context(), "x"); err == nil {
		t.Error("a node without an identity made a space")
	}
}
