package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Space is a named set of documents: the unit of replication. Its methods may be called from several
// goroutines.
type Space struct {
	r      *Replica
	name   string
	number uint32
	lives  []docstore.Life // former names of the feed
	trust  *trust          // nil for a space without a key

	removed chan struct{} // closed by RemoveSpace

	rejoin rejoin
	giving map[PeerID]docstore.Progress // snapshots being sent; guarded by mu

	state         *docstore.Space // newest, not all of it durable; guarded by r.mu
	membersStored time.Time       // guarded by r.mu

	mu       sync.Mutex // guards what follows; taken after r.mu where both are
	durable  durableState
	changed  chan struct{} // closed and replaced when durable moves
	members  *protocol.Roster
	ackMoved chan struct{} // closed and replaced when members hold more
	sessions map[*session]struct{}
	live     liveCache
	status   map[PeerID]*peerSpaceState
	damage   damage
	exposure *docstore.Exposure // who has what of this node's own writes
	fenced   bool               // own writes are being re-issued, and are not sent
	watchers map[*watcher]struct{}
}

// largeSpace is how many documents a space has from which on a peer that has nothing of it gets a snapshot, even if deltas would do. Those are looked
// up in the order of the log, anywhere in the store, which by and by does not fit into its cache. A peer can pass on what deltas bring at once, and
// what a snapshot brings when it has all of it.
const largeSpace = 50_000

// durableState is what peers and readers may know of: one moment of the space, on disk.
type durableState struct {
	protocol.State
	horizon   crdt.VersionVector
	taking    *takenSoFar // nil if no snapshot is being merged
	arrival   uint64
	floor     uint64
	breach    uint64
	documents int64

	max          hlc.Time // the greatest of the horizon
	owned        docstore.Owned
	ownedVersion uint64
	renamings    docstore.Renamings

	conflicts, conflicted int64
}

func (r *Replica) loadSpace(snap store.Snapshot, name string, number uint32) (*Space, error) {
	state, err := docstore.Load(snap, number)
	if err != nil {
		return nil, err
	}
	members, err := docstore.Members(snap, number)
	if err != nil {
		return nil, err
	}
	lives, err := docstore.Lives(snap, number)
	if err != nil {
		return nil, err
	}
	trust, err := r.loadTrust(snap, number)
	if err != nil {
		return nil, err
	}
	s := &Space{
		r: r, name: name, number: number, state: state, lives: lives, trust: trust,
		removed: make(chan struct{}),
		changed: make(chan struct{}), ackMoved: make(chan struct{}),
		members: protocol.NewRoster(r.Self(), members), giving: make(map[PeerID]docstore.Progress), sessions: make(map[*session]struct{}),
		status: make(map[PeerID]*peerSpaceState), watchers: make(map[*watcher]struct{}),
		exposure: docstore.NewExposure(),
	}
	for id := range state.Owned() {
		for _, m := range members {
			s.exposure.Named(crdt.Dot{Replica: id, Time: m.VV.Get(id)})
		}
	}
	s.durable = s.snapshotState(r.self)
	return s, nil
}

// snapshotState copies the state for publication. It is called with r.mu held, or before s is shared.
func (s *Space) snapshotState(self crdt.ReplicaID) durableState {
	conflicts, conflicted := s.state.Conflicts()
	vv, closed := s.state.VV().Clone(), s.state.IsClosed()
	horizon := vv // vv ≤ horizon; nobody changes what is published, so long vectors are not copied twice
	if !closed {
		horizon = s.state.Horizon().Clone()
	}
	return durableState{
		State: protocol.State{
			Self: self, VV: vv, Stable: s.state.Stable().Clone(),
			Digest: s.state.Digest(), Closed: closed, Ahead: s.state.Horizon().Beyond(s.state.VV()), Open: s.state.OpenEntries(),
			Rejoining: s.state.Rejoining() != nil, Large: s.state.Documents() >= largeSpace,
		},
		taking:  takenOf(s.state.Rejoining()),
		horizon: horizon, arrival: s.state.Arrival(), floor: s.state.Floor(), breach: s.state.Breach(), documents: s.state.Documents(),
		conflicts: conflicts, conflicted: conflicted,
		max: s.state.Horizon().Max(), owned: s.state.Owned(), ownedVersion: s.state.OwnedVersion(), renamings: s.state.Renamings(),
	}
}

// Name returns the name of the space.
func (s *Space) Name() string { return s.name }

// Receipt names a transaction that was committed.
type Receipt struct {
	Dot crdt.Dot // zero if the transaction changed nothing
	// Sync is the mode in which it was committed: what its durability means.
	Sync SyncMode
}

// Update runs fn and commits the changes that it makes, all of them or none. It returns when they are durable by
// the configured mode and visible to readers. An error of fn, or of one of its calls on tx, gives the whole transaction up and
// is returned. fn runs while no other transaction of the replica does, so what it reads stays so until it
// has written; it must not wait for anything, least of all for another Update, and must not keep tx.
//
// ctx is looked at before the transaction is begun. Once it is on its way to the disk, Update waits for
// the outcome, for otherwise nobody could tell whether it happened.
func (s *Space) Update(ctx context.Context, fn func(tx *Tx) error) (Receipt, error) {
	if err := ctx.Err(); err != nil {
		return Receipt{}, err
	}
	dot, g, err := s.run(fn)
	if err != nil || g == nil {
		return Receipt{}, err
	}
	s.r.poke()
	if err := g.wait(); err != nil {
		return Receipt{}, fmt.Errorf("commit the transaction in space %q: %w", s.name, err)
	}
	return Receipt{Dot: dot, Sync: s.r.cfg.Sync}, nil
}

