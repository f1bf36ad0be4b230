package replicatest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// node plays the part of package replica for one store: it groups transactions and merged deltas into batches,
// commits them later, and only then tells sessions. What that package does with goroutines and locks, the
// simulation does in steps.
type node struct {
	sim    *simulation
	index  int
	peer   protocol.PeerID
	store  *memstore.Store
	anchor int   // of the undisturbed store
	skew   int64 // milliseconds that the physical clock is ahead of the simulation's

	self     crdt.ReplicaID
	clock    hlc.Clock
	replicas []*replica // by space
	group    *group
	inFlight *group // being committed; nil if none is

	isDown   bool
	isAbsent bool // has not joined yet
	// poisoned are the ReplicaIDs that a backup was restored under: writing under one of them destroys data.
	poisoned map[crdt.ReplicaID]bool
	backups  []*backup

	lives int // of the store: those that ended with a backup restored
}

// replica is one space of a node.
type replica struct {
	node    *node
	space   int
	state   *docstore.Space
	durable durableState
	ever    crdt.VersionVector // everything that was ever durable here, also before a backup was restored
	firm    crdt.VersionVector // the same of what was held whole
	live    []*protocol.Delta  // oldest first
	members *protocol.Roster

	exposure *docstore.Exposure

	now  knowledge // what state includes, by the oracle's account
	disk knowledge // the same of what is durable
}

// durableState is what peers may know of: one moment of the space, on disk.
type durableState struct {
	protocol.State
	horizon crdt.VersionVector
	owned   docstore.Owned

	ownedVersion uint64
}

// group is what one commit makes durable.
type group struct {
	batch  *store.Batch
	parts  []groupPart // by space
	states []durableState
	txs    []*tx
	oracle []*oracle // of each of txs
	isDone bool      // it is durable
	isLost bool      // it never will be
}

type groupPart struct {
	local    []*crdt.Delta
	written  []written // the cells of local, as they were when each was committed
	received []*protocol.Delta
	partial  bool // a part of a delta is in it, the end of which is not
	risen    crdt.VersionVector
	known    []known // what became known, in order
	touched  bool    // something changed that comes into the batch when it is sealed
}

// written is a cell of a local transaction of one ReplicaID.
type written struct {
	origin crdt.ReplicaID
	known
}

func newGroup(spaces int) *group {
	return &group{batch: new(store.Batch), parts: make([]groupPart, spaces)}
}

// isEmpty also looks at what came: a delta whose cells are all known puts nothing into the batch before it is sealed.
func (g *group) isEmpty() bool {
	for i := range g.parts {
		if g.parts[i].risen.Len() > 0 || g.parts[i].partial || g.parts[i].touched {
			return false
		}
	}
	return g.batch.Len() == 0
}

// physical is the reading of the node's clock.
func (n *node) physical() hlc.Time { return hlc.FromUnixMilli(n.sim.millis + n.skew) }

func (n *node) checkClock(t hlc.Time) error { return hlc.Check(t, n.physical(), hlc.DefaultMaxDrift) }

func spaceNumber(space int) uint32 { return uint32(space + 1) }

// open loads everything from the store, as after the start of the process.
func (n *node) open() {
	snap, err := n.store.Snapshot()
	if err != nil {
		n.sim.failf("node %d: open: %v", n.index, err)
		return
	}
	defer snap.Close()
	n.isDown = false
	n.group, n.inFlight = newGroup(len(n.replicas)), nil
	n.clock = hlc.Clock{}
	n.self = 0
	id, err := docstore.LoadIdentity(snap)
	if err == nil && id.Anchor == fmt.Sprint(n.anchor) {
		n.self = id.Replica
	}
	for _, r := range n.replicas {
		if err == nil {
			r.state, err = r.load(snap)
		}
		if err != nil {
			n.sim.failf("node %d: open: %v", n.index, err)
			return
		}
		if err := r.loadMembers(snap); err != nil {
			n.sim.failf("node %d: open: %v", n.index, err)
			return
		}
		n.clock.Observe(r.state.Horizon().Max())
		r.durable = r.snapshotState()
		r.live = nil
		r.exposure = docstore.NewExposure()
		r.now = append(knowledge(nil), r.disk...)
	}
}

// load reads the state that the store has.
func (r *replica) load(snap store.Snapshot) (*docstore.Space, error) {
	state, err := docstore.Load(snap, spaceNumber(r.space))
	if limit := r.node.sim.plan.mergeBytes; err == nil && limit > 0 {
		state.LimitMerges(limit, 1<<20)
	}
	return state, err
}

