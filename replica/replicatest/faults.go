package replicatest

import (
	"errors"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

var errDiskFailed = errors.New("disk failed on purpose")

// backup is a copy of a node's store, with the oracle's account of what it includes.
type backup struct {
	store  *memstore.Store
	disk   []knowledge
	isHurt bool // something was damaged and not repaired yet, perhaps here
}

// fault does one of the things that go wrong with a node.
func (s *simulation) fault() {
	n := s.someNode()
	if f := s.nodes[s.plan.fragile]; s.plan.restores == restoredBadly && !f.isDown && !f.isAbsent && s.chance(0.6) {
		switch {
		case f.self == 0 && len(f.poisoned) > 0 && s.plan.crashes:
			s.crash(f) // it must not forget its doubt
		case s.chance(0.3):
			f.takeBackup()
		default:
			s.restore(f)
		}
		return
	}
	switch d := s.rng.IntN(10); {
	case n.isDown:
		s.reopen(n)
	case n.isAbsent:
		s.counts[LateJoins]++
		n.isAbsent = false
		s.welcome(n)
	case d < 2:
		if s.plan.crashes {
			s.crash(n)
		}
	case d < 4:
		if s.plan.crashes {
			s.failCommit(n)
		}
	case d < 5:
		n.takeBackup()
	case d < 7:
		s.restore(n)
	default:
		if s.plan.clocks {
			s.setClock(n)
		}
	}
}

// toggleLink breaks or makes a connection.
func (s *simulation) toggleLink() {
	l := s.links[s.rng.IntN(len(s.links))]
	if l.isUp {
		if s.chance(0.2) {
			s.cut(l)
		}
		return
	}
	a, b := l.nodes[0], l.nodes[1]
	if a.isDown || b.isDown || a.isAbsent || b.isAbsent || s.side[a.index] != s.side[b.index] {
		return
	}
	s.counts[LinksUp]++
	s.tracef("nodes %d and %d connect", a.index, b.index)
	l.connect()
}

func (s *simulation) cut(l *link) {
	if !l.isUp {
		return
	}
	s.tracef("nodes %d and %d are cut off", l.nodes[0].index, l.nodes[1].index)
	if l.cut() > 0 {
		s.counts[BrokenWithFrames]++
	} else {
		s.counts[LinksBroken]++
	}
}

// partition splits the nodes into two sides, or ends that.
func (s *simulation) partition() {
	split := false
	for _, side := range s.side {
		split = split || side != s.side[0]
	}
	if split {
		s.counts[PartitionsHealed]++
		s.healPartition()
		return
	}
	if s.chance(0.8) {
		return
	}
	for i := range s.side {
		s.side[i] = s.rng.IntN(2)
	}
	s.counts[Partitions]++
	for _, l := range s.links {
		if s.side[l.nodes[0].index] != s.side[l.nodes[1].index] {
			s.cut(l)
		}
	}
}

func (s *simulation) healPartition() {
	for i := range s.side {
		s.side[i] = 0
	}
}

// rememberedDeltas bounds the deltas kept to turn up late.
const rememberedDeltas = 64

// remember keeps a delta that was sent, to turn up again at some time.
func (s *simulation) remember(space int, d *protocol.Delta) {
	if len(s.past[space]) < rememberedDeltas {
		s.past[space] = append(s.past[space], d)
		return
	}
	s.past[space][s.rng.IntN(rememberedDeltas)] = d
}

// staleDelta lets a node receive a delta that was sent to somebody at some time.
func (s *simulation) staleDelta() {
	n := s.someNode()
	space := s.rng.IntN(s.plan.spaces)
	past := s.past[space]
	if f := s.nodes[s.plan.fragile]; f.isSuspect() {
		n = f // its own writes may be among them
		past = slices.DeleteFunc(slices.Clone(past), func(d *protocol.Delta) bool { return d.Origin != f.self })
	}
	if n.isDown || len(past) == 0 || s.plan.holds { // no frame outlives the session in which it is known to whom it was sent
		return
	}
	d := past[s.rng.IntN(len(past))]
	s.counts[StaleDeltas]++
	s.tracef("node %d: stale %s", n.index, describe(d))
	m, err := n.replicas[space].merge(d)
	s.noteMerge(n, m, err)
	if m.Foreign && err == nil {
		s.counts[LossProvenByDelta]++
		n.doubtIdentity()
	}
}

func (s *simulation) retryHeld() {
	if e := s.someEnd(); e != nil && len(e.session.Held()) > 0 {
		s.counts[HeldRetried]++
		e.session.RetryHeld()
	}
}

func (s *simulation) compareDigests() {
	if e := s.someEnd(); e != nil {
		e.session.CompareDigests()
	}
}

// crash stops a node: either what is in memory and on its way to the disk is lost, or it is durable and nobody was
// told.
func (s *simulation) crash(n *node) {
	if n.inFlight != nil && s.chance(0.5) {
		s.counts[CrashesAfterPersist]++
		s.tracef("node %d: crash after persist", n.index)
		n.commit()
	} else if n.inFlight != nil || !n.group.isEmpty() {
		s.counts[CrashesBeforePersist]++
		s.tracef("node %d: crash before persist", n.index)
	}
	s.stop(n)
}

// stop ends a node without letting it finish anything.
func (s *simulation) stop(n *node) {
	for _, l := range s.links {
		if l.nodes[0] == n || l.nodes[1] == n {
			s.cut(l)
		}
	}
	for _, g := range []*group{n.group, n.inFlight} {
		if g == nil {
			continue
		}
		g.isLost = true
		for i, t := range g.txs {
			g.oracle[i].vanish(t)
		}
	}
	n.group, n.inFlight = newGroup(len(n.replicas)), nil
	n.isDown = true
	n.store = n.store.Clone()
}

// failCommit lets the commit under way fail. What was built upon it goes, too, and so do the sessions: peers think
// that they have sent what is now lost.
func (s *simulation) failCommit(n *node) {
	if n.inFlight == nil {
		return
	}
	s.counts[CommitsFailed]++
	s.tracef("node %d: a commit fails", n.index)
	n.store.FailCommits(errDiskFailed)
	n.commit()
	n.store.FailCommits(nil)
	s.stop(n)
	s.reopen(n)
}

// reopen starts a node again, sometimes after a restart of its machine, which makes the old ReplicaID unusable.
func (s *simulation) reopen(n *node) {
	if s.chance(0.4) {
		n.anchor++
		s.counts[ReopenedFreshID]++
	} else {
		s.counts[ReopenedSameID]++
	}
	n.open()
	s.tracef("node %d: opened as %s", n.index, n.self)
}

// takeBackup copies the store of a node.
func (n *node) takeBackup() {
	b := &backup{store: n.store.Clone(), isHurt: n.sim.isHurt()}
	for _, r := range n.replicas {
		b.disk = append(b.disk, append(knowledge(nil), r.disk...))
	}
	if len(n.backups) < 4 {
		n.backups = append(n.backups, b)
	} else {
		n.backups[n.sim.rng.IntN(4)] = b
	}
}

// restore puts an old backup in the place of a node's store.
func (s *simulation) restore(n *node) {
	if len(n.backups) == 0 || s.plan.restores == neverRestored {
		return
	}
	b := n.backups[s.rng.IntN(len(n.backups))]
	if s.hasReissued(b) { // TestBackupFromBeforeARebase does that
		return
	}
	badly := s.plan.restores == restoredBadly
	if badly && !s.canRestoreBadly(n, b) {
		return
	}
	before := make([]crdt.VersionVector, len(n.replicas))
	for i, r := range n.replicas {
		before[i] = s.onDisk(r)
	}
	s.stop(n)
	n.lives++
	n.store = b.store.Clone()
	s.kept = slices.DeleteFunc(s.kept, func(k keptRecord) bool { return k.replica.node == n })
	s.isMended = s.isMended && !b.isHurt
	for i, r := range n.replicas {
		r.disk = append(knowledge(nil), b.disk[i]...)
		s.noteLost(r, before[i])
	}
	if badly {
		s.counts[RestoredSameID]++
		n.poisoned[s.identityIn(b)] = true
	} else {
		s.counts[BackupsRestored]++
		n.anchor += 1 << 8
	}
	n.open()
	s.tracef("node %d: backup restored, as %s", n.index, n.self)
}

// identityIn returns the ReplicaID that a backup was made under.
func (s *simulation) identityIn(b *backup) crdt.ReplicaID {
	snap, err := b.store.Snapshot()
	if err != nil {
		s.failf("backup: %v", err)
		return 0
	}
	defer snap.Close()
	id, err := docstore.LoadIdentity(snap)
	if err != nil {
		s.failf("backup: %v", err)
	}
	return id.Replica
}

// canRestoreBadly: the backup's ReplicaID would be taken for good, and some peer can prove that it is not.
func (s *simulation) canRestoreBadly(n *node, b *backup) bool {
	id := s.identityIn(b)
	if n.index != s.plan.fragile || id == 0 || id != n.self {
		return false
	}
	for _, r := range n.replicas {
		had := (&replica{node: &node{store: b.store}, space: r.space})
		for _, m := range s.nodes {
			if m != n && s.onDisk(m.replicas[r.space]).Get(id) > s.onDisk(had).Get(id) {
				return true
			}
		}
	}
	return false
}

// noteLost finds the transactions that a replica had and now lacks, and nobody else has.
func (s *simulation) noteLost(r *replica, before crdt.VersionVector) {
	after := s.onDisk(r)
	for _, t := range s.oracles[r.space].txs {
		if t.status != durable || !before.Covers(t.dot) || after.Covers(t.dot) {
			continue
		}
		elsewhere := false
		for _, m := range s.nodes {
			elsewhere = elsewhere || m != r.node && s.onDisk(m.replicas[r.space]).Covers(t.dot)
		}
		if !elsewhere {
			s.counts[WritesLost]++
			s.lost[t] = true
		} else if t.node == r.node.index {
			s.counts[WritesRegained]++ // checkQuiet makes sure of it
		}
		t.rolledBack = t.rolledBack || t.node == r.node.index
	}
}

// setClock sets the physical clock of a node forward, backward or right.
func (s *simulation) setClock(n *node) {
	switch s.rng.IntN(5) {
	case 0:
		s.counts[ClockForward]++
		n.skew = int64(s.rng.IntN(600_000))
	case 1:
		s.counts[ClockForward]++
		n.skew = int64(s.rng.IntN(50_000))
	case 2:
		s.counts[ClockBackward]++
		n.skew = -int64(s.rng.IntN(600_000))
	default:
		n.skew = 0
	}
	s.tracef("node %d: clock is %d ms ahead", n.index, n.skew)
}
