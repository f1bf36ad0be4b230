package grant_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

var update = flag.Bool("update", false, "write new golden files")

const (
	now   = grant.Millis(1_790_000_000_000)
	hour  = grant.Millis(3_600_000)
	drift = time.Minute
)

// actor is a node, or a space key, of a test.
type actor struct{ key ed25519.PrivateKey }

// tester is what *testing.T and *rapid.T have in common.
type tester interface {
	Helper()
	Fatal(args ...any)
}

func named(name string) actor {
	seed := sha256.Sum256([]byte("test key " + name))
	return actor{ed25519.NewKeyFromSeed(seed[:])}
}

func (a actor) id() (p protocol.PeerID) {
	copy(p[:], a.key.Public().(ed25519.PublicKey))
	return p
}

func (a actor) sign(m []byte) ([]byte, error) { return ed25519.Sign(a.key, m), nil }

var (
	root                             = named("space")
	space                            = grant.SpaceID(root.id())
	oslo, lima, quito, nairobi, apia = named("oslo"), named("lima"), named("quito"), named("nairobi"), named("apia")
)

func signed(t tester, by actor, st grant.Statement) grant.Statement {
	t.Helper()
	if st.Kind == 0 {
		st.Kind = grant.KindGrant
	}
	if st.Epoch == 0 {
		st.Epoch = 1
	}
	if st.Issued == 0 {
		st.Issued = now
	}
	if st.Space.IsZero() {
		st.Space = space
	}
	st.Issuer = by.id()
	if err := st.Sign(by.sign); err != nil {
		t.Fatal(err)
	}
	return st
}

func give(t tester, by, to actor, r grant.Rights) grant.Statement {
	t.Helper()
	return signed(t, by, grant.Statement{Subject: to.id(), Rights: r})
}

func take(t tester, by, from actor, epoch uint32) grant.Statement {
	t.Helper()
	return signed(t, by, grant.Statement{Kind: grant.KindRevocation, Subject: from.id(), Epoch: epoch})
}

func setOf(t tester, list ...grant.Statement) *grant.Set {
	t.Helper()
	s := grant.NewSet(space, drift)
	if _, err := s.AddAll(list, now); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRightsComeDownFromTheSpaceKey(t *testing.T) {
	s := setOf(t, give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), give(t, quito, lima, grant.Write), give(t, quito, apia, grant.Read))
	v := s.At(now)
	for who, want := range map[string]grant.Rights{"oslo": grant.Admin, "quito": grant.Admin, "lima": grant.Write, "apia": grant.Read, "nairobi": grant.None} {
		if got := v.Rights(named(who).id()); got != want {
			t.Errorf("%s may %s, want %s", who, got, want)
		}
	}
	chain := v.Chain(lima.id())
	if len(chain) != 3 || chain[0].Issuer != root.id() || chain[2].Subject != lima.id() {
		t.Errorf("chain of %d statements", len(chain))
	}
	alone := grant.NewSet(space, drift)
	if _, err := alone.AddAll(chain, now); err != nil || alone.At(now).Rights(lima.id()) != grant.Write {
		t.Errorf("the chain by itself does not convince: %v", err)
	}
	if len(v.Members()) != 4 || len(v.Chain(nairobi.id())) != 0 {
		t.Errorf("members %d", len(v.Members()))
	}
}

