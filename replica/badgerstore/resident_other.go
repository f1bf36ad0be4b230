//go:build !linux

package badgerstore

// startReleasing does something on Linux alone.
func (s *Store) startReleasing() {}
