package replica

import "github.com/anabranch-db/anabranch/replica/store"

// OpenOn opens a replica on a given store, for tests that make the store fail.
func OpenOn(cfg Config, st store.Store) (*Replica, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return openWith(cfg, st, "test")
}

// Forget makes everything that the space holds stable, as if all members had it, and prunes it.
func (s *Space) Forget() error {
	r := s.r
	for more := true; more; {
		r.mu.Lock()
		s.state.RaiseStable(s.state.VV().Clone())
		over, err := r.overlay()
		if err != nil {
			r.mu.Unlock()
			return err
		}
		p, err := s.state.Prune(over, 1000)
		over.Snapshot.Close()
		g := r.group
		g.part(s)
		r.mu.Unlock()
		if err != nil {
			return err
		}
		r.poke()
		if err := g.wait(); err != nil {
			return err
		}
		more = p.More
	}
	return nil
}
