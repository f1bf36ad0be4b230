package replicatest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// repairPlan is what a seed chooses of repairs, and of what makes them needed.
type repairPlan struct {
	repairs bool // begun at any moment, needed or not
	damage  bool // records change behind the back of their replica
	doom    int  // the step at which the last node vanishes for good; -1 for never
}

// drawRepairs comes after the rest of the plan.
func (s *simulation) drawRepairs(p *plan) {
	s.mend = s.draws("repair")
	p.repair = repairPlan{repairs: s.mend.IntN(2) == 0, damage: s.mend.IntN(5) == 0, doom: -1}
	if p.late == 0 && p.nodes > 2 && p.restores != restoredBadly && s.mend.IntN(3) == 0 { // who could prove a bad restore must not be lost
		p.repair.doom = s.mend.IntN(p.steps)
		p.fragile %= p.nodes - 1
	}
}

// someRepair begins a repair, damages something, or lets a node vanish, now and then.
func (s *simulation) someRepair(step int) {
	p := &s.plan.repair
	if p.repairs && s.mend.IntN(40) == 0 {
		if e := s.pick(); e != nil {
			s.startRepair(e)
		}
	}
	if p.damage && s.mend.IntN(60) == 0 {
		s.damage()
	}
	if step == p.doom && s.isRebasing() { // it would wait for ever for the word of the one that is gone
		p.doom++
	}
	if step == p.doom {
		s.vanish()
	}
}

// errHeld ends a repair with a peer that may not be told all that is here.
var errHeld = errors.New("writes are held back")

// pick is someEnd by the repairs' own random numbers.
func (s *simulation) pick() *end {
	var ends []*end
	for _, l := range s.links {
		for _, e := range l.ends {
			if !e.broken {
				ends = append(ends, e)
			}
		}
	}
	if len(ends) == 0 {
		return nil
	}
	return ends[s.mend.IntN(len(ends))]
}

func (s *simulation) startRepair(e *end) {
	s.counts[RepairsBegun]++
	s.tracef("node %d begins a repair with node %d", e.replica.node.index, e.peer.replica.node.index)
	e.session.StartRepair(s.mend.Uint64())
}

// compared begins a repair as package replica does: not at once, if it has just tried one, so that those of several nodes do not go
// in step.
func (s *simulation) compared(e *end, step protocol.Step) {
	first := e.replica.node.index < e.peer.replica.node.index
	switch {
	case step.Compared == protocol.Mismatch && len(s.hurt[e.replica.space]) == 0:
		s.failf("node %d: closed replicas with equal vectors have different digests", e.replica.node.index)
	case step.Compared == protocol.Mismatch:
		s.counts[Mismatches]++
		if first && s.mend.IntN(3) > 0 {
			s.startRepair(e)
		}
	case step.Lasting && first:
		s.counts[LastingDifferences]++
		s.startRepair(e)
	}
}

// doRepairJob does one piece of a repair, and reports whether there was any.
func (s *simulation) doRepairJob(e *end) bool {
	if e.broken {
		return false
	}
	for _, o := range e.session.RepairEnded() {
		s.tracef("node %d: repair with node %d: %+v", e.replica.node.index, e.peer.replica.node.index, o)
		switch {
		case o.Err != nil:
			s.counts[RepairsGivenUp]++
		default:
			s.counts[RepairsDone]++
		}
	}
	job := e.session.RepairJob()
	if job == nil {
		return false
	}
	r := e.replica
	if s.plan.holds && !(guard{source{e}}).isFree() {
		r.note(e.peer.replica.node.peer, s.limitFor(r.node))
		e.session.RepairDone(job, protocol.RepairResult{Err: errHeld})
		return true
	}
	snap, err := r.node.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return false
	}
	defer snap.Close()
	res := docstore.RepairJob(context.Background(), snap, spaceNumber(r.space), job)
	if res.Err != nil {
		s.failf("node %d: repair: %v", r.node.index, res.Err)
	}
	theirs := job.Theirs
	switch {
	case r.durable.Rejoining:
		res.Err = docstore.ErrRejoining
	case !r.durable.Stable.LessOrEqual(theirs):
		res.Err = docstore.ErrBelowStable
	}
	if res.Cells != nil {
		s.loadCells(r, res.Cells)
	}
	if job.Merge != nil && res.Err == nil {
		res.Changed, res.Err = r.join(job.Merge, theirs)
		s.counts[DocumentsRepaired] += int64(res.Changed)
	}
	if err := res.Err; err != nil && !errors.Is(err, docstore.ErrBelowStable) && !errors.Is(err, docstore.ErrRejoining) && !errors.As(err, new(*hlc.DriftError)) {
		s.failf("node %d: repair: %v", r.node.index, err)
	}
	e.session.RepairDone(job, res)
	return true
}