// snapshotState copies the state for publication.
func (r *replica) snapshotState() durableState {
	return durableState{
		State: protocol.State{
			Self: r.node.self, VV: r.state.VV().Clone(), Stable: r.state.Stable().Clone(),
			Digest: r.state.Digest(), Closed: r.state.IsClosed(), Ahead: r.state.Horizon().Beyond(r.state.VV()), Open: r.state.OpenEntries(),
			Rejoining: r.state.Rejoining() != nil, Large: r.node.sim.plan.walks > 0 && r.state.Documents() >= r.node.sim.plan.walks,
		},
		horizon: r.state.Horizon().Clone(), owned: r.state.Owned(), ownedVersion: r.state.OwnedVersion(),
	}
}

func (d *durableState) firm() crdt.VersionVector { return protocol.Firm(d.VV, d.Open) }

// overlay opens a view of the newest state.
func (n *node) overlay() *docstore.Overlay {
	snap, err := n.store.Snapshot()
	if err != nil {
		n.sim.failf("node %d: %v", n.index, err)
	}
	o := &docstore.Overlay{Batch: n.group.batch, Snapshot: snap}
	if n.inFlight != nil {
		o.InFlight = []*store.Batch{n.inFlight.batch}
	}
	return o
}

// identify draws a ReplicaID if there is none, and puts it into the batch of the first transaction that uses it.
func (n *node) identify() {
	if n.self != 0 {
		return
	}
	for n.self == 0 {
		n.self = crdt.ReplicaID(n.sim.rng.Uint64())
	}
	docstore.PutIdentity(n.group.batch, docstore.Identity{Replica: n.self, Anchor: fmt.Sprint(n.anchor)})
}

// doubtIdentity gives the ReplicaID up: the store went back in time. That is durable no later than the writes that come back,
// for those take the evidence away.
func (n *node) doubtIdentity() {
	if n.self == 0 {
		return
	}
	n.self = 0
	docstore.PutIdentity(n.group.batch, docstore.Identity{Anchor: fmt.Sprint(n.anchor)})
	for _, r := range n.replicas {
		r.state.Doubt(n.group.batch)
	}
}

// life names the present life of the store.
func (n *node) life() uint64 { return uint64(n.anchor) + 1 }

// isSuspect reports whether the node goes by a ReplicaID that it must not use, and has not noticed. It gets no writes
// until then.
func (n *node) isSuspect() bool { return n.poisoned[n.self] }

// merge joins a received delta into the newest state. It does not wait until that is durable.
func (r *replica) merge(d *protocol.Delta) (docstore.Merged, error) {
	n := r.node
	over := n.overlay()
	defer over.Snapshot.Close()
	m, err := r.state.Merge(over, n.group.batch, &d.Delta, n.self, n.checkClock)
	if errors.Is(err, docstore.ErrCorrupt) {
		if r.mendBroken() {
			return r.merge(d)
		}
	}
	if err != nil || !m.New {
		return m, err
	}
	n.clock.Observe(m.Max)
	n.sim.received[d] = m.Max
	for own := range m.Own.All() {
		r.exposure.Named(own)
	}
	part := &n.group.parts[r.space]
	if m.Partial {
		part.partial = true
	} else {
		part.received = append(part.received, d)
		part.risen.Advance(crdt.Dot{Replica: d.Origin, Time: d.To})
	}
	carried := n.sim.carried[d]
	r.learn(part, r.received(carried.cells[:m.Cells], carried.stable))
	for _, doc := range d.Documents {
		r.checkDocument(over, doc.Key)
	}
	r.checkVectors()
	return m, nil
}

// learn brings the oracle's account of what the state includes up to date.
func (r *replica) learn(part *groupPart, news []known) {
	o := r.node.sim.oracles[r.space]
	for _, k := range news {
		if k.meets(o.gone) {
			r.node.sim.failf("node %d: a delta carries a transaction that was lost before it was durable", r.node.index)
		}
		k.inclusion = r.now.of(k.cell).union(k.inclusion)
		r.now.set(k.cell, k.inclusion)
		part.known = append(part.known, k)
	}
}

// seal hands the waiting group to the disk.
func (n *node) seal() bool {
	g := n.group
	if n.inFlight != nil || g.isEmpty() {
		return false
	}
	for _, r := range n.replicas {
		r.state.Flush(g.batch)
		g.states = append(g.states, r.snapshotState())
	}
	if n.sim.chance(0.2) {
		n.storeMembers(g.batch)
	}
	n.inFlight, n.group = g, newGroup(len(n.replicas))
	return true
}

