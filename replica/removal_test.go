package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

func openOn(t *testing.T, st store.Store) *replica.Replica {
	t.Helper()
	r, err := replica.OpenOn(replica.Config{Identity: keyOf("a")}, keepOpen{st})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// keepOpen is a store that outlives its replica.
type keepOpen struct{ store.Store }

func (keepOpen) Close() error { return nil }

func keysIn(t *testing.T, st store.Store) (keys []string) {
	t.Helper()
	snap, err := st.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	for k, err := range snap.Keys(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(k))
	}
	return keys
}

// Nothing is left of a space that was removed but that it is not wanted, also if a crash came in between.
func TestARemovedSpaceLeavesNothing(t *testing.T) {
	st := memstore.New()
	r := openOn(t, st)
	other, err := r.Space("other")
	if err != nil {
		t.Fatal(err)
	}
	set(t, other, "a", "x", 1)
	before := len(keysIn(t, st))
	open, err := r.Space("open")
	if err != nil {
		t.Fatal(err)
	}
	owned, err := r.CreateSpace(t.Context(), "owned")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := owned.Invite(t.Context(), replica.Invitation{Rights: replica.ReadRights, Addrs: []string{"a:1"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 {
		set(t, open, fmt.Sprint(i), "x", i)
		if i%10 == 0 {
			set(t, owned, fmt.Sprint(i), "x", i)
		}
	}
	watched := make(chan error, 1)
	go func() {
		for _, err := range open.Watch(context.Background(), open.Cursor()) {
			if err != nil {
				watched <- err
				return
			}
		}
	}()
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.RemoveSpace(interrupted, "open"); !errors.Is(err, context.Canceled) {
		t.Errorf("a removal that nobody waits for: %v", err)
	}
	if err := <-watched; !errors.Is(err, replica.ErrRemoved) {
		t.Errorf("who watches: %v", err)
	}
	if err := tryPut(open, "more"); !errors.Is(err, replica.ErrSpace) {
		t.Errorf("who writes: %v", err)
	}
	if err := r.RemoveSpace(t.Context(), "none"); !errors.Is(err, replica.ErrNotFound) {
		t.Errorf("a space that is not there: %v", err)
	}
	if err := r.RemoveSpace(t.Context(), "owned"); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = openOn(t, st) // the rest goes, if there is any
	for range 500 {
		if len(keysIn(t, st)) <= before+1 {
			break
		}
		<-time.After(10 * time.Millisecond)
	}
	if keys := keysIn(t, st); len(keys) != before+1 { // the mark that it is not wanted
		t.Errorf("%d keys, want %d: %q", len(keys), before+1, keys[:min(len(keys), 20)])
	}
	if got := fmt.Sprint(r.Spaces()); got != "[other]" {
		t.Errorf("spaces %s", got)
	}
	again, err := r.Space("open") // wanted again
	if err != nil {
		t.Fatal(err)
	}
	set(t, again, "new", "x", 1)
	if has(again, "1") || again.Summary().Documents != 1 {
		t.Error("something came back")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestARemovedSpaceIsNotKeptAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		network := memnet.New(1)
		a := open(t, replica.Config{Transport: network.Node("a")})
		b := open(t, replica.Config{Transport: network.Node("b"), Peers: []replica.Peer{{ID: memnet.ID("a"), Addr: "mem:a"}}})
		sa, sb := space(t, a), space(t, b)
		set(t, sa, "x", "x", 1)
		eventually(t, "b has it", func() bool { return has(sb, "x") })
		if err := b.RemoveSpace(t.Context(), "notes"); err != nil {
			t.Fatal(err)
		}
		set(t, sa, "y", "x", 1)
		<-time.After(2 * time.Minute)
		if names := b.Spaces(); len(names) != 0 {
			t.Errorf("b keeps %q", names)
		}
		sb = space(t, b)
		eventually(t, "b has it again", func() bool { return has(sb, "x") && has(sb, "y") })
	})
}
