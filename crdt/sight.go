package crdt

import (
	"cmp"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// SeenDot names a live entry that somebody has read: the one of Dot in the cell at Path.
type SeenDot struct {
	Path PathKey
	Dot  Dot
}

func (s SeenDot) compare(o SeenDot) int {
	return cmp.Or(strings.Compare(string(s.Path), string(o.Path)), s.Dot.Compare(o.Dot))
}

// Sight is what the author of a transaction had seen, where that is less than what the replica holds which makes it: the author
// is a client with an older copy. The operations that take one remove and replace what was seen and nothing else.
//
// Seen are the listed entries, and those of which the client itself is the author, up to its stamp.
type Sight struct {
	Client ReplicaID
	Stamp  hlc.Time
	seen   []SeenDot // sorted
	// kept are the writers of entries that were not seen and stay in cells that were changed. An event must not be of one of them.
	kept map[ReplicaID]struct{}
}

// NewSight returns the sight of a client at a stamp. It has seen nothing until See is called.
func NewSight(client ReplicaID, stamp hlc.Time) *Sight {
	return &Sight{Client: client, Stamp: stamp, kept: make(map[ReplicaID]struct{})}
}

// See sets what the client had seen before its next operation, in place of what it had before the last one. The Sight
// keeps the slice, and sorts it.
func (s *Sight) See(seen []SeenDot) {
	slices.SortFunc(seen, SeenDot.compare)
	s.seen = seen
}

// Keeps reports whether an entry of r stays, not seen, in a cell that the operations changed. If r is the writer of their event, they cannot
// be made under it: its new entry would say that the old one is dead. Make them anew under one that is not kept, on the
// documents as they were before.
func (s *Sight) Keeps(r ReplicaID) bool {
	_, ok := s.kept[r]
	return ok
}

func (s *Sight) has(ev Event, p PathKey, e Entry) bool {
	if e.Dot == ev.Dot || e.Author == s.Client && e.Stamp <= s.Stamp {
		return true
	}
	_, ok := slices.BinarySearchFunc(s.seen, SeenDot{p, e.Dot}, SeenDot.compare)
	return ok
}

// killSeen takes the seen entries out of a field, and remembers those that stay. others says whether there were any but that of the event
// itself.
func (f *tracked) killSeen(ev Event, s *Sight) (others bool) {
	var live []Entry
	observed := f.Cell.Observed.Clone()
	for _, e := range f.Cell.Live {
		switch {
		case !s.has(ev, f.Path, e):
			s.kept[e.Dot.Replica] = struct{}{}
			live = append(live, e)
		case e.Dot != ev.Dot:
			observed.Advance(e.Dot)
			others = true
		default:
			f.keepCounted(ev, s)
		}
	}
	f.Cell = Cell{Live: live, Observed: observed}
	return others
}

// keepCounted looks at the entry of the event itself, which goes: if it has counted on from an older one of the same writer, that would
// go as well, seen or not.
func (f *tracked) keepCounted(ev Event, s *Sight) {
	if e, ok := f.before.entry(ev.Dot.Replica); ok && !s.has(ev, f.Path, e) {
		s.kept[ev.Dot.Replica] = struct{}{}
	}
}

// removeSeenAt is removeAt for what was seen.
func (d *Document) removeSeenAt(i int, ev Event, s *Sight) bool {
	p := d.fields[i].Path
	if !slices.ContainsFunc(d.fields[i].Cell.Live, func(e Entry) bool { return s.has(ev, p, e) }) {
		return false
	}
	f := d.touchAt(i)
	if others := f.killSeen(ev, s); !others && slices.Equal(f.Cell.Live, f.before.Live) {
		f.Cell = *f.before // written and removed in one transaction
		return true
	}
	f.Cell.Observed.Advance(ev.Dot)
	f.Cell.normalise()
	return true
}

// write replaces what is live in a field by a new entry, as far as the author has seen it.
func (f *tracked) write(ev Event, s *Sight, v Value) {
	if s == nil {
		f.Cell.Write(ev, v)
		return
	}
	f.killSeen(ev, s)
	f.Cell.put(Entry{ev.Dot, ev.Stamp, ev.Author, v})
}

// SetLeavesSeen is SetLeaves for an author who has not seen everything: what it has not seen stays, as a sibling.
func (d *Document) SetLeavesSeen(ev Event, s *Sight, p PathKey, leaves []Leaf) {
	d.setLeaves(ev, s, p, leaves)
}

// RemoveSeen is Remove for an author who has not seen everything.
func (d *Document) RemoveSeen(ev Event, s *Sight, p PathKey) bool { return d.remove(ev, s, p) }

// IncrementSeen is Increment for an author who has not seen everything. It adds to the part of the counter that the event's writer has
// accumulated, seen or not. The client is the author of the sum if all of it is the client's own, else the writer.
func (d *Document) IncrementSeen(ev Event, s *Sight, p PathKey, n int64) error {
	f := d.touch(p)
	entry := Entry{ev.Dot, ev.Stamp, ev.Author, CounterValue(n)}
	for _, e := range f.Cell.Live {
		switch own := e.Dot.Replica == ev.Dot.Replica; {
		case e.Value.Kind() == Counter && own:
			sum, err := addCounter(e.Value, n)
			if err != nil {
				return err
			}
			entry.Value, entry.Stamp = sum, min(max(e.Stamp, ev.Stamp), ev.Dot.Time)
			if e.Author != ev.Author {
				entry.Author = ev.Dot.Replica
			}
		case e.Value.Kind() != Counter && !s.has(ev, p, e):
			s.kept[e.Dot.Replica] = struct{}{}
		}
	}
	f.Cell.Observed = f.Cell.Observed.Clone()
	f.Cell.put(entry)
	return nil
}
