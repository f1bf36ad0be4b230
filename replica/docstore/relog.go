package docstore

import (
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// relogBatch is about how many keys one commit of Relog writes.
const relogBatch = 4096

// Relog prepares a rebase of what is stable already. That happens to a node that is alone with a clock that is ahead: what it
// writes is stable at once, and pruning takes the log keys away by which held transactions are found. Relog puts them back, of the
// holds that are Pruned, reading the whole space once. A crash leaves keys that Prune takes away again.
func (s *Space) Relog(r store.Snapshot, holds []Hold, commit func(*store.Batch) error) error {
	if !slices.ContainsFunc(holds, func(h Hold) bool { return h.Pruned }) {
		return nil
	}
	b := new(store.Batch)
	prefix := documentKey(s.number, "")
	for k, err := range r.Keys(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("read the documents of space %d: %w", s.number, err)
		}
		d, err := s.open(r, string(k[len(prefix):]))
		if err == nil {
			err = d.loadAll()
		}
		if err != nil {
			return err
		}
		for _, p := range d.parts {
			for _, dot := range p.dots {
				if slices.ContainsFunc(holds, func(h Hold) bool { return h.Pruned && h.covers(dot) }) {
					b.Put(logPosition{dot, d.key, p.start}.pack(s.number), nil)
				}
			}
		}
		if b.Len() >= relogBatch {
			if err := commit(b); err != nil {
				return err
			}
			b = new(store.Batch)
		}
	}
	return commit(b)
}

func (h *Hold) covers(d crdt.Dot) bool {
	return d.Replica == h.Replica && d.Time > h.After && d.Time <= h.UpTo
}

// unprune takes back that what is to be re-issued is stable.
func (s *Space) unprune(b *store.Batch, h Hold) {
	if s.stable.Get(h.Replica) <= h.After {
		return
	}
	own := s.owned[h.Replica]
	own.Pruned = true
	s.putOwn(b, h.Replica, own)
	s.stable.Remove(h.Replica)
	s.stable.Advance(crdt.Dot{Replica: h.Replica, Time: h.After})
	s.risen[h.Replica], s.dirty = struct{}{}, true
	delete(s.prune.done, h.Replica)
}

// prunedBefore makes stable what was so under its former name, or may have been: a peer that lacks it is not told of the removals in it
// that were pruned, and has to be served by a snapshot as before.
func (s *Space) prunedBefore(own Own, next crdt.ReplicaID) {
	if own.Pruned {
		s.advanceStable(crdt.Dot{Replica: next, Time: s.vv.Get(next)})
	}
}
