package docstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Reissue gives the transactions of holds sound times: the next ones of clock, which are those of the physical reading now, in
// the order in which they were made. It is the whole of a rebase, or a part of it: the first transactions, in all about limit
// records that they changed, or one transaction. Each hold needs its Next.
//
// The state after each part is a valid one: that of a store whose first held transactions were made under Next, with all that
// they had seen. A crash between two parts leaves the other ones held. Nothing of Next may be sent before the last part is
// durable, so that who restores a backup from between, and asks the peers, learns of all or nothing.
//
// r has to be the newest state. After an error the space is to be loaded again.
func (s *Space) Reissue(r store.Snapshot, b *store.Batch, holds []Hold, clock *hlc.Clock, now hlc.Time, life uint64, limit int) (res Reissued, err error) {
	for _, h := range holds {
		s.unprune(b, h) // before the log is brought up to date
	}
	work, done, err := s.heldRecords(r, holds, limit)
	if err != nil {
		return res, err
	}
	names, err := nameAnew(work, holds, clock, now)
	if err != nil {
		return res, err
	}
	outcomes, err := s.rewrite(r, work, holds, names)
	if err == nil {
		err = checkSize(outcomes)
	}
	if errors.Is(err, crdt.ErrLimit) && limit > 1 {
		*clock = hlc.Clock{}
		clock.Observe(names.before)
		return s.Reissue(r, b, holds, clock, now, life, limit/4)
	}
	if err != nil {
		return res, err
	}
	for _, o := range outcomes {
		o.apply(b)
	}
	for _, w := range work { // also those that damage has left without a cell, or it would never come to an end
		b.Delete(s.memory.logKey(s.number, w.logPosition))
	}
	for former, present := range names.dots {
		s.putRenamed(b, former, present)
	}
	for i, h := range holds {
		s.Claim(b, h.Next, life)
		next := s.owned[h.Next]
		next.Root = h.Root
		s.putOwn(b, h.Next, next)
		if last := names.last[i]; last != 0 {
			s.incorporate(crdt.Dot{Replica: h.Next, Time: last})
		}
		own := s.owned[h.Replica]
		own.Next = h.Next
		s.putOwn(b, h.Replica, own)
		if done {
			s.giveUp(b, h)
		}
	}
	return Reissued{Done: done, Names: names.dots}, nil
}

// AfterReissue returns the ReplicaID to write under once IDs are re-issued under the next ones, and whether it is another than self. If only
// lanes of self are, it is zero, to draw a fresh one: times of a writer must grow, and those lanes would begin anew.
func AfterReissue(self crdt.ReplicaID, next map[crdt.ReplicaID]crdt.ReplicaID) (id crdt.ReplicaID, given bool) {
	if id, given = next[self]; given && self != 0 {
		return id, true
	}
	for r := range next {
		if r.IsLaneOf(self) {
			return 0, true
		}
	}
	return self, false
}

// Reissued tells what a part of a rebase did.
type Reissued struct {
	Done  bool                  // it was the last
	Names map[crdt.Dot]crdt.Dot // the new dot of each transaction of which there was anything left
}

// giveUp takes the dots of a hold, which no document refers to any more, out of the vectors.
func (s *Space) giveUp(b *store.Batch, h Hold) {
	own := s.owned[h.Replica]
	s.prunedBefore(own, h.Next)
	own.Next, own.Pruned = 0, false
	s.putOwn(b, h.Replica, own)
	for _, vv := range []*crdt.VersionVector{&s.vv, &s.horizon} {
		vv.Remove(h.Replica)
		vv.Advance(crdt.Dot{Replica: h.Replica, Time: h.After})
	}
	delete(s.openAt, h.Replica)
	s.risen[h.Replica] = struct{}{}
	s.dirty = true
	if h.After == 0 {
		s.Disown(b, h.Replica)
	}
	s.putRenaming(b, Renaming{Replica: h.Replica, After: h.After, UpTo: h.UpTo, Now: crdt.Dot{Replica: h.Next, Time: s.vv.Get(h.Next)}})
	for _, id := range h.Elsewhere { // known from here on
		s.putRenaming(b, Renaming{Replica: id, After: hlc.Max, UpTo: hlc.Max, Now: crdt.Dot{Replica: id, Time: s.vv.Get(id)}})
	}
}

