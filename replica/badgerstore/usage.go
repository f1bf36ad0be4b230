package badgerstore

import (
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

const usageEvery = 2 * time.Second

// Usage implements store.Store. The files are looked at no more than once in two seconds.
func (s *Store) Usage() store.Usage {
	s.usageMu.Lock()
	defer s.usageMu.Unlock()
	if now := time.Now(); s.usageAt.IsZero() || now.Sub(s.usageAt) >= usageEvery {
		s.usage, s.usageAt = store.Usage{DiskBytes: diskBytes(s.opts.Dir)}, now
	}
	return s.usage
}

// Info describes the store.
func (s *Store) Info() Info { return s.info }

// Anchor returns the Anchor of this opening; it is constant from Open to Close, and "" in a read-only store and
// wherever the system does not say what is needed.
func (s *Store) Anchor() Anchor { return s.anchor }
