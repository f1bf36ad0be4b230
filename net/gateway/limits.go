package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// Limits bound what clients may ask for. The zero Limits are the defaults.
type Limits struct {
	// PerSecond is how many requests, and transactions of clients, each token may send on average. Zero: 5000.
	PerSecond int
	// Burst is how many may come at once. Zero: twice PerSecond.
	Burst int
	// Streams is how many WebSockets, event streams and waiting requests each token may have open. Zero: 1000.
	Streams int
	// BodyBytes bounds the body of a request. Zero: 8 MiB.
	BodyBytes int64
	// BodiesBytes bounds the bodies of all requests that are being read or worked on; others wait. Zero: 64 MiB.
	BodiesBytes int64
	// Timeout is how long a request may take to send its body, and its answer to be taken. What waits on purpose has its time
	// on top. Zero: 30 s.
	Timeout time.Duration
}

func (l Limits) withDefaults() (Limits, error) {
	if l.PerSecond < 0 || l.Burst < 0 || l.Streams < 0 || l.BodyBytes < 0 || l.BodiesBytes < 0 || l.Timeout < 0 {
		return l, errors.New("gateway: Limits must not be negative")
	}
	if l.PerSecond == 0 {
		l.PerSecond = 5000
	}
	if l.Burst == 0 {
		l.Burst = 2 * l.PerSecond
	}
	if l.Streams == 0 {
		l.Streams = 1000
	}
	if l.BodyBytes == 0 {
		l.BodyBytes = 8 << 20
	}
	if l.BodiesBytes == 0 {
		l.BodiesBytes = max(64<<20, l.BodyBytes)
	}
	if l.BodiesBytes < l.BodyBytes {
		return l, fmt.Errorf("gateway: Limits: BodiesBytes %d is less than BodyBytes %d", l.BodiesBytes, l.BodyBytes)
	}
	if l.Timeout == 0 {
		l.Timeout = 30 * time.Second
	}
	return l, nil
}

// usage is what tokens have used of their limits.
type usage struct {
	Limits
	bodies *semaphore.Weighted

	mu      sync.Mutex
	rates   map[string]*rate.Limiter // by token
	streams map[string]int
}

func newUsage(l Limits) *usage {
	return &usage{Limits: l, bodies: semaphore.NewWeighted(l.BodiesBytes), rates: make(map[string]*rate.Limiter), streams: make(map[string]int)}
}

// maxRates is how many tokens' rates are kept before those that have not been used lately are dropped.
const maxRates = 4096

func (u *usage) rateOf(token string, now time.Time) *rate.Limiter {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := u.rates[token]
	if l == nil {
		if len(u.rates) >= maxRates {
			for id, old := range u.rates {
				if old.TokensAt(now) >= float64(u.Burst) {
					delete(u.rates, id)
				}
			}
		}
		l = rate.NewLimiter(rate.Limit(u.PerSecond), u.Burst)
		u.rates[token] = l
	}
	return l
}

// admit counts a connection that stays open against the limits of its token. The caller calls release when it has ended.
func (g *Gateway) admit(gr Grant) (release func(), err error) {
	u := g.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.streams[gr.ID] >= u.Streams {
		return nil, &Problem{
			Status: http.StatusTooManyRequests, Code: CodeRateLimited, RetryAfter: 5 * time.Second,
			Detail: fmt.Sprintf("%d connections are open with this token, as many as may be", u.Streams),
		}
	}
	u.streams[gr.ID]++
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.streams[gr.ID]--; u.streams[gr.ID] == 0 {
			delete(u.streams, gr.ID)
		}
	}), nil
}

// spend counts work (a request, a transaction) against the rate of a token. The error is a *Problem that says when to try again.
func (g *Gateway) spend(gr Grant, n int) error {
	now := time.Now() // not the node's clock, which may be set
	l := g.usage.rateOf(gr.ID, now)
	n = min(n, g.usage.Burst)
	r := l.ReserveN(now, n)
	wait := r.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	r.CancelAt(now)
	return &Problem{
		Status: http.StatusTooManyRequests, Code: CodeRateLimited, RetryAfter: wait,
		Detail: fmt.Sprintf("more than %d requests a second with this token", g.usage.PerSecond),
	}
}

// begin bounds the time in which a request sends its body and takes its answer, not counting extra, in which it waits on purpose.
func (g *Gateway) begin(w http.ResponseWriter, r *http.Request, extra time.Duration) {
	// Where the connection has no deadlines, as in tests, http.Server's own bounds hold.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(g.usage.Timeout))
	g.boundAnswer(w, extra)
	r.Body = http.MaxBytesReader(w, r.Body, g.usage.BodyBytes)
}

// boundAnswer bounds the time until an answer is taken, from now on.
func (g *Gateway) boundAnswer(w http.ResponseWriter, extra time.Duration) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(2*g.usage.Timeout + extra))
}

// room waits until there is room for a body of that many bytes, -1 if that is not known. The caller calls release when it needs the
// body no more.
func (u *usage) room(ctx context.Context, bytes int64) (release func(), err error) {
	if bytes > u.BodyBytes {
		return nil, &http.MaxBytesError{Limit: u.BodyBytes}
	}
	if bytes < 0 {
		bytes = u.BodyBytes
	}
	ctx, cancel := context.WithTimeout(ctx, u.Timeout)
	defer cancel()
	if err := u.bodies.Acquire(ctx, bytes); err != nil {
		return nil, &Problem{Status: http.StatusServiceUnavailable, Code: CodeBusy, Detail: "too many large requests are being worked on", RetryAfter: 2 * time.Second}
	}
	return func() { u.bodies.Release(bytes) }, nil
}