// heldRecord is a record that a held transaction changed.
type heldRecord struct {
	logPosition
	hold int
}

// heldRecords returns, in the order of their times, the records that the first held transactions changed: of all holds together, so
// that the order among them is kept.
func (s *Space) heldRecords(r store.Snapshot, holds []Hold, limit int) (work []heldRecord, whole bool, err error) {
	whole = true
	cut := hlc.Max
	for i, h := range holds {
		n := 0
		var last hlc.Time
		for k, err := range r.Keys(logPrefix(s.number, h.Replica, h.After+1), after(logPrefix(s.number, h.Replica, h.UpTo))) {
			if err != nil {
				return nil, false, err
			}
			p, err := parseLogKey(k)
			if err != nil {
				return nil, false, err
			}
			if n >= limit && p.dot.Time != last {
				cut, whole = min(cut, last), false
				break
			}
			n++
			last = p.dot.Time
			work = append(work, heldRecord{p, i})
		}
	}
	work = slices.DeleteFunc(work, func(w heldRecord) bool { return w.dot.Time > cut })
	slices.SortStableFunc(work, func(a, b heldRecord) int {
		if a.dot.Time != b.dot.Time {
			if a.dot.Time < b.dot.Time {
				return -1
			}
			return 1
		}
		return a.hold - b.hold
	})
	return work, whole, nil
}

// newNames are the dots that held transactions get.
type newNames struct {
	dots   map[crdt.Dot]crdt.Dot
	last   []hlc.Time // of each hold
	upTo   []hlc.Time // of each hold, the last one that has a name
	before hlc.Time   // what the clock was at
}

func nameAnew(work []heldRecord, holds []Hold, clock *hlc.Clock, now hlc.Time) (newNames, error) {
	n := newNames{
		dots: make(map[crdt.Dot]crdt.Dot), last: make([]hlc.Time, len(holds)), upTo: make([]hlc.Time, len(holds)),
		before: clock.Last(),
	}
	for _, w := range work {
		n.upTo[w.hold] = w.dot.Time
		if _, named := n.dots[w.dot]; named {
			continue
		}
		t, err := clock.Tick(now)
		if err != nil {
			return n, err
		}
		n.dots[w.dot] = crdt.Dot{Replica: holds[w.hold].Next, Time: t}
		n.last[w.hold] = t
	}
	return n, nil
}

func (s *Space) rewrite(r store.Snapshot, work []heldRecord, holds []Hold, names newNames) ([]*outcome, error) {
	docs := make(map[string]*openDoc)
	for _, w := range work {
		d := docs[w.key]
		if d == nil {
			var err error
			if d, err = s.open(r, w.key); err != nil {
				return nil, err
			}
			docs[w.key] = d
		}
		if err := d.load(d.partOf(w.start)); err != nil {
			return nil, err
		}
	}
	var outcomes []*outcome
	var missing error
	for _, key := range slices.Sorted(maps.Keys(docs)) {
		d := docs[key]
		for i, h := range holds {
			if names.upTo[i] == 0 {
				continue
			}
			d.doc.Rewrite(func(c crdt.Cell) (crdt.Cell, bool) {
				isBack := slices.ContainsFunc(h.Elsewhere, func(id crdt.ReplicaID) bool { return c.Refers(id, 0, hlc.Max) })
				c, changed := c.Reissue(h.Replica, h.After, names.upTo[i], func(t hlc.Time) crdt.Dot {
					dot := crdt.Dot{Replica: h.Replica, Time: t}
					name, ok := names.dots[dot]
					if !ok {
						missing = fmt.Errorf("%w: document %q names %s, and the log does not", ErrCorrupt, key, dot)
					}
					if isBack { // what it did to this cell is here already
						return crdt.Dot{}
					}
					return name
				})
				if changed {
					c.Prune(s.stable)
				}
				return c, changed
			})
		}
		o, err := d.finish()
		if err != nil {
			return nil, err
		}
		if o != nil {
			outcomes = append(outcomes, o)
		}
	}
	return outcomes, missing
}

