package protocol

import (
	"errors"

	"github.com/anabranch-db/anabranch/crdt"
)

// ErrWait is what a Source returns for an origin, or a snapshot, of which nothing may be sent for now: its writes, or others that they are
// tangled up with, lie too far ahead of the clocks of most peers, or the host has to note first that they leave.
var ErrWait = errors.New("nothing of it may be sent now")

// Waiting returns the origins that the Source keeps back, sorted.
func (s *Session) Waiting() []crdt.ReplicaID { return sortedIDs(s.waiting) }

// Resume asks the Source again for what it kept back. The host calls it when that may have changed.
func (s *Session) Resume() {
	for _, r := range sortedIDs(s.waiting) {
		delete(s.waiting, r)
		s.markBehind(r)
	}
}

func (s *Session) wait(r crdt.ReplicaID) {
	s.waiting[r] = struct{}{}
	delete(s.behind, r)
}
