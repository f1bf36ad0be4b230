package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// readFeed reads at most limit changes and returns their keys.
func readFeed(t *testing.T, f *replica.Feed, limit int) []string {
	t.Helper()
	var keys []string
	for c, err := range f.Read(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if keys = append(keys, c.Key); len(keys) == limit {
			break
		}
	}
	return keys
}

func TestFeedIsReadInPieces(t *testing.T) {
	r := open(t, replica.Config{})
	s := space(t, r)
	for i := range 10 {
		set(t, s, fmt.Sprintf("k%d", i), "i", i)
	}
	f, err := s.Feed(replica.Cursor{}, func(key string) bool { return key != "k1" })
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := f.Ahead(t.Context(), 100); n != 10 || err != nil {
		t.Errorf("%d documents ahead, %v", n, err)
	}
	if got := readFeed(t, f, 2); !slices.Equal(got, []string{"k0", "k2"}) || f.Level() || f.Passed() != 3 || f.Cursor().Arrival != 3 {
		t.Errorf("%q, level %v, passed %d, at %s", got, f.Level(), f.Passed(), f.Cursor())
	}
	set(t, s, "k9", "i", "again")
	if got := strings.Join(readFeed(t, f, 100), " "); got != "k3 k4 k5 k6 k7 k8 k9" || !f.Level() || f.Cursor() != s.Cursor() {
		t.Errorf("%q, level %v, at %s of %s", got, f.Level(), f.Cursor(), s.Cursor())
	}
	set(t, s, "k1", "i", "not asked for")
	if err := f.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := readFeed(t, f, 100); len(got) > 0 || !f.Level() || f.Cursor() != s.Cursor() {
		t.Errorf("%q, level %v, at %s of %s", got, f.Level(), f.Cursor(), s.Cursor())
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
	r.Close()
	if err := f.Wait(t.Context()); !errors.Is(err, replica.ErrClosed) {
		t.Errorf("wait after closing: %v", err)
	}
}

// What a reader of one node has, any other goes on from.
func TestFeedVectorGoesOnAtAnotherNode(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{PruneDelay: time.Hour})
	for i := range 5 {
		set(t, p.sa, fmt.Sprintf("k%d", i), "i", i)
	}
	p.level(t)
	vv := p.sa.Summary().Vector
	set(t, p.sb, "k3", "j", 1)
	set(t, p.sb, "new", "j", 1)
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("k1").Delete() })
	update(t, p.sa, func(tx *replica.Tx) { tx.Doc("k2").Remove(crdt.Path{"i"}) })
	p.level(t)

	f, err := p.sb.FeedVector(vv, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	first := readFeed(t, f, 2)
	since := f.Cursor()
	all := append(first, readFeed(t, f, 100)...)
	slices.Sort(all)
	if got := strings.Join(all, " "); got != "k1 k2 k3 new" || !f.Level() {
		t.Errorf("%q, level %v", got, f.Level())
	}
	if set(t, p.sb, "k4", "j", 1); f.Wait(t.Context()) != nil {
		t.Fatal("it waits in vain")
	}
	if got := strings.Join(readFeed(t, f, 100), " "); got != "k4" {
		t.Errorf("then %q", got)
	}
	g, err := p.sb.Feed(since, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	rest := readFeed(t, g, 100)
	for _, key := range all {
		if !slices.Contains(first, key) && !slices.Contains(rest, key) {
			t.Errorf("%q, after %s, gives %q: %q is missing", first, since, rest, key)
		}
	}
}

// What the reader has already is not even counted.
func TestFeedVectorCostsWhatTheReaderLacks(t *testing.T) {
	p := newPair(t, replica.Config{}, replica.Config{})
	for i := range 50 {
		set(t, p.sa, fmt.Sprintf("k%d", i), "i", i)
	}
	p.level(t)
	vv := p.sa.Summary().Vector
	set(t, p.sa, "k7", "j", 1)
	set(t, p.sa, "k8", "j", 1)
	p.level(t)
	f, err := p.sb.FeedVector(vv, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	set(t, p.sb, "k7", "j", 2) // comes once, as it is by then
	if n, err := f.Ahead(t.Context(), 100); n != 2 || err != nil {
		t.Errorf("%d documents ahead, %v", n, err)
	}
	if got := strings.Join(readFeed(t, f, 100), " "); got != "k8 k7" || f.Passed() != 2 {
		t.Errorf("%q, and %d were passed", got, f.Passed())
	}
}

func TestFeedVectorIsRefusedOnceSomethingIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, spaces := chain(t, memnet.New(1), 2, replica.Config{})
		s := spaces[0]
		set(t, s, "a", "i", 1)
		waitLevel(t, spaces...)
		vv := s.Summary().Vector
		remove(t, s, "a")
		waitLevel(t, spaces...)
		f, err := s.FeedVector(vv, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		pass(time.Minute / 2)
		if g, err := s.FeedVector(vv, nil); err != nil {
			t.Errorf("before PruneDelay is over: %v", err)
		} else {
			g.Close()
		}
		pass(10 * time.Minute) // more than pruning waits for a reader
		if _, err := s.FeedVector(vv, nil); !errors.Is(err, replica.ErrCursor) {
			t.Errorf("a new feed: %v", err)
		}
		for _, err := range f.Read(t.Context()) {
			if !errors.Is(err, replica.ErrCursor) {
				t.Errorf("one that was open: %v", err)
			}
		}
	})
}

