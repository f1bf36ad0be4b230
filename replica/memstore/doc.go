// Package memstore keeps a store.Store in memory, for tests, simulations and nodes that need no disk. It
// keeps the whole contract except that nothing survives the process.
//
// It also plays what disks do to a store. Clone is a backup or the disk of a cloned machine:
//
//	backup := s.Clone()      // at 12:00
//	…                        // writes until 12:30, then the machine dies
//	s = backup.Clone()       // restored: the writes of half an hour are gone
//
// and FailCommits(store.ErrNoSpace) is a disk that is full until FailCommits(nil).
package memstore