// loadCells notes what the cells of a repair carry, by the oracle's account.
func (s *simulation) loadCells(r *replica, m *protocol.RangeCells) {
	o := s.oracles[r.space]
	var carried []known
	for _, doc := range m.Documents {
		fields, err := codec.ParseCells(doc.Cells)
		if err != nil {
			s.failf("node %d: cells of %q: %v", r.node.index, doc.Key, err)
			return
		}
		for _, f := range fields {
			if id, ok := o.cellIDs[cellName{doc.Key, f.Path}]; ok {
				carried = append(carried, known{id, r.disk.of(id).carried()})
			} else if !s.hurt[r.space][doc.Key] {
				s.failf("node %d: a repair names a cell that nobody wrote: %q %q", r.node.index, doc.Key, f.Path)
			}
		}
	}
	s.cells[m] = cargo{cells: carried}
}

// join merges the cells of a peer.
func (r *replica) join(m *protocol.RangeCells, theirs crdt.VersionVector) (changed int, err error) {
	n, s := r.node, r.node.sim
	over := n.overlay()
	defer over.Snapshot.Close()
	var j docstore.JoinedCells
	for {
		if j, err = r.state.JoinCells(over, n.group.batch, m, theirs, n.self, n.checkClock); err != nil {
			return changed, err
		}
		if changed += j.Changed; !j.Partial {
			break
		}
		s.counts[PartialMerges]++
	}
	if j.Foreign {
		s.counts[LossProvenByDelta]++
		n.doubtIdentity()
	}
	n.clock.Observe(j.Max)
	for own := range j.Own.All() {
		r.exposure.Named(own)
	}
	s.tracef("node %d: merged cells of %d documents, %d changed", n.index, len(m.Documents), changed)
	r.learn(&n.group.parts[r.space], s.cells[m].cells)
	for _, doc := range m.Documents {
		r.checkDocument(over, doc.Key)
	}
	r.checkVectors()
	if len(j.Damaged) > 0 {
		r.rebuild(j.Damaged)
	}
	return changed, nil
}

// exclusively lets fn change the store when nothing else is under way.
func (r *replica) exclusively(fn func(snap store.Snapshot) error) {
	n, s := r.node, r.node.sim
	for n.seal() || n.persist() {
	}
	snap, err := n.store.Snapshot()
	if err == nil {
		err = fn(snap)
		snap.Close()
	}
	if err == nil {
		if snap, err = n.store.Snapshot(); err == nil {
			r.state, err = r.state.Reload(snap)
			snap.Close()
		}
	}
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return
	}
	r.durable = r.snapshotState()
	for _, e := range s.endsOf(r) {
		e.session.Advance(r.durable.State, nil)
	}
}

// rebuild makes documents anew that cannot be read.
func (r *replica) rebuild(docs []crdt.DocumentDelta) {
	s := r.node.sim
	for _, d := range docs {
		if !s.hurt[r.space][d.Key] {
			s.failf("node %d: document %q cannot be read, and nobody damaged it", r.node.index, d.Key)
		}
		s.counts[DocumentsRebuilt]++
		s.tracef("node %d: document %q is made anew", r.node.index, d.Key)
	}
	r.exclusively(func(snap store.Snapshot) error { return r.state.Rebuild(snap, r.node.store.Commit, docs) })
}

// mendBroken makes anew what cannot be read, and reports whether there was anything.
func (r *replica) mendBroken() bool {
	var broken []crdt.DocumentDelta
	r.exclusively(func(snap store.Snapshot) (err error) {
		broken, err = docstore.Broken(context.Background(), snap, spaceNumber(r.space))
		return err
	})
	if len(broken) > 0 && r.node.sim.failure == nil {
		r.rebuild(broken)
		return true
	}
	return false
}

