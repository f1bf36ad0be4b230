package hlc

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// LogicalBits is the number of low bits of a Time that hold the logical counter.
const LogicalBits = 16

// Time is one reading of a hybrid logical clock: 48 bits of Unix milliseconds above 16 bits of a
// logical counter. Times compare as plain integers. The zero Time is before every event; no dot has it.
type Time uint64

// Max is the greatest Time. A clock that has reached it can tick no more.
const Max Time = math.MaxUint64

// maxUnixMilli is the greatest number of milliseconds that the physical part holds (the year 10889).
const maxUnixMilli = 1<<(64-LogicalBits) - 1

// FromUnixMilli returns the first Time of the given millisecond. Milliseconds before 1970 or beyond
// the 48 bits are clamped.
func FromUnixMilli(ms int64) Time {
	return Time(min(max(ms, 0), maxUnixMilli)) << LogicalBits
}

// FromWall returns the first Time of the millisecond that w falls in.
func FromWall(w time.Time) Time { return FromUnixMilli(w.UnixMilli()) }

// UnixMilli returns the physical part.
func (t Time) UnixMilli() int64 { return int64(t >> LogicalBits) }

// Logical returns the logical counter.
func (t Time) Logical() uint16 { return uint16(t) }

// Wall returns the physical part as a time in UTC.
func (t Time) Wall() time.Time { return time.UnixMilli(t.UnixMilli()).UTC() }

// String returns the wall time in RFC 3339 with milliseconds, a plus sign and the logical counter.
func (t Time) String() string {
	return fmt.Sprintf("%s+%d", t.Wall().Format("2006-01-02T15:04:05.000Z"), t.Logical())
}

// DefaultMaxDrift is how far ahead of the local physical clock a received time may lie.
const DefaultMaxDrift = time.Minute

// ErrExhausted says that a clock has reached Max. It takes a Time near the year 10889 to get there,
// which Check never lets in.
var ErrExhausted = errors.New("hybrid logical clock is exhausted: its last time is the greatest there is")

// DriftError says that a received time lies too far ahead of the local physical clock.
type DriftError struct {
	Time  Time          // the time that was refused
	Now   Time          // the local physical reading
	Limit time.Duration // how far ahead it may lie
}

// Ahead returns how far the refused time lies ahead of the local physical clock.
func (e *DriftError) Ahead() time.Duration {
	return time.Duration(e.Time.UnixMilli()-e.Now.UnixMilli()) * time.Millisecond
}

func (e *DriftError) Error() string {
	return fmt.Sprintf("time %s is %s ahead of the local clock (%s), more than the %s allowed: correct the clock that is wrong",
		e.Time, e.Ahead(), e.Now.Wall().Format(time.RFC3339), e.Limit)
}

// Check reports a *DriftError if t lies more than limit ahead of the physical reading now. Times in the
// past are never refused.
func Check(t, now Time, limit time.Duration) error {
	if t.UnixMilli()-now.UnixMilli() > limit.Milliseconds() {
		return &DriftError{Time: t, Now: now, Limit: limit}
	}
	return nil
}

// Clock is a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014). It never reads a
// physical clock: the caller passes each physical reading in. The zero Clock is ready; it is not safe
// for concurrent use.
type Clock struct {
	last Time
}

// Last returns the greatest time that the clock has produced or seen.
func (c *Clock) Last() Time { return c.last }

// Peek returns the time that Tick would return, without taking it.
func (c *Clock) Peek(now Time) (Time, error) {
	if c.last == Max {
		return 0, ErrExhausted
	}
	return max(now, c.last+1), nil
}

// Tick returns max(now, greatest time seen + 1) and remembers it as seen.
func (c *Clock) Tick(now Time) (Time, error) {
	t, err := c.Peek(now)
	if err == nil {
		c.last = t
	}
	return t, err
}

// Observe remembers t as seen, so that later ticks lie above it. The caller checks the drift first.
func (c *Clock) Observe(t Time) { c.last = max(c.last, t) }
