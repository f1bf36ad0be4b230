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
