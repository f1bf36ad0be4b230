package replica

import (
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

const (
	// scrubBytesPerSecond is how fast a scrub reads, so that it is not noticed.
	scrubBytesPerSecond = 16 << 20
	// scrubDelay is how long after opening the first scrub begins.
	scrubDelay = 5 * time.Minute
)

// scrubLoop reads all that is stored now and then. What it finds wrong is repaired from peers.
func (r *Replica) scrubLoop() {
	wait := min(scrubDelay, r.cfg.ScrubInterval)
	for sleep(r.ctx, wait) == nil {
		wait = r.cfg.ScrubInterval
		r.mu.Lock()
		spaces := make([]*Space, 0, len(r.spaces))
		for _, s := range r.spaces {
			spaces = append(spaces, s)
		}
		r.mu.Unlock()
		for _, s := range spaces {
			if err := s.scrub(); err != nil && r.ctx.Err() == nil {
				r.log.Error("a space could not be scrubbed", "space", s.name, "error", err)
			}
		}
	}
}

func (s *Space) scrub() error {
	r := s.r
	var report docstore.ScrubReport
	err := s.view(r.ctx, func(snap store.Snapshot) (err error) {
		report, err = docstore.Scrub(r.ctx, snap, s.number, func(bytes int) error {
			return sleep(r.ctx, time.Duration(bytes)*time.Second/scrubBytesPerSecond)
		})
		return err
	})
	switch {
	case err != nil:
		return err
	case report.Broken > 0:
		s.noteDamage(report.Why.Error())
	case report.Off != "":
		s.noteDamage(report.Off)
	}
	return nil
}