// unreadable turns the error of a delta into what a session goes on after, if it comes of damage.
func (r *replica) unreadable(err error) error {
	if errors.Is(err, docstore.ErrCorrupt) && len(r.node.sim.hurt[r.space]) > 0 {
		r.node.sim.counts[OriginsUnreadable]++
		return protocol.ErrUnreadable
	}
	return err
}

// damage changes a record on the disk of a node, which does not notice: it is gone, or a byte of it is another, or it is what it
// was some time ago.
func (s *simulation) damage() {
	n := s.nodes[s.mend.IntN(len(s.nodes))]
	if n.isDown || n.isAbsent {
		return
	}
	r := n.replicas[s.mend.IntN(len(n.replicas))]
	snap, err := n.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return
	}
	defer snap.Close()
	var records []store.Entry
	for e, err := range snap.Scan(nil, nil) {
		if err != nil {
			s.failf("node %d: %v", n.index, err)
			return
		}
		if _, ok := documentOf(e.Key, r.space); ok {
			records = append(records, store.Entry{Key: bytes.Clone(e.Key), Value: bytes.Clone(e.Value)})
		}
	}
	if len(records) == 0 {
		return
	}
	e := records[s.mend.IntN(len(records))]
	b := new(store.Batch)
	switch s.mend.IntN(4) {
	case 0:
		b.Delete(e.Key)
	case 1:
		e.Value[s.mend.IntN(len(e.Value))] ^= 1 << s.mend.IntN(8)
		b.Put(e.Key, e.Value)
	default:
		i := slices.IndexFunc(s.kept, func(k keptRecord) bool {
			return k.replica == r && k.rebases == s.rebases && !slices.ContainsFunc(records, func(e store.Entry) bool { return bytes.Equal(e.Key, k.Key) && bytes.Equal(e.Value, k.Value) })
		})
		if i < 0 {
			s.kept = append(s.kept, keptRecord{r, e, s.rebases})
			return
		}
		e = s.kept[i].Entry
		s.kept = slices.Delete(s.kept, i, i+1)
		b.Put(e.Key, e.Value)
	}
	key, _ := documentOf(e.Key, r.space)
	s.counts[RecordsDamaged]++
	s.tracef("node %d: %q, a record of document %q, is damaged", n.index, e.Key, key)
	s.hurt[r.space][key] = true
	s.isMended = false
	if err := n.store.Commit(b); err != nil {
		s.failf("node %d: %v", n.index, err)
	}
}

// keptRecord is a record as it was at some time of this life of the store. Like a backup, it is not put back once writes have been re-issued: it
// names dots that were given up. The node mends that (TestRecordFromBeforeARebaseIsBroughtUpToDate), but not once it has told a peer.
type keptRecord struct {
	replica *replica
	store.Entry
	rebases int // begun by then
}

// documentOf returns the document that a key of the store belongs to; false if it holds none of one. See docs/store-format.md.
func documentOf(key []byte, space int) (string, bool) {
	if len(key) < 8 || binary.BigEndian.Uint32(key[1:]) != spaceNumber(space) {
		return "", false
	}
	switch key[0] {
	case 'd', 'i':
		return string(key[5:]), true
	case 'c', 'g', 'j':
		n := int(binary.BigEndian.Uint16(key[5:]))
		return string(key[7 : 7+n]), true
	}
	return "", false
}

// isRebasing reports whether a node has begun to re-issue writes, and not ended, as its store has it: one that is down may have been about to end.
func (s *simulation) isRebasing() bool {
	for _, n := range s.nodes {
		for _, r := range n.replicas {
			for _, own := range s.stored(r).Owned() {
				if own.Next != 0 {
					return true
				}
			}
		}
	}
	return false
}

