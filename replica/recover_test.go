package replica_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// safe is a place for keys of which one can make a copy.
type safe struct {
	mu   sync.Mutex
	keys map[string]ed25519.PrivateKey
}

func (s *safe) Keep(name string, key ed25519.PrivateKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[string]ed25519.PrivateKey)
	}
	s.keys[name] = key
	return nil
}

func (s *safe) Key(name string) (ed25519.PrivateKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if key := s.keys[name]; key != nil {
		return key, nil
	}
	return nil, fs.ErrNotExist
}

func (s *safe) Forget(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, name)
	return nil
}

func peerOf(n *node) replica.Peer { return replica.Peer{ID: n.id.PeerID(), Addr: n.addr} }

// The node that made a space is gone for good, and nobody else is an admin. Who has a copy of the key goes on.
func TestASpaceIsRecoveredByItsKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		keys := &safe{}
		with := func(k *safe) func(*replica.Config) { return func(c *replica.Config) { c.SpaceKeys = k } }
		a, b, c := openNode(t, network, "a", with(keys)), openNode(t, network, "b", with(keys)), openNode(t, network, "c", with(keys))
		sa := create(t, a, "recipes")
		id, _ := sa.ID()
		sb := join(t, b, sa, replica.WriteRights)
		put(t, sa, "pie")
		eventually(t, "b has it", func() bool { return has(sb, "pie") })
		old := a.id.PeerID()
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}

		// A node that knows nothing of the space gets it from a member.
		sc, err := c.RecoverSpace(t.Context(), id, "kitchen", []replica.Peer{{ID: old, Addr: addrOf(keyOf("a"))}, peerOf(b)})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "c has it", func() bool { return has(sc, "pie") })
		put(t, sc, "dal")
		eventually(t, "b has it", func() bool { return has(sb, "dal") })
		if sc.Rights() != replica.AdminRights || sc.Name() != "kitchen" {
			t.Errorf("%s may %s", sc.Name(), sc.Rights())
		}
		if err := sc.Revoke(t.Context(), old); err != nil {
			t.Errorf("c revokes who made the space: %v", err)
		}
		join(t, openNode(t, network, "d"), sc, replica.ReadRights)
		if sb.Rights() != replica.WriteRights {
			t.Errorf("b, whom the lost node had let in, may %s", sb.Rights())
		}

		// One that has it becomes an admin, and that twice is the same.
		for range 2 {
			if again, err := b.RecoverSpace(t.Context(), id, "", nil); err != nil || again != sb || sb.Rights() != replica.AdminRights {
				t.Errorf("b: %v, %v, %s", again, err, sb.Rights())
			}
		}
		eventually(t, "c knows", func() bool {
			for _, p := range sc.Permissions() {
				if p.Peer == b.id.PeerID() {
					return p.Rights == replica.AdminRights && p.By.IsZero()
				}
			}
			return false
		})

		// Who was revoked comes back with the key, also where it has forgotten that it was.
		if err := sc.Revoke(t.Context(), b.id.PeerID()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "b knows", func() bool { return sb.Rights() == replica.NoRights })
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = openNode(t, network, "b", with(keys))
		if sb, err = b.RecoverSpace(t.Context(), id, "recipes", []replica.Peer{peerOf(c)}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "b has all", func() bool { return has(sb, "dal") && sb.Rights() == replica.AdminRights })
	})
}

func TestNothingIsRecoveredWithoutTheKeyOrAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		keys := &safe{}
		with := func(c *replica.Config) { c.SpaceKeys = keys }
		a, b, c, d := openNode(t, network, "a", with), openNode(t, network, "b"), openNode(t, network, "c", with), openNode(t, network, "d")
		sa := create(t, a, "recipes")
		create(t, d, "other")
		id, _ := sa.ID()
		nobody := replica.Peer{ID: keyOf("nobody").PeerID(), Addr: "mem:nobody"}
		if _, err := c.Space("taken"); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			what string
			n    *node
			name string
			from []replica.Peer
			want string
		}{
			{"without the key", b, "recipes", []replica.Peer{peerOf(a)}, "the key of " + id.String() + " is not here"},
			{"from nobody", c, "recipes", nil, "name a node that has it"},
			{"without a name", c, "", []replica.Peer{peerOf(a)}, "say what to call it"},
			{"under a name that is taken", c, "taken", []replica.Peer{peerOf(a)}, "give the other one another name"},
			{"from a node that is not there", c, "recipes", []replica.Peer{nobody}, "no node that was named can be asked"},
			{"from a node that has another space", c, "recipes", []replica.Peer{peerOf(d)}, "does not keep"},
		} {
			_, err := tt.n.RecoverSpace(t.Context(), id, tt.name, tt.from)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
			}
			<-time.After(time.Second)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.RecoverSpace(ended, id, "recipes", []replica.Peer{peerOf(a)}); !errors.Is(err, context.Canceled) {
			t.Errorf("when the context has ended: %v", err)
		}
		if len(c.Spaces()) != 1 || len(b.Spaces()) != 0 {
			t.Errorf("b has %q and c has %q", b.Spaces(), c.Spaces())
		}
		if _, err := c.RecoverSpace(t.Context(), id, "recipes", []replica.Peer{nobody, peerOf(d), peerOf(a)}); err != nil {
			t.Errorf("and from the third: %v", err)
		}
	})
}