func TestRules(t *testing.T) {
	tests := []struct {
		name string
		list func(t *testing.T) []grant.Statement
		at   grant.Millis
		who  actor
		want grant.Rights
	}{
		{"a revocation voids what it knew of", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, lima, grant.Write), take(t, oslo, lima, 1)}
		}, now, lima, grant.None},
		{"and what it did not know of, of the same epoch", func(t *testing.T) []grant.Statement {
			later := signed(t, oslo, grant.Statement{Subject: lima.id(), Rights: grant.Admin, Issued: now + hour/100})
			return []grant.Statement{give(t, root, oslo, grant.Admin), take(t, oslo, lima, 1), later}
		}, now, lima, grant.None},
		{"a grant by one who had seen it counts, whatever the clocks say", func(t *testing.T) []grant.Statement {
			again := signed(t, oslo, grant.Statement{Subject: lima.id(), Rights: grant.Read, Epoch: 2, Issued: now - 100*hour})
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, lima, grant.Write), take(t, oslo, lima, 1), again}
		}, now, lima, grant.Read},
		{"a revoked admin's grants are void, however old they say they are", func(t *testing.T) []grant.Statement {
			old := signed(t, quito, grant.Statement{Subject: lima.id(), Rights: grant.Admin, Issued: now - 1000*hour})
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), take(t, oslo, quito, 1), old}
		}, now, lima, grant.None},
		{"its revocations stay", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), give(t, oslo, lima, grant.Write), take(t, quito, lima, 1), take(t, oslo, quito, 1)}
		}, now, lima, grant.None},
		{"two admins who revoke each other are both out", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), give(t, oslo, nairobi, grant.Admin), take(t, quito, nairobi, 1), take(t, nairobi, quito, 1)}
		}, now, quito, grant.None},
		{"an admin cannot revoke what the space key granted", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), take(t, quito, oslo, 1)}
		}, now, oslo, grant.Admin},
		{"the space key can", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), take(t, root, oslo, 1)}
		}, now, oslo, grant.None},
		{"a grant ends at its time, and the tolerance", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), signed(t, oslo, grant.Statement{Subject: lima.id(), Rights: grant.Write, Expires: now + hour})}
		}, now + hour + 60_000, lima, grant.None},
		{"not before", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), signed(t, oslo, grant.Statement{Subject: lima.id(), Rights: grant.Write, Expires: now + hour})}
		}, now + hour + 59_999, lima, grant.Write},
		{"with its issuer's", func(t *testing.T) []grant.Statement {
			return []grant.Statement{signed(t, root, grant.Statement{Subject: oslo.id(), Rights: grant.Admin, Expires: now + hour}), give(t, oslo, lima, grant.Write)}
		}, now + 2*hour, lima, grant.None},
		{"the greatest of several counts", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, lima, grant.Read), give(t, oslo, lima, grant.Write), give(t, oslo, lima, grant.Read)}
		}, now, lima, grant.Write},
		{"nobody raises himself in a circle", func(t *testing.T) []grant.Statement {
			return []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, quito, grant.Admin), give(t, quito, lima, grant.Admin), give(t, lima, quito, grant.Admin), take(t, oslo, quito, 1)}
		}, now, lima, grant.None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := setOf(t, tt.list(t)...)
			if got := s.At(tt.at).Rights(tt.who.id()); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

func TestASetRefuses(t *testing.T) {
	base := []grant.Statement{give(t, root, oslo, grant.Admin), give(t, oslo, lima, grant.Write)}
	altered := give(t, oslo, apia, grant.Read)
	altered.Rights = grant.Admin
	stolen := give(t, oslo, apia, grant.Read)
	stolen.Subject = quito.id()
	other := signed(t, named("other space"), grant.Statement{Space: grant.SpaceID(named("other space").id()), Subject: quito.id(), Rights: grant.Admin})
	for _, tt := range []struct {
		name string
		st   grant.Statement
		want error
	}{
		{"a grant whose rights were raised", altered, grant.ErrSignature},
		{"a grant that was made out to another", stolen, grant.ErrSignature},
		{"a grant of another space", other, grant.ErrForeign},
		{"a grant by one without rights", give(t, quito, apia, grant.Read), grant.ErrIssuer},
		{"a grant by one who may only write", give(t, lima, apia, grant.Read), grant.ErrIssuer},
		{"a revocation by one who may only write", take(t, lima, oslo, 1), grant.ErrIssuer},
		{"a grant of the future", signed(t, oslo, grant.Statement{Subject: apia.id(), Rights: grant.Read, Issued: now + 60_001}), grant.ErrFuture},
		{"a revocation of the future", signed(t, oslo, grant.Statement{Kind: grant.KindRevocation, Subject: lima.id(), Issued: now + 60_001}), grant.ErrFuture},
	} {
		s := setOf(t, base...)
		before := s.Hash()
		if ok, err := s.Add(tt.st, now); ok || !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if s.Len() != 2 || s.Hash() != before {
			t.Errorf("%s: the set has changed", tt.name)
		}
	}
	s := setOf(t, base...)
	if ok, err := s.Add(base[1], now); ok || err != nil {
		t.Errorf("what is known already: %v, %v", ok, err)
	}
}

