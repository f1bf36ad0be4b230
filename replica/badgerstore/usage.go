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
		s.usage, s.usageAt = store.Usage{DiskBytes: diskBytes(s.opts.Dir), FloorBytes: max(s.space.floor, 0)}, now
		if free, err := s.space.free(s.opts.Dir); err == nil {
			s.usage.FreeBytes = free
		}
	}
	u := s.usage
	u.Syncs = s.syncs.Load()
	return u
}

// Writable returns why a commit would be refused now, nil if it would not: after an error of the disk, or with too little room.
func (s *Store) Writable() error {
	s.life.RLock()
	defer s.life.RUnlock()
	if err := s.writable(); err != nil {
		return err
	}
	return s.space.checkFor(s.space.floor)
}

// Info describes the store.
func (s *Store) Info() Info { return s.info }

// Anchor returns the Anchor of this opening; it is constant from Open to Close, and "" in a read-only store and
// wherever the system does not say what is needed.
func (s *Store) Anchor() Anchor { return s.anchor }
