package replicatest

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// someForgetting lets, now and then, a replica raise its stable vector or prune a little.
func (s *simulation) someForgetting() {
	if !s.plan.forgets && !s.plan.rejoins || s.forget.Float64() >= 0.08 {
		return
	}
	n := s.nodes[s.forget.IntN(len(s.nodes))]
	if n.isDown {
		return
	}
	r := n.replicas[s.forget.IntN(len(n.replicas))]
	switch d := s.forget.IntN(20); {
	case d < 5:
		r.raiseStable(s.someStable(r))
	case d < 10:
		r.tellMembers(s.forget.IntN(3) > 0)
	case d < 11:
		r.evict()
	case d < 13 && !n.isSuspect():
		s.transactWith(r, func(w *write) { w.delete(s.forget.IntN(2) == 0) })
	default:
		r.prune(1 + s.forget.IntN(12))
	}
}

// someStable returns what stable may rise to: what members are thought to have, or, where replicas can be brought up by a snapshot,
// anything at all.
func (s *simulation) someStable(r *replica) crdt.VersionVector {
	switch {
	case !s.plan.rejoins:
		return s.below(r.stableByMembers().Meet(s.heldByAll(r.space)))
	case s.forget.IntN(2) == 0:
		return r.stableByMembers()
	}
	return s.anyStable(r)
}

// delete deletes a document, or all of them.
func (w *write) delete(all bool) {
	keys := slices.Sorted(maps.Keys(w.sim.oracles[w.r.space].docs))
	if !all && len(keys) > 0 {
		keys = keys[w.sim.forget.IntN(len(keys)):][:1]
	}
	for _, key := range keys {
		if w.sim.hurt[w.r.space][key] {
			continue
		}
		w.draft.remove(key, "")
		if err := w.tx.Remove(key, ""); w.err == nil {
			w.err = err
		}
	}
}

// heldByAll returns what every node has on its disk.
func (s *simulation) heldByAll(space int) crdt.VersionVector {
	all := s.onDisk(s.nodes[0].replicas[space])
	for _, n := range s.nodes[1:] {
		all = all.Meet(s.onDisk(n.replicas[space]))
	}
	return all
}

// below returns some vector at or below vv, as members' vectors are that gossip is late with.
func (s *simulation) below(vv crdt.VersionVector) crdt.VersionVector {
	if s.forget.IntN(2) == 0 {
		return vv
	}
	var some crdt.VersionVector
	for d := range vv.All() {
		switch s.forget.IntN(3) {
		case 0:
		case 1:
			d.Time -= hlc.Time(s.forget.IntN(1000) << hlc.LogicalBits)
			fallthrough
		default:
			some.Advance(d)
		}
	}
	return some
}

func (r *replica) raiseStable(to crdt.VersionVector) {
	s := r.node.sim
	if !r.state.RaiseStable(to) {
		return
	}
	s.counts[StableRaised]++
	s.tracef("node %d: stable is %s", r.node.index, r.state.Stable())
	r.node.group.parts[r.space].touched = true
	r.checkVectors()
}

// prune runs one step, and checks that nothing changed for a reader.
func (r *replica) prune(limit int) docstore.Pruned {
	s, n := r.node.sim, r.node
	over := n.overlay()
	defer over.Snapshot.Close()
	digest, documents, arrival := r.state.Digest(), r.state.Documents(), r.state.Arrival()
	p, err := r.state.Prune(over, limit)
	if errors.Is(err, docstore.ErrCorrupt) && s.isHurt() {
		return docstore.Pruned{}
	}
	if err != nil {
		s.failf("node %d: prune: %v", n.index, err)
		return p
	}
	if p.LogKeys > 0 {
		s.tracef("node %d: pruned %+v", n.index, p)
	}
	s.counts[LogKeysPruned] += int64(p.LogKeys)
	s.counts[RecordsPruned] += int64(p.Records)
	s.counts[DocumentsPruned] += int64(p.Documents)
	if r.state.Digest() != digest || r.state.Documents() != documents || r.state.Arrival() != arrival {
		s.failf("node %d: pruning changed the digest, the count of documents or the feed", n.index)
	}
	for key := range s.oracles[r.space].docs {
		r.checkDocument(over, key)
	}
	return p
}

// deleteAll deletes all documents, so that nothing may be left in the end.
func (s *simulation) deleteAll() {
	for space := range s.oracles {
		if n := s.nodes[s.forget.IntN(len(s.nodes))]; !n.isSuspect() {
			s.transactWith(n.replicas[space], func(w *write) { w.delete(true) })
		}
	}
}

// forgetAll lets all replicas, which are level, tell each other of all members, prune everything, and checks that no trace is left of
// what is removed.
func (s *simulation) forgetAll() {
	for round := 0; s.failure == nil && round < 2*len(s.nodes); round++ {
		for _, n := range s.nodes {
			for _, r := range n.replicas {
				r.tellMembers(true)
			}
		}
		for s.failure == nil && s.drain() {
		}
	}
	for _, n := range s.nodes {
		for _, r := range n.replicas {
			s.forgetWhole(r)
		}
	}
}

func (s *simulation) forgetWhole(r *replica) {
	n := r.node
	stable := r.stableByMembers()
	whole := r.state.IsClosed() && len(s.nodes) == s.plan.nodes // else what refers to writes that are lost for good stays
	if whole && !stable.Equal(r.state.VV()) {
		s.failf("node %d: all are level at %s, and by what it knows of members stable is %s", n.index, r.state.VV(), stable)
		return
	}
	r.raiseStable(stable)
	for s.failure == nil && r.prune(1+s.forget.IntN(50)).More {
		n.seal()
		n.persist()
	}
	n.seal()
	n.persist()
	if whole {
		s.checkForgotten(r)
	}
}

// checkForgotten: no context, no log key and no deleted document is left.
func (s *simulation) checkForgotten(r *replica) {
	snap, err := r.node.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return
	}
	defer snap.Close()
	for doc, err := range docstore.Scan(snap, spaceNumber(r.space), docstore.Range{}) {
		if err != nil {
			s.failf("node %d: %v", r.node.index, err)
			return
		}
		if !doc.Document.IsLive() {
			s.failf("node %d: document %q was deleted, and is still there", r.node.index, doc.Key)
		}
		for f := range doc.Document.Fields() {
			if f.Cell.Observed.Len() > 0 || len(f.Cell.Live) == 0 {
				s.failf("node %d: document %q at %s still has its context: %v", r.node.index, doc.Key, f.Path, f.Cell)
			}
		}
	}
	report, err := docstore.Verify(context.Background(), snap, spaceNumber(r.space), docstore.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 || report.LogEntries > 0 || report.FeedEntries != report.Live || report.Documents != report.Live {
		s.failf("node %d: after forgetting everything: %+v, %v", r.node.index, report, err)
	}
}
