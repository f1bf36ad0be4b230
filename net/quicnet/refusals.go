package quicnet

import (
	"log/slog"
	"sync"
	"time"
)

const (
	refusalsLogged = 10
	refusalsPeriod = time.Minute
)

// refusals logs refused connections, at most refusalsLogged in each refusalsPeriod: anybody who reaches the port can cause them.
type refusals struct {
	logger *slog.Logger
	now    func() time.Time

	mu      sync.Mutex
	since   time.Time
	count   int
	skipped int
}

func (r *refusals) log(message string, args ...any) {
	r.mu.Lock()
	if now := r.now(); r.since.IsZero() || now.Sub(r.since) >= refusalsPeriod || now.Before(r.since) {
		if r.skipped > 0 {
			args = append(args, "more_not_logged", r.skipped)
		}
		r.since, r.count, r.skipped = now, 0, 0
	}
	r.count++
	if r.count > refusalsLogged {
		r.skipped++
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	r.logger.Warn(message, args...)
}