// checkHere refuses to write to a space that was removed, or could not be made. It is called with Replica.mu held.
func (s *Space) checkHere() error {
	if s.r.spaces[s.name] != s {
		return fmt.Errorf("%w: %q was removed, or making it failed: open it again", ErrSpace, s.name)
	}
	return nil
}

// run runs fn against the newest state and puts what it did into the group, which it returns; nil if nothing changed.
func (s *Space) run(fn func(tx *Tx) error) (crdt.Dot, *group, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return crdt.Dot{}, nil, err
	}
	if err := errors.Join(s.checkHere(), s.require(WriteRights)); err != nil {
		return crdt.Dot{}, nil, err
	}
	over, err := r.overlay()
	if err != nil {
		return crdt.Dot{}, nil, err
	}
	defer over.Snapshot.Close()
	at, err := r.clock.Peek(r.now())
	if err != nil {
		return crdt.Dot{}, nil, err
	}
	r.identify()
	dot := crdt.Dot{Replica: r.self, Time: at}
	tx := &Tx{space: s, t: s.state.Begin(over, crdt.EventAt(dot))}
	defer tx.end()
	if err = fn(tx); err == nil {
		err = tx.failed
	}
	if err != nil {
		return crdt.Dot{}, nil, s.noteCorrupt(err)
	}
	delta, err := tx.t.Commit(r.group.batch)
	if err != nil || delta == nil {
		return crdt.Dot{}, nil, err
	}
	r.clock.Observe(at)
	s.claim(dot)
	part := r.group.part(s)
	part.local = append(part.local, delta)
	part.risen.Advance(dot)
	return dot, r.group, nil
}

// merge joins a received delta into the newest state. It does not wait until that is durable, unless the delta rewrites more
// than a commit takes: such a one goes in parts, a group each, and is received, and told of, with the last of them.
func (s *Space) merge(d *liveDelta) error {
	for {
		part, err := s.mergePart(d)
		if err != nil || part == nil {
			return err
		}
		if err := part.wait(); err != nil {
			return fmt.Errorf("commit a part of a delta: %w", err)
		}
	}
}

// mergePart merges as much of a delta as a commit takes. It returns the group that has the part, and nil after the last one.
func (s *Space) mergePart(d *liveDelta) (*group, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return nil, err
	}
	if err := s.mayMerge(d.from); err != nil {
		return nil, err
	}
	over, err := r.overlay()
	if err != nil {
		return nil, err
	}
	defer over.Snapshot.Close()
	before := r.group.batch.Len()
	m, err := s.state.Merge(over, r.group.batch, &d.message.Delta, r.self, r.checkClock)
	if err != nil || !m.New {
		d.known = err == nil
		return nil, err
	}
	if m.Foreign {
		r.doubtIdentity(s.name, "a delta of "+d.message.Origin.String()+" names writes of it that are not here")
	}
	r.clock.Observe(m.Max)
	s.noteNamed(m.Own)
	part := r.group.part(s)
	if m.Partial {
		r.poke()
		return r.group, nil
	}
	r.group.deltas++
	r.group.deltaEntries += r.group.batch.Len() - before
	if !r.gatherer.on || !r.mayGather() {
		r.poke()
	}
	d.max = m.Max
	part.received = append(part.received, d)
	part.risen.Advance(crdt.Dot{Replica: d.message.Origin, Time: d.message.To})
	return nil, nil
}

// publish makes a committed group known: to sessions first, then to watchers.
func (s *Space) publish(state durableState, part *groupPart) {
	fresh := s.r.makeLive(part.local)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = state
	for _, d := range append(fresh, part.received...) {
		s.live.add(d)
	}
	for ses := range s.sessions {
		ses.advance(state.State, part.risen)
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// makeLive joins the deltas of a group and frames them, for all peers at once. One that cannot be framed is left out:
// peers are then served from the log.
func (r *Replica) makeLive(deltas []*crdt.Delta) []*liveDelta {
	if r.cfg.Transport == nil {
		return nil
	}
	// Lanes take turns, and each has frames of its own.
	slices.SortStableFunc(deltas, func(a, b *crdt.Delta) int { return cmp.Compare(a.Origin, b.Origin) })
	var live []*liveDelta
	for len(deltas) > 0 {
		n := 1
		for n < len(deltas) && deltas[n].Origin == deltas[0].Origin {
			n++
		}
		joined, err := docstore.Combine(deltas[:n])
		deltas = deltas[n:]
		if err != nil {
			r.log.Error("deltas of own transactions cannot be joined", "error", err)
			continue
		}
		d := &liveDelta{message: &protocol.Delta{Delta: *joined}}
		if d.frame, err = r.cfg.Transport.Marshal(nil, d.message); err == nil { // else it is too large: the log gives it in parts
			live = append(live, d)
		}
	}
	return live
}

func (s *Space) durableNow() durableState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.durable
}
