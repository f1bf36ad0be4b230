package replica_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

func open(t *testing.T, cfg replica.Config) *replica.Replica {
	t.Helper()
	r, err := replica.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return r
}

func space(t *testing.T, r *replica.Replica) *replica.Space {
	t.Helper()
	s, err := r.Space("notes")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func update(t *testing.T, s *replica.Space, fn func(tx *replica.Tx)) replica.Receipt {
	t.Helper()
	rc, err := s.Update(t.Context(), func(tx *replica.Tx) error { fn(tx); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rc
}

func set(t *testing.T, s *replica.Space, key, field string, v any) replica.Receipt {
	t.Helper()
	return update(t, s, func(tx *replica.Tx) { tx.Doc(key).Set(crdt.Path{field}, v) })
}

func show(t *testing.T, s *replica.Space, key string) string {
	t.Helper()
	doc, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(doc.Value())
}

// pair is two replicas with one link, which cut and heal control.
type pair struct {
	network *memnet.Network
	a, b    *replica.Replica
	sa, sb  *replica.Space
	ida     replica.PeerID
	idb     replica.PeerID
}

func newPair(t *testing.T, cfgA, cfgB replica.Config) *pair {
	t.Helper()
	return pairOn(t, memnet.New(1), cfgA, cfgB)
}

// newStrangers is newPair of two that have not met: neither knows the other as a member until p.network.Heal.
func newStrangers(t *testing.T, cfgA, cfgB replica.Config) *pair {
	t.Helper()
	network := memnet.New(1)
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	return pairOn(t, network, cfgA, cfgB)
}

func pairOn(t *testing.T, network *memnet.Network, cfgA, cfgB replica.Config) *pair {
	t.Helper()
	p := &pair{network: network, ida: memnet.ID("a"), idb: memnet.ID("b")}
	cfgA.Transport = p.network.Node("a")
	cfgB.Transport = p.network.Node("b")
	cfgA.Peers = []replica.Peer{{ID: p.idb, Addr: "mem:b"}}
	p.b = open(t, cfgB)
	p.a = open(t, cfgA)
	p.sa, p.sb = space(t, p.a), space(t, p.b)
	return p
}

// level waits until both hold the same writes, and fails if they then differ.
func (p *pair) level(t *testing.T) {
	t.Helper()
	waitLevel(t, p.sa, p.sb)
}

func waitLevel(t *testing.T, spaces ...*replica.Space) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for _, s := range spaces[1:] {
		for {
			a, err := spaces[0].Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			b, err := s.Status(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if a.Vector.Equal(b.Vector) {
				if a.Digest != b.Digest {
					t.Fatalf("equal vectors and other digests: %s and %s", a.Digest, b.Digest)
				}
				break
			}
			waitChange(ctx, t, spaces[0], s)
		}
	}
}

// waitChange returns soon after one of the spaces may have changed.
func waitChange(ctx context.Context, t *testing.T, spaces ...*replica.Space) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	done := make(chan struct{}, len(spaces))
	for _, s := range spaces {
		go func() {
			for _, err := range s.Watch(ctx, s.Cursor()) {
				if err != nil && ctx.Err() == nil && !errors.Is(err, replica.ErrCursor) { // that comes of a change too
					t.Error(err)
				}
				break
			}
			done <- struct{}{}
		}()
	}
	<-done
	cancel()
	for range len(spaces) - 1 {
		<-done
	}
	if err := t.Context().Err(); err != nil {
		t.Fatal(err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	boom := errors.New("boom")
	_, err := s.Update(t.Context(), func(tx *replica.Tx) error {
		tx.Doc("a").Set(crdt.Path{"x"}, 1)
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, replica.ErrNotFound) {
		t.Fatalf("a transaction that failed left something: %v", err)
	}
	_, err = s.Update(t.Context(), func(tx *replica.Tx) error {
		tx.Doc("a").Set(crdt.Path{"x"}, 1)
		tx.Doc("").Set(crdt.Path{"x"}, 1) // its error is ignored here, and fails the transaction
		tx.Doc("b").Set(crdt.Path{"x"}, 1)
		return nil
	})
	if !errors.Is(err, crdt.ErrKey) {
		t.Fatalf("got %v", err)
	}
	if _, err := s.Get(t.Context(), "a"); !errors.Is(err, replica.ErrNotFound) {
		t.Fatalf("a transaction with a bad call left something: %v", err)
	}
	if st, _ := s.Status(t.Context()); st.Documents != 0 || st.Vector.Len() != 0 {
		t.Fatalf("status after nothing: %+v", st)
	}
}

func TestTransactionReadsItsOwnWrites(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	update(t, s, func(tx *replica.Tx) {
		d := tx.Doc("a")
		d.Set(crdt.Path{"n"}, 1)
		if v, ok, err := d.Get(crdt.Path{"n"}); err != nil || !ok || v != int64(1) {
			t.Errorf("got %v %v %v", v, ok, err)
		}
		d.Increment(crdt.Path{"count"}, 2)
		d.Increment(crdt.Path{"count"}, 3)
	})
	if got := show(t, s, "a"); got != "map[count:5 n:1]" {
		t.Fatal(got)
	}
}

func TestTransactionThatChangesNothingUsesNoDot(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	set(t, s, "a", "x", 1)
	before, _ := s.Status(t.Context())
	rc := update(t, s, func(tx *replica.Tx) {
		tx.Doc("a").Remove(crdt.Path{"none"})
		tx.Doc("b").Delete()
		tx.Doc("a").Replace(map[string]any{"x": 1})
		tx.Doc("c").Set(crdt.Path{"x"}, 1)
		tx.Doc("c").Delete()
	})
	after, _ := s.Status(t.Context())
	if !rc.Dot.IsZero() || !before.Vector.Equal(after.Vector) || before.Cursor != after.Cursor {
		t.Fatalf("receipt %v, %v became %v", rc, before, after)
	}
}

func TestConcurrentUpdatesShareCommitsAndAreAllThere(t *testing.T) {
	s := space(t, open(t, replica.Config{Dir: t.TempDir()}))
	const writers, each = 16, 25
	done := make(chan error, writers)
	for w := range writers {
		go func() {
			for i := range each {
				_, err := s.Update(context.Background(), func(tx *replica.Tx) error {
					tx.Doc("total").Increment(crdt.Path{"n"}, 1)
					return tx.Doc(fmt.Sprintf("w%d", w)).Set(crdt.Path{"i"}, i)
				})
				if err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range writers {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := show(t, s, "total"); got != fmt.Sprintf("map[n:%d]", writers*each) {
		t.Fatal(got)
	}
	mustVerify(t, s)
}

func mustVerify(t *testing.T, s *replica.Space) {
	t.Helper()
	report, err := s.Verify(t.Context(), replica.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("verify: %s", p)
	}
}

func TestReplicasConvergeAndKeepConflicts(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	set(t, p.sa, "todo/1", "title", "milk")
	p.level(t)
	p.network.Cut(p.ida, p.idb)
	set(t, p.sa, "todo/1", "title", "oat milk")
	set(t, p.sa, "todo/1", "shop", "corner")
	rc := set(t, p.sb, "todo/1", "title", "soy milk")
	update(t, p.sb, func(tx *replica.Tx) { tx.Doc("todo/2").Set(crdt.Path{"title"}, "bread") })
	if n := p.sb.Synced(rc); n != 0 {
		t.Fatalf("%d peers are said to hold what never left", n)
	}
	p.network.Heal()
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		doc, err := s.Get(t.Context(), "todo/1")
		if err != nil {
			t.Fatal(err)
		}
		if n := len(doc.Conflicts()); n != 1 {
			t.Fatalf("%d conflicts, want 1: %v", n, doc.Conflicts())
		}
	}
	if a, b := show(t, p.sa, "todo/1"), show(t, p.sb, "todo/1"); a != b || !strings.Contains(a, "corner") {
		t.Fatalf("%s and %s", a, b)
	}
	update(t, p.sa, func(tx *replica.Tx) { // having seen both, it settles the conflict
		doc := tx.Doc("todo/1")
		conflicts, err := doc.Conflicts(crdt.Path{"title"})
		if elsewhere, err := doc.Conflicts(crdt.Path{"shop"}); err != nil || len(elsewhere) != 0 {
			t.Errorf("conflicts at a field without: %v %v", elsewhere, err)
		}
		shown, ok, gerr := doc.Get(crdt.Path{"title"})
		if err != nil || gerr != nil || !ok || len(conflicts) != 1 {
			t.Fatalf("%v %v, %v %v", shown, gerr, conflicts, err)
		}
		doc.Set(crdt.Path{"title"}, fmt.Sprint(shown, " and ", conflicts[0].Value.Any()))
	})
	p.level(t)
	doc, _ := p.sb.Get(t.Context(), "todo/1")
	if n := len(doc.Conflicts()); n != 0 {
		t.Fatalf("%d conflicts after settling", n)
	}
	mustVerify(t, p.sa)
	mustVerify(t, p.sb)
}

func TestConcurrentWriteSurvivesDelete(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("d").Replace(map[string]any{"x": 1, "y": 2}) })
	p.level(t)
	p.network.Cut(p.ida, p.idb)
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("d").Delete() })
	set(t, p.sb, "d", "y", 3)
	p.network.Heal()
	p.level(t)
	if got := show(t, p.sa, "d"); got != "map[y:3]" {
		t.Fatal(got)
	}
}

func TestWaitSynced(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	rc := set(t, p.sa, "a", "x", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.sa.WaitSynced(ctx, rc, 1); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.sa.WaitSynced(short, rc, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("two peers where there is one: %v", err)
	}
}

func TestWatchResumesByCursor(t *testing.T) {
	s := space(t, open(t, replica.Config{Dir: t.TempDir(), Sync: replica.SyncNever}))
	for i := range 200 {
		set(t, s, fmt.Sprintf("k%03d", i), "i", i)
	}
	update(t, s, func(tx *replica.Tx) { tx.Doc("k000").Delete() })
	var cursor replica.Cursor
	seen := make(map[string]bool)
	for len(seen) < 200 {
		n := 0
		for c, err := range s.Watch(t.Context(), cursor) {
			if err != nil {
				t.Fatal(err)
			}
			if seen[c.Key] {
				t.Fatalf("%q came twice", c.Key)
			}
			seen[c.Key] = true
			if deleted := c.Document == nil; deleted != (c.Key == "k000") {
				t.Fatalf("%q: deleted %v", c.Key, deleted)
			}
			cursor = c.Cursor
			if n++; n == 30 || len(seen) == 200 {
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	go set(t, s, "late", "x", 1)
	for c, err := range s.Watch(ctx, cursor) {
		if err != nil || c.Key != "late" {
			t.Fatalf("%v %v", c, err)
		}
		break
	}
	cancel()
	for _, err := range s.Watch(ctx, s.Cursor()) {
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

func TestCursorOfAnotherStoreIsRefused(t *testing.T) {
	a, b := space(t, open(t, replica.Config{})), space(t, open(t, replica.Config{}))
	set(t, a, "x", "x", 1)
	for _, err := range b.Watch(t.Context(), a.Cursor()) {
		if !errors.Is(err, replica.ErrCursor) {
			t.Fatalf("got %v", err)
		}
	}
	c, err := replica.ParseCursor(a.Cursor().String())
	if err != nil || c != a.Cursor() {
		t.Fatalf("%v %v", c, err)
	}
	if _, err := replica.ParseCursor("12"); !errors.Is(err, replica.ErrCursor) {
		t.Fatalf("got %v", err)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	r, err := replica.Open(replica.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s, err := r.Space("notes")
	if err != nil {
		t.Fatal(err)
	}
	set(t, s, "a", "x", 1)
	cursor, id := s.Cursor(), r.ReplicaID()
	before, _ := s.Status(t.Context())
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = open(t, replica.Config{Dir: dir})
	s = space(t, r)
	after, _ := s.Status(t.Context())
	if after.Digest != before.Digest || !after.Vector.Equal(before.Vector) || s.Cursor() != cursor || r.ReplicaID() != id {
		t.Fatalf("%+v became %+v", before, after)
	}
	set(t, s, "a", "x", 2)
	if got := show(t, s, "a"); got != "map[x:2]" {
		t.Fatal(got)
	}
	mustVerify(t, s)
}

func TestPeerAheadIsRefusedUntilItsTimeComes(t *testing.T) {
	ahead := time.Hour
	p := newPair(t,
		replica.Config{Now: func() time.Time { return time.Now().Add(ahead) }},
		replica.Config{})
	set(t, p.sa, "a", "x", "from the future")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		a, _ := p.sa.Status(ctx)
		b, _ := p.sb.Status(ctx)
		if len(a.Peers) == 1 && strings.Contains(a.Peers[0].LastError, "clock") &&
			len(b.Peers) == 1 && strings.Contains(b.Peers[0].LastError, "ahead of the local clock") {
			break
		}
		waitChange(ctx, t, p.sa, p.sb)
		if ctx.Err() != nil {
			t.Fatalf("nobody was told: %+v and %+v", a.Peers, b.Peers)
		}
	}
	if _, err := p.sb.Get(t.Context(), "a"); !errors.Is(err, replica.ErrNotFound) {
		t.Fatalf("it was merged: %v", err)
	}
	// The other direction goes on.
	rc := set(t, p.sb, "b", "x", 1)
	if err := p.sb.WaitSynced(ctx, rc, 1); err != nil {
		t.Fatal(err)
	}
}

func TestClosedReplicaSaysSo(t *testing.T) {
	r, err := replica.Open(replica.Config{})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := r.Space("notes")
	done := make(chan error)
	go func() {
		for _, err := range s.Watch(context.Background(), s.Cursor()) {
			done <- err
		}
	}()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("watch: %v", err)
	}
	if _, err := s.Update(context.Background(), func(*replica.Tx) error { return nil }); !errors.Is(err, replica.ErrClosed) {
		t.Fatalf("update: %v", err)
	}
}

func TestLargeDocumentsTravelInChunks(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	fields := make(map[string]any)
	for i := range 3000 {
		fields[fmt.Sprintf("field%05d", i)] = i
	}
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("big").Replace(fields) })
	p.level(t)
	set(t, p.sb, "big", "field01500", "changed")
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("big").Remove(crdt.Path{"field00007"}) })
	p.level(t)
	doc, err := p.sa.Get(t.Context(), "big")
	if err != nil {
		t.Fatal(err)
	}
	v := doc.Value()
	if len(v) != 2999 || v["field01500"] != "changed" || v["field02999"] != int64(2999) {
		t.Fatalf("%d fields, %v", len(v), v["field01500"])
	}
	mustVerify(t, p.sa)
	mustVerify(t, p.sb)
}

func TestPeerWithAFullDiskCatchesUpOnceThereIsSpace(t *testing.T) {
	network := memnet.New(1)
	full := memstore.New()
	b, err := replica.OpenOn(replica.Config{Transport: network.Node("b")}, full)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	sb := space(t, b)
	a := open(t, replica.Config{Transport: network.Node("a"), Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}}})
	sa := space(t, a)
	set(t, sa, "first", "x", 1)
	waitLevel(t, sa, sb)
	full.FailCommits(store.ErrNoSpace)
	rc := set(t, sa, "second", "x", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		st, err := sb.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Peers) == 1 && strings.Contains(st.Peers[0].LastError, store.ErrNoSpace.Error()) {
			break
		}
		waitChange(ctx, t, sa, sb)
	}
	if n := sa.Synced(rc); n != 0 {
		t.Fatal("what could not be stored was acknowledged")
	}
	full.FailCommits(nil)
	if err := sa.WaitSynced(ctx, rc, 1); err != nil {
		t.Fatal(err)
	}
	waitLevel(t, sa, sb)
	mustVerify(t, sb)
}

func TestLookupMakesNoSpace(t *testing.T) {
	r := open(t, replica.Config{})
	if _, ok := r.Lookup("notes"); ok || len(r.Spaces()) > 0 {
		t.Error("there is a space before there is one")
	}
	s := space(t, r)
	if found, ok := r.Lookup(s.Name()); !ok || found != s {
		t.Errorf("%v, %v", found, ok)
	}
	if _, ok := r.Lookup("space-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"); ok {
		t.Error("an ID that nobody has is that of a space")
	}
}

func TestDocumentInTransactionIsWhole(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	set(t, s, "k", "x", 1)
	_, err := s.Update(t.Context(), func(tx *replica.Tx) error {
		if d, err := tx.Doc("none").Document(); err != nil || d.IsLive() {
			t.Errorf("a document that does not exist: %v, %v", d, err)
		}
		if err := tx.Doc("k").Set(crdt.Path{"y"}, 2); err != nil {
			return err
		}
		d, err := tx.Doc("k").Document()
		if err == nil && string(d.AppendJSON(nil)) != `{"x":1,"y":2}` {
			t.Errorf("%s", d.AppendJSON(nil))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestReadingAPartOfADocument(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	update(t, s, func(tx *replica.Tx) {
		for _, p := range []crdt.Path{{"a", "x"}, {"a", "y"}, {"b"}} {
			if err := tx.Doc("d").Set(p, p.String()); err != nil {
				t.Fatal(err)
			}
		}
	})
	for want, p := range map[string]crdt.Path{"/a/x": {"a", "x"}, "map[x:/a/x y:/a/y]": {"a"}, "map[a:map[x:/a/x y:/a/y] b:/b]": {}} {
		if got, err := s.GetPath(t.Context(), "d", p); err != nil || fmt.Sprint(got) != want {
			t.Errorf("at %s: %v, %v, want %s", p, got, err, want)
		}
	}
	var leaves []string
	for l, err := range s.Leaves(t.Context(), "d") {
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, fmt.Sprint(l.Value.Any()))
	}
	if got := strings.Join(leaves, " "); got != "/a/x /a/y /b" {
		t.Errorf("leaves %s", got)
	}
	for _, err := range s.Leaves(t.Context(), "d") {
		if err != nil {
			t.Error(err)
		}
		break
	}
	_, noPath := s.GetPath(t.Context(), "d", crdt.Path{"c"})
	_, noDocument := s.GetPath(t.Context(), "e", crdt.Path{"c"})
	_, noKey := s.GetPath(t.Context(), "", crdt.Path{"c"})
	if !errors.Is(noPath, replica.ErrNotFound) || !errors.Is(noDocument, replica.ErrNotFound) || noKey == nil {
		t.Errorf("no such path: %v, document: %v, key: %v", noPath, noDocument, noKey)
	}
	n := 0
	for _, err := range s.Leaves(t.Context(), "e") {
		if n++; !errors.Is(err, replica.ErrNotFound) {
			t.Errorf("no such document: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("no such document: said %d times", n)
	}
}