func TestASetIsBounded(t *testing.T) {
	s := setOf(t, give(t, root, oslo, grant.Admin))
	st := give(t, oslo, lima, grant.Read)
	for s.Len() < grant.MaxStatements {
		st.Issued--
		st = signed(t, oslo, grant.Statement{Subject: lima.id(), Rights: grant.Read, Issued: st.Issued})
		if _, err := s.Add(st, now); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Add(give(t, oslo, apia, grant.Read), now); !errors.Is(err, grant.ErrFull) {
		t.Errorf("%v, want that it is full", err)
	}
}

func TestEpochs(t *testing.T) {
	s := setOf(t, give(t, root, oslo, grant.Admin))
	check := func(grants, revocation uint32) {
		t.Helper()
		g, r, err := s.NextEpoch(lima.id())
		if g != grants || r != revocation || err != nil {
			t.Errorf("epochs %d and %d, %v, want %d and %d", g, r, err, grants, revocation)
		}
	}
	check(1, 1)
	for _, st := range []grant.Statement{give(t, oslo, lima, grant.Read), take(t, oslo, lima, 1)} {
		if _, err := s.Add(st, now); err != nil {
			t.Fatal(err)
		}
	}
	check(2, 1)
	if _, err := s.Add(take(t, oslo, lima, 1<<32-1), now); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.NextEpoch(lima.id()); err == nil {
		t.Error("a node that was revoked with the last epoch can be invited again")
	}
}

// history draws statements as a few nodes would make them, each from what it knows, some of them by nodes that have been revoked.
func history(t *rapid.T) []grant.Statement {
	actors := []actor{oslo, lima, quito, nairobi, apia}
	known := map[protocol.PeerID]*grant.Set{}
	for _, a := range append(actors, root) {
		known[a.id()] = setOf(t, give(t, root, oslo, grant.Admin))
	}
	all := known[root.id()].Clone()
	for i := range rapid.IntRange(1, 25).Draw(t, "statements") {
		by := rapid.SampledFrom(append([]actor{root}, actors...)).Draw(t, "by")
		about := rapid.SampledFrom(actors).Draw(t, "about")
		set := known[by.id()]
		ofGrant, ofRevocation, _ := set.NextEpoch(about.id())
		st := grant.Statement{Subject: about.id(), Epoch: ofGrant, Issued: now - grant.Millis(i)}
		if rapid.IntRange(0, 2).Draw(t, "kind") == 0 {
			st.Kind, st.Epoch = grant.KindRevocation, ofRevocation
		} else {
			st.Rights = rapid.SampledFrom([]grant.Rights{grant.Read, grant.Write, grant.Admin, grant.Admin}).Draw(t, "rights")
			st.Expires = grant.Millis(rapid.SampledFrom([]int{0, 0, int(now + hour)}).Draw(t, "expires"))
		}
		st = signed(t, by, st)
		if _, err := set.Add(st, now); err != nil {
			continue // it has no right to
		}
		_, _ = all.Add(st, now)
		if other := known[rapid.SampledFrom(actors).Draw(t, "meets").id()]; rapid.Bool().Draw(t, "meet") {
			_, _ = other.AddAll(set.Since(0), now)
		}
	}
	return slices.Clone(all.Since(0))
}

// Whatever the order in which statements arrive, and whoever brings them, the same statements come to the same rights.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := history(t)
		a := setOf(t, list...)
		b := grant.NewSet(space, drift)
		if err := b.Load(rapid.Permutation(list).Draw(t, "order")); err != nil {
			t.Fatal(err)
		}
		if a.Hash() != b.Hash() || a.Len() != b.Len() {
			t.Fatal("the sets differ")
		}
		for _, at := range []grant.Millis{now, now + 2*hour} {
			va, vb := a.At(at), b.At(at)
			if !slices.Equal(va.Members(), vb.Members()) || !slices.Equal(va.Revoked(), vb.Revoked()) {
				t.Fatalf("members differ: %v and %v", va.Members(), vb.Members())
			}
			for _, p := range va.Members() {
				if *va.Grant(p) != *vb.Grant(p) {
					t.Fatalf("%s holds another grant", p.Short())
				}
			}
		}
	})
}