// persist commits the group in flight and makes it known, in this order: persist, send, notify.
func (n *node) persist() bool {
	g := n.inFlight
	if g == nil || !n.commit() {
		return false
	}
	for _, r := range n.replicas {
		r.publish(g.states[r.space], &g.parts[r.space])
	}
	return true
}

// commit makes the group in flight durable and tells nobody.
func (n *node) commit() bool {
	g := n.inFlight
	err := n.store.Commit(g.batch)
	if err != nil {
		if !errors.Is(err, errDiskFailed) {
			n.sim.failf("node %d: %v", n.index, err)
		}
		return false
	}
	n.inFlight = nil
	g.isDone = true
	for _, t := range g.txs {
		t.status = durable
	}
	for _, r := range n.replicas {
		for _, k := range g.parts[r.space].known {
			r.disk.set(k.cell, k.inclusion)
		}
		r.ever.Join(g.states[r.space].VV)
		r.firm.Join(g.states[r.space].firm())
	}
	return true
}

// publish makes what was committed known to the sessions of the space.
func (r *replica) publish(state durableState, part *groupPart) {
	s := r.node.sim
	noted := state.ownedVersion != r.durable.ownedVersion
	r.durable = state
	if d := r.combine(part); d != nil {
		r.addLive(d)
	}
	for _, d := range part.received {
		r.addLive(d)
	}
	risen := make([]crdt.Dot, 0, part.risen.Len())
	for d := range part.risen.All() {
		risen = append(risen, d)
	}
	for _, e := range s.endsOf(r) {
		e.session.Advance(state.State, risen)
		if noted {
			e.session.Resume()
		}
	}
}

// combine joins the deltas of a group's own transactions into one.
func (r *replica) combine(part *groupPart) *protocol.Delta {
	deltas := part.local
	if len(deltas) == 0 {
		return nil
	}
	// A fresh ReplicaID may have been drawn between two transactions of one group, and lanes take turns. Of the others peers are told
	// from the log.
	last := deltas[len(deltas)-1]
	deltas = slices.DeleteFunc(slices.Clone(deltas), func(d *crdt.Delta) bool { return d.Origin != last.Origin })
	if len(deltas) > 1 {
		r.node.sim.counts[CombinedDeltas]++
	}
	joined, err := docstore.Combine(deltas)
	if err != nil {
		r.node.sim.failf("node %d: combine: %v", r.node.index, err)
		return nil
	}
	d := &protocol.Delta{Delta: *joined}
	var written knowledge
	for _, w := range part.written {
		if w.origin == d.Origin {
			written.set(w.cell, w.inclusion)
		}
	}
	r.node.sim.load(r, d, written)
	return d
}

func (r *replica) addLive(d *protocol.Delta) {
	r.live = append(r.live, d)
	if over := len(r.live) - r.node.sim.plan.liveDeltas; over > 0 {
		r.live = r.live[over:]
	}
}

// Delta implements protocol.Source.
func (r *replica) Delta(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*protocol.Delta, error) {
	s := r.node.sim
	for i := len(r.live) - 1; i >= 0; i-- {
		d := r.live[i]
		if d.Origin == origin && d.From <= from && d.To > from && d.To <= to && d.Stable <= pruned {
			s.counts[RelayedDeltas]++
			return d, nil
		}
	}
	snap, err := r.node.store.Snapshot()
	if err != nil {
		return nil, err
	}
	defer snap.Close()
	built, err := docstore.Build(snap, spaceNumber(r.space), origin, from, s.shorten(r, origin, from, to), pruned)
	if err != nil {
		return nil, r.unreadable(err)
	}
	d := &protocol.Delta{Delta: *built}
	s.counts[BuiltDeltas]++
	s.load(r, d, r.disk)
	return d, nil
}

// shorten returns the end of a first part of a range, now and then, as when all of it would not fit into one frame.
func (s *simulation) shorten(r *replica, origin crdt.ReplicaID, from, to hlc.Time) hlc.Time {
	if s.chance(0.5) {
		return to
	}
	var ends []hlc.Time
	for _, t := range s.oracles[r.space].txs {
		if d := t.dot; t.status == durable && d.Replica == origin && d.Time > from && d.Time < to {
			ends = append(ends, d.Time)
		}
	}
	if len(ends) == 0 {
		return to
	}
	s.counts[PartialDeltas]++
	return ends[s.rng.IntN(len(ends))]
}