// vanish lets the last node be lost for good, with what only it had.
func (s *simulation) vanish() {
	n := s.nodes[len(s.nodes)-1]
	s.counts[NodesVanished]++
	s.tracef("node %d vanishes for good", n.index)
	if !n.isDown {
		s.stop(n)
	}
	s.nodes = s.nodes[:len(s.nodes)-1]
	for _, c := range s.clients {
		if c.home == n {
			s.drawing(s.client, func() { s.move(c) })
		}
	}
	s.links = slices.DeleteFunc(s.links, func(l *link) bool { return l.nodes[0] == n || l.nodes[1] == n })
	for space, o := range s.oracles {
		had := s.onDisk(n.replicas[space])
		for _, t := range o.txs {
			if t.status == durable && had.Covers(t.dot) && !s.isHeld(space, t) {
				s.counts[WritesLost]++
				s.lost[t] = true
			}
		}
	}
}

func (s *simulation) isHeld(space int, t *tx) bool {
	return slices.ContainsFunc(s.nodes, func(n *node) bool { return s.onDisk(n.replicas[space]).Covers(t.dot) })
}

// rest lets everything happen that happens without a fault, and reports whether there is nothing left.
func (s *simulation) rest() bool {
	// Each round moves something, so very many of them mean that the nodes tell each other things without end.
	for round := 0; s.failure == nil && (s.drain() || s.retryAll() || s.wait() || s.tendAll() || s.letTimeCome()); round++ {
		if round > 20 && s.isHurt() {
			return false // an origin may be unreadable until it is mended
		}
		if round > 300 {
			s.failf("the nodes do not come to rest")
		}
	}
	return true
}

func (s *simulation) isHurt() bool {
	return !s.isMended && slices.ContainsFunc(s.hurt, func(docs map[string]bool) bool { return len(docs) > 0 })
}

// mendAll lets the nodes find out what is damaged and what differs, and repair it, until all are equal.
func (s *simulation) mendAll() {
	for _, n := range s.nodes {
		for _, r := range n.replicas {
			if len(s.hurt[r.space]) > 0 {
				s.scrub(r)
			}
		}
	}
	for _, l := range s.links {
		for _, e := range l.ends {
			e.session.RetryHeld()
		}
	}
	// What comes while the nodes rest comes after they have compared, so they compare until nothing does.
	found := func() int64 {
		return s.counts[Mismatches] + s.counts[LastingDifferences] + s.counts[Merges] + s.counts[Pieces]
	}
	for round := 0; s.failure == nil; round++ {
		before := found()
		atRest := false
		for range 2 {
			for _, l := range s.links {
				for _, e := range l.ends {
					e.session.CompareDigests()
				}
			}
			atRest = s.rest()
		}
		if atRest && found() == before {
			s.isMended = true
			return
		}
		if round == 2*s.plan.nodes {
			s.forgetRemovals()
		}
		if round > 4*s.plan.nodes {
			s.failf("repairs do not make the replicas equal")
		}
	}
}

// forgetRemovals lets stable rise wherever it can. A removal that one node still knows of, and the others have forgotten, takes away for
// ever what these give each other back, if repairs come in that order: what was damaged is there again once all have forgotten it.
func (s *simulation) forgetRemovals() {
	if !s.plan.rejoins && !s.plan.forgets {
		return
	}
	for space := range s.oracles {
		vv := s.nodes[0].replicas[space].state.VV()
		if slices.ContainsFunc(s.nodes, func(n *node) bool { return !n.replicas[space].state.VV().Equal(vv) }) {
			continue
		}
		for _, n := range s.nodes {
			n.replicas[space].raiseStable(n.replicas[space].state.VV())
		}
	}
}

// scrub looks for damage, as package replica does, and repairs it with all peers.
func (s *simulation) scrub(r *replica) {
	snap, err := r.node.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return
	}
	report, err := docstore.Scrub(context.Background(), snap, spaceNumber(r.space), func(int) error { return nil })
	snap.Close()
	if err != nil {
		s.failf("node %d: scrub: %v", r.node.index, err)
		return
	}
	if report.Broken > 0 || report.Off != "" {
		s.counts[DamageFound]++
		s.tracef("node %d: %+v", r.node.index, report)
	}
	for _, e := range s.endsOf(r) {
		s.startRepair(e)
	}
	s.rest()
	r.mendBroken()
	r.exclusively(func(snap store.Snapshot) error {
		_, err := docstore.Verify(context.Background(), snap, spaceNumber(r.space), docstore.VerifyOptions{Repair: r.node.store.Commit})
		return err
	})
	s.rest()
}