// Every member's chain convinces one who knows nothing but it, and nobody gains by a revocation.
func TestChainsAndRevocations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := history(t)
		s := setOf(t, list...)
		v := s.At(now)
		for _, p := range v.Members() {
			alone := grant.NewSet(space, drift)
			if _, err := alone.AddAll(v.Chain(p), now); err != nil || alone.At(now).Rights(p) != v.Rights(p) {
				t.Fatalf("the chain of %s gives %s, want %s: %v", p.Short(), alone.At(now).Rights(p), v.Rights(p), err)
			}
		}
		victim := rapid.SampledFrom([]actor{oslo, lima, quito, nairobi, apia}).Draw(t, "victim")
		_, epoch, _ := s.NextEpoch(victim.id())
		with := s.Clone()
		if _, err := with.Add(take(t, root, victim, epoch), now); err != nil {
			t.Fatal(err)
		}
		after := with.At(now)
		if r := after.Rights(victim.id()); r != grant.None {
			t.Fatalf("who was revoked by the space key still may %s", r)
		}
		for _, p := range after.Members() {
			if after.Rights(p) > v.Rights(p) {
				t.Fatalf("%s gained by a revocation", p.Short())
			}
		}
	})
}

func TestStatementBytes(t *testing.T) {
	samples := map[string]grant.Statement{
		"grant": signed(t, root, grant.Statement{Subject: oslo.id(), Rights: grant.Admin}),
		"grant-by-ticket": signed(t, oslo, grant.Statement{
			Subject: lima.id(), Rights: grant.Write, Epoch: 2, Expires: now + hour, Ticket: grant.TicketOf(apia.id()),
		}),
		"revocation": take(t, oslo, lima, 2),
	}
	for name, st := range samples {
		b := st.Append(nil)
		golden(t, name, b)
		got, err := grant.Parse(b)
		if err != nil || got != st || got.Verify() != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for n := range b {
			if _, err := grant.Parse(b[:n]); !errors.Is(err, grant.ErrMalformed) {
				t.Fatalf("%s cut at %d: %v", name, n, err)
			}
			for bit := range 8 {
				flipped := slices.Clone(b)
				flipped[n] ^= 1 << bit
				if st, err := grant.Parse(flipped); err == nil && st.Verify() == nil {
					t.Fatalf("%s: bit %d of byte %d may be flipped", name, bit, n)
				}
			}
		}
	}
}

func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	path := filepath.Join("testdata", "v1", name+".hex")
	text := hex.EncodeToString(b) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != text {
		t.Errorf("%s is not what the golden file says (%v): other versions would not understand it; go test -update writes new files", name, err)
	}
}

func ticket() *grant.Ticket {
	t := &grant.Ticket{
		Space: space, Name: "recipes", Inviter: oslo.id(), Rights: grant.Write, Expires: now + 24*hour, Uses: 1,
		Addrs: []string{"192.0.2.7:7420", "[2001:db8::1]:7420"},
	}
	t.SetSecret(sha256.Sum256([]byte("test secret")))
	return t
}