// Renaming says what became of the dots of Replica in (After, UpTo]: Now is the last of the ones that took their place.
type Renaming struct {
	Replica     crdt.ReplicaID
	After, UpTo hlc.Time
	Now         crdt.Dot
}

func (s *Space) putRenaming(b *store.Batch, n Renaming) {
	key := binary.BigEndian.AppendUint64(ownKey(kindReissued, s.number, n.Replica), uint64(n.After))
	v := make([]byte, 4, 28)
	for _, x := range []uint64{uint64(n.UpTo), uint64(n.Now.Replica), uint64(n.Now.Time)} {
		v = binary.BigEndian.AppendUint64(v, x)
	}
	b.Put(key, seal(key, v))
	s.renamings = append(slices.Clip(s.renamings), n)
}

func (s *Space) loadRenamings(r store.Snapshot) error {
	return s.scanSealed(r, kindReissued, 5+16, 24, func(key, v []byte) {
		s.renamings = append(s.renamings, Renaming{
			Replica: crdt.ReplicaID(binary.BigEndian.Uint64(key[5:])),
			After:   hlc.Time(binary.BigEndian.Uint64(key[13:])),
			UpTo:    hlc.Time(binary.BigEndian.Uint64(v)),
			Now:     crdt.Dot{Replica: crdt.ReplicaID(binary.BigEndian.Uint64(v[8:])), Time: hlc.Time(binary.BigEndian.Uint64(v[16:]))},
		})
	})
}

// Renamings returns what became of dots that this store once gave and has re-issued. The slice is never changed.
func (s *Space) Renamings() Renamings { return s.renamings }

// Renamings is a list of them.
type Renamings []Renaming

// Present returns the dot that a transaction has now. Of one that was re-issued it is that of the last one re-issued with it: who
// holds that holds them all.
func (all Renamings) Present(d crdt.Dot) crdt.Dot {
	for range len(all) { // each follows at most one step of a chain
		i := slices.IndexFunc(all, func(n Renaming) bool {
			return n.Replica == d.Replica && d.Time > n.After && d.Time <= n.UpTo
		})
		if i < 0 {
			break
		}
		d = all[i].Now
	}
	return d
}

// isGivenUp reports whether d was re-issued, and nothing is known of anybody who has it. Only a record that a fault of the store brought back
// from before that names such a dot. The space would be open at it for ever.
func (s *Space) isGivenUp(d crdt.Dot) bool { return s.renamings.Present(d) != d && !s.vv.Covers(d) }

// present returns cells that come to c joined, but for dots that were given up: these have their present names, or are gone if those are not kept
// any more. They come in cells of their own, for c may have got what they are called now from a peer meanwhile.
func (s *Space) present(r Reader, c crdt.Cell) (cells []crdt.Cell, err error) {
	for _, n := range s.renamings {
		part := crdt.Cell{Observed: crdt.NewVersionVector(crdt.Dot{Replica: n.Replica, Time: c.Observed.Get(n.Replica)})}
		for _, e := range c.Live {
			if e.Dot.Replica == n.Replica {
				part.Live = append(part.Live, e)
			}
		}
		after := max(n.After, s.vv.Get(n.Replica))
		rest, found := c.Reissue(n.Replica, after, n.UpTo, func(hlc.Time) crdt.Dot { return crdt.Dot{} })
		if !found {
			continue
		}
		part, _ = part.Reissue(n.Replica, after, n.UpTo, func(t hlc.Time) (dot crdt.Dot) {
			now, failed := s.PresentDot(r, crdt.Dot{Replica: n.Replica, Time: t})
			switch {
			case failed == nil:
				return now
			case !errors.Is(failed, ErrCorrupt):
				err = failed
			}
			return crdt.Dot{}
		})
		if err != nil {
			return nil, err
		}
		c, cells = rest, append(cells, part)
	}
	return append(cells, c), nil
}
