package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

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
