package replica

import (
	"fmt"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// A group of this size takes no more: the next transaction waits until it is being committed. One
// transaction or delta comes on top, so that every group stays within what one commit takes, and most of them within
// what the store commits fastest. Larger ones gain nothing, and cost memory: a table of what the store collects in memory
// may be larger by one group, see docs/benchmarks.md.
const (
	groupBytes   = 1 << 19
	groupEntries = 4 << 10
)

// group is what one commit of the store makes durable: local transactions and merged deltas that waited
// together, of all spaces.
type group struct {
	batch  *store.Batch
	spaces map[*Space]*groupPart
	made   []*Space // spaces that the group makes
	deltas int      // received whole
	// deltaEntries is how many entries of the batch came with them.
	deltaEntries int
	done         chan struct{}
	err          error // set before done is closed
}

// groupPart is what a group holds of one space, in the order of the merges.
type groupPart struct {
	local    []*crdt.Delta // of own transactions
	received []*liveDelta
	snapshot bool // something of a snapshot is in it
	risen    crdt.VersionVector
}

func newGroup() *group {
	return &group{batch: new(store.Batch), spaces: make(map[*Space]*groupPart), done: make(chan struct{})}
}

func (g *group) part(s *Space) *groupPart {
	p := g.spaces[s]
	if p == nil {
		p = &groupPart{}
		g.spaces[s] = p
	}
	return p
}

func (g *group) isDone() bool {
	select {
	case <-g.done:
		return true
	default:
		return false
	}
}

func (g *group) isEmpty() bool { return g.batch.Len() == 0 && len(g.spaces) == 0 }

// wait returns when the group is durable, or has failed.
func (g *group) wait() error {
	<-g.done
	return g.err
}

// isGroupFull reports whether the group takes no more. It is called with mu held.
func (r *Replica) isGroupFull() bool {
	return r.paused || r.group.batch.Bytes() > groupBytes || r.group.batch.Len() > groupEntries
}

// waitForRoom returns, with mu held, when the group can take one more transaction.
func (r *Replica) waitForRoom() error {
	for !r.closed && r.isGroupFull() {
		r.roomy.Wait()
	}
	if r.closed {
		return ErrClosed
	}
	return nil
}

// overlay opens a view of the newest state. It is called with mu held, so that no batch can leave the overlay before
// it is in the snapshot.
func (r *Replica) overlay() (*docstore.Overlay, error) {
	snap, err := r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	o := &docstore.Overlay{Batch: r.group.batch, Snapshot: snap}
	if r.inFlight != nil {
		o.InFlight = []*store.Batch{r.inFlight.batch}
	}
	return o, nil
}

// commitLoop commits one group after the other. What arrives while one is being synced waits in the next, so a
// transaction alone never waits for others, and many share one sync. Deltas that a peer streams may wait for each other; see gather.go.
func (r *Replica) commitLoop() {
	defer close(r.committed)
	for range r.wake {
		r.gatherNext()
		for r.commitGroup() {
			r.gatherMore()
		}
		r.mu.Lock()
		over := r.closed && r.group.isEmpty() // what came between the last group and Close is still waited for
		r.mu.Unlock()
		if over {
			return
		}
	}
}

// commitGroup commits the waiting group and reports false if there is none. The order is: persist, then
// send, then notify.
func (r *Replica) commitGroup() bool {
	r.mu.Lock()
	g := r.group
	if g.isEmpty() {
		r.mu.Unlock()
		return false
	}
	r.group = newGroup()
	states := make(map[*Space]durableState, len(g.spaces))
	for s := range g.spaces {
		s.state.Flush(g.batch)
		states[s] = s.snapshotState(r.self)
	}
	limit := g.batch.Bytes() + membersBytes
	for s := range g.spaces {
		s.storeMembers(g.batch, limit, false)
	}
	r.near.storeNeighbours(g.batch)
	r.inFlight, r.last = g, g
	r.roomy.Broadcast()
	r.mu.Unlock()

	began := time.Now()
	err := r.meter.commit(g, func() error { return r.store.Commit(g.batch) })

	r.mu.Lock()
	r.gatherer.noteCommit(began, r.group.deltas > 0)
	r.inFlight = nil
	if err != nil {
		r.giveUp(g, err)
		r.mu.Unlock()
		return true
	}
	r.mu.Unlock()
	for s, state := range states {
		s.publish(state, g.spaces[s])
	}
	close(g.done)
	return true
}

// giveUp fails a group whose commit failed, and the one that was built upon it, and goes back to what the store
// has. It is called with mu held.
func (r *Replica) giveUp(g *group, err error) {
	r.log.Error("a commit failed; nothing of it was acknowledged", "error", err)
	for _, failed := range []*group{g, r.group} {
		failed.err = err
		for s, part := range failed.spaces {
			if len(part.received) > 0 || part.snapshot {
				s.endSessions(fmt.Errorf("received writes could not be stored: %w", err))
			}
		}
		for _, s := range failed.made {
			r.forget(s)
		}
		close(failed.done)
	}
	r.group = newGroup()
	r.self = 0 // its record may be in the failed batch; a fresh ID costs nothing
	r.reload()
}

// reload goes back to what the store has. It is called with mu held.
func (r *Replica) reload() {
	snap, serr := r.store.Snapshot()
	if serr != nil {
		return // the store is closed: nothing can be written or read any more
	}
	defer snap.Close()
	for _, s := range r.spaces {
		if state, lerr := docstore.Load(snap, s.number); lerr == nil {
			s.state = state
			if lerr := s.reloadTrust(snap); lerr != nil {
				r.log.Error("who may do what cannot be loaded again after the failed commit", "space", s.name, "error", lerr)
			}
		} else {
			r.log.Error("the space cannot be loaded again after a failed commit", "space", s.name, "error", lerr)
		}
	}
}

// liveDelta is a delta in memory with its frame, made once for all peers.
type liveDelta struct {
	message *protocol.Delta
	frame   []byte   // nil without a transport
	known   bool     // it was here already
	max     hlc.Time // of one that was received, the greatest time in it
	from    PeerID   // who sent it; zero for own ones
}
