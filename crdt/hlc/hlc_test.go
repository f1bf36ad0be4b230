package hlc_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func ms(n int64) hlc.Time { return hlc.FromUnixMilli(n) }

// TestTicks is the table of the package's documentation.
func TestTicks(t *testing.T) {
	var c hlc.Clock
	for i, step := range []struct {
		now  int64
		want hlc.Time
	}{
		{1000, ms(1000)},
		{1000, ms(1000) + 1}, // two transactions in one millisecond
		{990, ms(1000) + 2},  // the physical clock was set back
		{1001, ms(1001)},
	} {
		peeked, err := c.Peek(ms(step.now))
		if err != nil || peeked != step.want || c.Last() == step.want {
			t.Errorf("step %d: peek %v, error %v, last %v; want %v, not taken", i, peeked, err, c.Last(), step.want)
		}
		got, err := c.Tick(ms(step.now))
		if err != nil || got != step.want || c.Last() != got {
			t.Errorf("step %d: tick %v, error %v, last %v; want %v", i, got, err, c.Last(), step.want)
		}
	}
}

func TestTickIsLaterThanWhatWasSeen(t *testing.T) {
	var c hlc.Clock
	c.Observe(ms(5000) + 7)
	c.Observe(ms(4000)) // an older one changes nothing
	if got, err := c.Tick(ms(1000)); err != nil || got != ms(5000)+8 {
		t.Errorf("tick %v, error %v", got, err)
	}
}

// TestTimesOfOneClockGrow lets a physical clock jump at random: ticks always grow, lie above all that was seen, and never behind
// the physical clock.
func TestTimesOfOneClockGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c hlc.Clock
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			now := ms(rapid.Int64Range(0, 1000).Draw(t, "now"))
			last := c.Last()
			if rapid.Bool().Draw(t, "observe") {
				seen := ms(rapid.Int64Range(0, 1000).Draw(t, "seen")) + hlc.Time(rapid.Uint16().Draw(t, "counter"))
				c.Observe(seen)
				if c.Last() != max(last, seen) {
					t.Fatalf("last %v after observing %v, before %v", c.Last(), seen, last)
				}
				continue
			}
			got, err := c.Tick(now)
			if err != nil || got <= last || got < now || got > max(last+1, now) {
				t.Fatalf("tick %v at %v after %v, error %v", got, now, last, err)
			}
		}
	})
}

// TestCounterCarriesIntoTheMilliseconds: more transactions than the counter holds go on in the next millisecond.
func TestCounterCarriesIntoTheMilliseconds(t *testing.T) {
	var c hlc.Clock
	c.Observe(ms(1000) + math.MaxUint16)
	got, err := c.Tick(ms(1000))
	if err != nil || got != ms(1001) || got.UnixMilli() != 1001 || got.Logical() != 0 {
		t.Errorf("tick %v, error %v", got, err)
	}
}

func TestClockAtItsEnd(t *testing.T) {
	var c hlc.Clock
	c.Observe(hlc.Max - 1)
	if got, err := c.Tick(0); err != nil || got != hlc.Max {
		t.Errorf("the last tick: %v, error %v", got, err)
	}
	for range 2 {
		if got, err := c.Tick(ms(1000)); !errors.Is(err, hlc.ErrExhausted) || c.Last() != hlc.Max {
			t.Errorf("after the last tick: %v, error %v, last %v", got, err, c.Last())
		}
	}
}

func TestCheckRefusesOnlyTheFuture(t *testing.T) {
	now := ms(100_000_000)
	for name, c := range map[string]struct {
		t       hlc.Time
		refused bool
	}{
		"the distant past":                 {1, false},
		"the present":                      {now + 5, false},
		"a minute ahead":                   {now + ms(60_000), false},
		"a minute ahead and some ticks":    {now + ms(60_000) + 900, false},
		"a minute and a millisecond ahead": {now + ms(60_001), true},
		"the end of time":                  {hlc.Max, true},
	} {
		err := hlc.Check(c.t, now, hlc.DefaultMaxDrift)
		var drift *hlc.DriftError
		if errors.As(err, &drift) != c.refused {
			t.Errorf("%s: error %v", name, err)
		}
	}
	err := hlc.Check(now+ms(90_000), now, time.Minute)
	var drift *hlc.DriftError
	if !errors.As(err, &drift) || drift.Ahead() != 90*time.Second || !strings.Contains(err.Error(), "1m30s ahead") {
		t.Errorf("error %v does not say how far ahead", err)
	}
}

func TestConversions(t *testing.T) {
	w := time.Date(2026, 11, 24, 3, 27, 42, 123_999_999, time.FixedZone("", 3600))
	got := hlc.FromWall(w)
	if want := w.Truncate(time.Millisecond); !got.Wall().Equal(want) || got.Wall().Location() != time.UTC || got.Logical() != 0 {
		t.Errorf("%v becomes %v", w, got.Wall())
	}
	if s := (got + 17).String(); s != "2026-11-24T02:27:42.123Z+17" {
		t.Errorf("string %s", s)
	}
	for n, want := range map[int64]int64{-1: 0, 0: 0, 1<<48 - 1: 1<<48 - 1, 1 << 48: 1<<48 - 1, math.MaxInt64: 1<<48 - 1, math.MinInt64: 0} {
		if got := hlc.FromUnixMilli(n).UnixMilli(); got != want {
			t.Errorf("%d milliseconds become %d, want %d", n, got, want)
		}
	}
	if before1970 := time.Date(1960, 1, 1, 0, 0, 0, 0, time.UTC); hlc.FromWall(before1970) != 0 {
		t.Errorf("a time before 1970 becomes %v", hlc.FromWall(before1970))
	}
}