func TestTicketText(t *testing.T) {
	want := ticket()
	text, err := want.Text(oslo.sign)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(text, " \n\t") {
		t.Errorf("%q is not one word", text)
	}
	golden(t, "ticket", []byte(text))
	for _, form := range []string{text, " " + text + "\n", text[:100] + "\r\n   " + text[100:], strings.ToUpper(text)} {
		got, err := grant.ParseTicket(form)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := got.Text(oslo.sign); again != text {
			t.Errorf("read as another ticket")
		}
	}
	for i := range text {
		if _, err := grant.ParseTicket(text[:i]); !errors.Is(err, grant.ErrTicket) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		c := byte('a')
		if text[i] == c {
			c = 'b'
		}
		if _, err := grant.ParseTicket(text[:i] + string(c) + text[i+1:]); !errors.Is(err, grant.ErrTicket) {
			t.Fatalf("character %d altered: %v", i, err)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		if out := fmt.Sprintf(verb, want) + fmt.Sprintf(verb, *want); out != strings.Repeat("ticket "+want.ID().String(), 2) {
			t.Errorf("%s prints %q", verb, out)
		}
	}
}

func TestAProofIsForOneNode(t *testing.T) {
	tk := ticket()
	p := tk.Prove(lima.id())
	if !p.Proves(tk.Key(), space, lima.id(), oslo.id()) {
		t.Fatal("a good proof is refused")
	}
	flipped := p
	flipped[10] ^= 1
	for name, ok := range map[string]bool{
		"of another joiner":     p.Proves(tk.Key(), space, apia.id(), oslo.id()),
		"at another inviter":    p.Proves(tk.Key(), space, lima.id(), quito.id()),
		"for another space":     p.Proves(tk.Key(), grant.SpaceID(apia.id()), lima.id(), oslo.id()),
		"of another ticket":     p.Proves(apia.id(), space, lima.id(), oslo.id()),
		"with one bit flipped":  flipped.Proves(tk.Key(), space, lima.id(), oslo.id()),
		"of nothing whatsoever": grant.Proof{}.Proves(tk.Key(), space, lima.id(), oslo.id()),
	} {
		if ok {
			t.Errorf("a proof %s is accepted", name)
		}
	}
}

func TestSpaceIDs(t *testing.T) {
	text := space.String()
	got, err := grant.ParseSpaceID(strings.ToUpper(text))
	if err != nil || got != space {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := protocol.ParsePeerID(text); err == nil {
		t.Error("a space ID is taken for a peer ID")
	}
	for _, bad := range []string{"", "space-", oslo.id().String(), text[:len(text)-1], text + "a", "main"} {
		if _, err := grant.ParseSpaceID(bad); err == nil {
			t.Errorf("%q is taken for a space ID", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"grant", "grant-by-ticket", "revocation"} {
		text, err := os.ReadFile(filepath.Join("testdata", "v1", name+".hex"))
		if err != nil {
			f.Fatal(err)
		}
		b, err := hex.DecodeString(strings.TrimSpace(string(text)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(append(b, b...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := grant.ParseAll(b)
		if err != nil {
			return
		}
		if string(grant.AppendAll(nil, list)) != string(b) {
			t.Fatal("a statement has two forms")
		}
		s := grant.NewSet(space, drift)
		_, _ = s.AddAll(list, now)
		s.At(now)
	})
}

func FuzzParseTicket(f *testing.F) {
	text, err := ticket().Text(oslo.sign)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:40])
	f.Add("anabranch-ticket1")
	f.Fuzz(func(t *testing.T, text string) {
		tk, err := grant.ParseTicket(text)
		if err != nil && !errors.Is(err, grant.ErrTicket) {
			t.Fatalf("%v is no ErrTicket", err)
		}
		if err == nil && tk.Inviter != oslo.id() {
			t.Fatal("a ticket was forged")
		}
	})
}