// A replica that is behind one of its readers learns by a snapshot what there is, and not what was deleted: the reader has to begin anew.
func TestReaderOfAReplicaThatIsBehindBeginsAnewAfterASnapshot(t *testing.T) {
	for _, own := range []int{0, 3} { // what the replica has of its own
		t.Run(fmt.Sprint(own), func(t *testing.T) {
			p := newStrangers(t, replica.Config{}, replica.Config{Dir: t.TempDir()})
			set(t, p.sa, "kept", "i", 1)
			set(t, p.sa, "deleted", "i", 1)
			vv := p.sa.Summary().Vector
			for i := range own {
				set(t, p.sb, fmt.Sprint("own ", i), "i", i)
			}
			f, err := p.sb.FeedVector(vv, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if got := readFeed(t, f, 100); len(got) != own || !f.Level() {
				t.Fatalf("it reads %q, level %v", got, f.Level())
			}
			remove(t, p.sa, "deleted")
			forget(t, p.sa)
			p.network.Heal()
			p.level(t)
			for _, err := range f.Read(t.Context()) {
				if !errors.Is(err, replica.ErrCursor) {
					t.Errorf("who was reading gets %v", err)
				}
				break
			}
			if own > 0 {
				if _, err := p.sb.Feed(f.Cursor(), nil); !errors.Is(err, replica.ErrCursor) {
					t.Errorf("who comes back gets %v", err)
				}
			}
			if _, err := p.sb.FeedVector(vv, nil); !errors.Is(err, replica.ErrCursor) {
				t.Errorf("who comes with the vector gets %v", err)
			}
			g, err := p.sb.Feed(replica.Cursor{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			if got := readFeed(t, g, 100); len(got) != own+1 {
				t.Errorf("who begins anew reads %q", got)
			}
		})
	}
}

// It is for such readers only that the others are disturbed.
func TestReadersGoOnDuringASnapshotIfNoneIsAhead(t *testing.T) {
	p := newStrangers(t, replica.Config{}, replica.Config{})
	fill(t, p.sa, 0, 300)
	forget(t, p.sa)
	set(t, p.sb, "own", "i", 1)
	f, err := p.sb.FeedVector(p.sb.Summary().Vector, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	readFeed(t, f, 100)
	p.network.Heal()
	p.level(t)
	if got := readFeed(t, f, 1000); len(got) != 200 {
		t.Errorf("it reads %d documents, want 200", len(got))
	}
}

// What is noted of a reader must not come into the store after the space has gone.
func TestReaderOfARemovedSpaceIsNotNoted(t *testing.T) {
	r := open(t, replica.Config{})
	s := space(t, r)
	if err := r.RemoveSpace(t.Context(), s.Name()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.FeedVector(crdt.NewVersionVector(crdt.Dot{Replica: 7, Time: 12}), nil); !errors.Is(err, replica.ErrSpace) {
		t.Errorf("%v", err)
	}
}
