package docstore

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Firm returns vv but for the replicas at which the space is open: see OpenEntries.
func (s *Space) Firm() crdt.VersionVector { return protocol.Firm(s.vv, s.OpenEntries()) }

// firmAt returns the entry of Firm for one replica.
func (s *Space) firmAt(r crdt.ReplicaID) hlc.Time {
	if t, ok := s.openAt[r]; ok {
		return t
	}
	return s.vv.Get(r)
}

// OpenEntries returns the replicas whose entry of the horizon is beyond that of vv, sorted, each with what vv was when that was
// not so the last time, zero if it always was. Nearly always there are none.
//
// Of what such a replica did after that something may be missing although vv covers it: a later transaction that vv does not cover took it
// over, and whoever sent the earlier ones left it out, since the later one carries it.
func (s *Space) OpenEntries() []crdt.Dot { return s.openAt.sorted() }

// openEntries is the replicas at which a space is open, and the entries of firm for them.
type openEntries map[crdt.ReplicaID]hlc.Time

func (o openEntries) sorted() []crdt.Dot {
	if len(o) == 0 {
		return nil
	}
	dots := make([]crdt.Dot, 0, len(o))
	for r, t := range o {
		dots = append(dots, crdt.Dot{Replica: r, Time: t})
	}
	slices.SortFunc(dots, crdt.Dot.Compare)
	return dots
}
