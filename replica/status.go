package replica

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/mesh"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// peerSpaceState is what is known of one peer's replica of a space. It is guarded by Space.mu.
type peerSpaceState struct {
	connected int // sessions
	level     bool
	mismatch  bool
	lastError string
	errorAt   time.Time

	repairedAt time.Time
	repaired   int64 // documents
}

// maxPeersKept bounds the peers of which something is remembered, for each space.
const maxPeersKept = 4096

// peerState is called with mu held.
func (s *Space) peerState(p PeerID) *peerSpaceState {
	st := s.status[p]
	if st == nil {
		if len(s.status) >= maxPeersKept {
			maps.DeleteFunc(s.status, func(_ PeerID, st *peerSpaceState) bool { return st.connected == 0 })
		}
		st = &peerSpaceState{}
		s.status[p] = st
	}
	return st
}

func (ses *session) noteLevel() {
	ses.mu.Lock()
	level := ses.proto.IsLevel()
	ses.mu.Unlock()
	s := ses.space
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.peerState(ses.conn.peer)
	st.level = level
	if level { // whatever went wrong is over
		st.lastError, st.errorAt = "", time.Time{}
	}
}

func (ses *session) noteError(err error) {
	s := ses.space
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.peerState(ses.conn.peer)
	st.lastError, st.errorAt = err.Error(), s.r.cfg.Now()
}

// refusalLogEvery is how often at most a session logs what its peer refuses.
const refusalLogEvery = 5 * time.Second

func (ses *session) noteRefused(m *protocol.Refusal) {
	ses.space.r.meter.refuse(refusedByPeer, m.Code)
	if m.Code == protocol.RefusedGap || m.Code == protocol.RefusedOpen {
		return // mended by sending again
	}
	if time.Since(ses.refusedAt) > refusalLogEvery { // a peer can refuse as often as it likes
		ses.refusedAt = time.Now()
		ses.space.r.log.Warn("a peer refused writes", "space", ses.space.name, "peer", ses.conn.peer, "origin", m.Origin, "code", m.Code, "reason", m.Text)
	}
	ses.noteError(fmt.Errorf("the peer refused writes of replica %s (%s): %s", m.Origin, m.Code, m.Text))
}

// noteCompared also begins a repair of a difference that is not to be, or that lasts.
func (ses *session) noteCompared(c protocol.Comparison, lasting bool) {
	s := ses.space
	s.mu.Lock()
	st := s.peerState(ses.conn.peer)
	was := st.mismatch
	st.mismatch = c == protocol.Mismatch
	if c == protocol.Mismatch {
		s.damage.Mismatches++
	}
	s.mu.Unlock()
	if c == protocol.Equal {
		ses.mu.Lock()
		ses.repair.pause, ses.repair.notBefore = 0, time.Time{}
		ses.mu.Unlock()
	}
	if c == protocol.Mismatch && !was {
		s.r.log.Error("two replicas with the same writes hold different states: it is repaired; run `anabranch doctor` on both",
			"space", s.name, "peer", ses.conn.peer)
	}
	if (c == protocol.Mismatch || lasting) && ses.beginsRepairs() {
		ses.startRepair(map[bool]string{true: "closed replicas differ", false: "a difference lasts"}[c == protocol.Mismatch])
	}
}

// Synced returns how many other members are known to hold the transaction durably: by their own word, or by that of others.
func (s *Space) Synced(rc Receipt) int { return s.SyncedVector(crdt.NewVersionVector(rc.Dot)) }

// SyncedVector returns how many other members are known to hold durably all that vv covers.
func (s *Space) SyncedVector(vv crdt.VersionVector) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncedLocked(vv)
}

func (s *Space) syncedLocked(vv crdt.VersionVector) int {
	if present := s.durable.renamings; len(present) > 0 {
		var now crdt.VersionVector
		for d := range vv.All() {
			now.Advance(present.Present(d))
		}
		vv = now
	}
	return s.members.Holding(vv)
}

// WaitSynced returns when n peers hold the transaction durably, or with the error of ctx. A transaction that changed
// nothing is held by everybody.
func (s *Space) WaitSynced(ctx context.Context, rc Receipt, n int) error {
	return s.WaitSyncedVector(ctx, crdt.NewVersionVector(rc.Dot), n)
}

// WaitSyncedVector is WaitSynced for all that vv covers.
func (s *Space) WaitSyncedVector(ctx context.Context, vv crdt.VersionVector, n int) error {
	for {
		s.mu.Lock()
		have, moved := s.syncedLocked(vv), s.ackMoved
		s.mu.Unlock()
		if have >= n || vv.Len() == 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d peers hold the transaction: %w", have, n, ctx.Err())
		case <-s.removed:
			return ErrRemoved
		case <-s.r.ctx.Done():
			return ErrClosed
		}
	}
}

// SpaceStatus describes a space at one moment.
type SpaceStatus struct {
	Name      string
	Documents int64 // that exist for a reader
	// Conflicts is their number in all documents, Conflicted that of the documents that have any.
	Conflicts  int64
	Conflicted int64
	Vector     crdt.VersionVector
	Horizon    crdt.VersionVector
	Stable     crdt.VersionVector
	Digest     crdt.Digest
	// Closed: everything that shows here was written by transactions that are here whole. Two closed
	// replicas with equal vectors must have equal digests.
	Closed bool
	Cursor Cursor
	Repair RepairStatus
	// Snapshot is the one that is being taken, nil if none is: until it is through, only a part shows of what its source has.
	Snapshot *SnapshotStatus
	Peers    []PeerSpaceStatus
	// Stability says what is not pruned yet, and who it waits for.
	Stability Stability
}

// PeerSpaceStatus describes how far a peer's replica of a space is.
type PeerSpaceStatus struct {
	Space     string
	Peer      PeerID
	Connected bool
	Level     bool // it holds all that is here, and all that it told of is here
	// Known and Pending are numbers of log entries (a document changed by a transaction) that the peer has
	// acknowledged, and has not. Each is counted up to MaxCounted.
	Known   int64
	Pending int64
	// Mismatch: the peer has the same writes and another state. It is a bug or damage, and is being repaired.
	Mismatch bool
	// RepairedAt is when a repair with the peer ended last, and Repaired how many documents all of them changed here.
	RepairedAt time.Time
	Repaired   int64
	// Snapshot is the one that is being given to the peer, nil if none is.
	Snapshot *SnapshotStatus

	LastError string
	ErrorAt   time.Time
}

// MaxCounted bounds the counting of pending and known log entries, so that asking for a status is cheap.
const MaxCounted = 100_000

// Summary is Status without the peers. It reads nothing from the store, so it costs the same for every space.
func (s *Space) Summary() SpaceStatus {
	s.mu.Lock()
	d, repair := s.durable, s.damage.RepairStatus
	s.mu.Unlock()
	return SpaceStatus{
		Repair: repair, Snapshot: s.taking(),
		Name: s.name, Documents: d.documents, Conflicts: d.conflicts, Conflicted: d.conflicted, Vector: d.VV, Horizon: d.horizon, Stable: d.Stable,
		Digest: d.Digest, Closed: d.Closed, Cursor: Cursor{s.r.feed, d.arrival},
	}
}

// Status describes the space. Cost: counting what each peer has and lacks, up to MaxCounted keys for each.
func (s *Space) Status(ctx context.Context) (SpaceStatus, error) {
	return s.statusUpTo(ctx, MaxCounted)
}

// statusUpTo is Status that counts what peers have and lack up to a limit.
func (s *Space) statusUpTo(ctx context.Context, limit int64) (SpaceStatus, error) {
	st := s.Summary()
	s.mu.Lock()
	peers := make(map[PeerID]struct{})
	for _, m := range s.members.List(s.r.cfg.Now()) {
		peers[m.Peer] = struct{}{}
	}
	for p := range s.status {
		peers[p] = struct{}{}
	}
	s.mu.Unlock()
	err := s.view(ctx, func(snap store.Snapshot) error {
		for p := range peers {
			ps, err := s.peerStatus(ctx, snap, p, st.Vector, limit)
			if err != nil {
				return err
			}
			st.Peers = append(st.Peers, ps)
		}
		var err error
		st.Stability, err = s.stability(snap, st.Vector, st.Stable, limit)
		return err
	})
	slices.SortFunc(st.Peers, func(a, b PeerSpaceStatus) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	return st, err
}

func (s *Space) peerStatus(ctx context.Context, snap store.Snapshot, p PeerID, vv crdt.VersionVector, limit int64) (PeerSpaceStatus, error) {
	s.mu.Lock()
	member, _ := s.members.Get(p)
	acked := member.VV
	ps := PeerSpaceStatus{Space: s.name, Peer: p}
	if st := s.status[p]; st != nil {
		ps.Connected, ps.Level, ps.Mismatch = st.connected > 0, st.level, st.mismatch
		ps.LastError, ps.ErrorAt = st.lastError, st.errorAt
		if n, ok := s.giving[p]; ok {
			ps.Snapshot = snapshotStatus(p, n, true)
		}
		ps.RepairedAt, ps.Repaired = st.repairedAt, st.repaired
	}
	s.mu.Unlock()
	for d := range vv.All() {
		if err := ctx.Err(); err != nil {
			return ps, err
		}
		has := crdt.Dot{Replica: d.Replica, Time: min(acked.Get(d.Replica), d.Time)}
		if has.Time < d.Time && ps.Pending < limit {
			n, err := docstore.CountLog(snap, s.number, has, d, limit-ps.Pending)
			if err != nil {
				return ps, err
			}
			ps.Pending += n
		}
		if has.Time > 0 && ps.Known < limit {
			n, err := docstore.CountLog(snap, s.number, crdt.Dot{Replica: d.Replica}, has, limit-ps.Known)
			if err != nil {
				return ps, err
			}
			ps.Known += n
		}
	}
	return ps, nil
}

// PeerStatus describes a peer: one that is connected, one that is dialled, or one of which the address is known.
type PeerStatus struct {
	ID   PeerID
	Addr string
	// Source says where the address comes from: "configured", "incoming" (the peer dialled), or who named it, as mesh.Source has it.
	Source    string
	Connected bool
	Dialled   bool // by this node
	Since     time.Time
	Sent      uint64 // bytes, in this connection
	Received  uint64
	// Skew is how far the peer's wall clock is ahead of ours, as it was asked last.
	Skew time.Duration
	// Seen is when anybody was last connected with it, as far as is known.
	Seen      time.Time
	LastError string
	ErrorAt   time.Time
}

// The sources of an address beside those of package mesh.
const (
	sourceConfigured = "configured"
	sourceIncoming   = "incoming"
)

// Peers describes the connected peers, those that are dialled without success, and those that could be dialled.
func (r *Replica) Peers() []PeerStatus {
	if r.cfg.Transport == nil {
		return nil
	}
	t := &r.peers
	t.mu.Lock()
	defer t.mu.Unlock()
	r.near.mu.Lock()
	defer r.near.mu.Unlock()
	var all []PeerStatus
	now := r.cfg.Now()
	addrs := make(map[string]bool)
	shown := make(map[PeerID]bool)
	for id, pc := range t.conns {
		sent, received := pc.Traffic()
		all = append(all, PeerStatus{
			ID: id, Addr: pc.RemoteAddr(), Connected: true, Dialled: pc.Dialled(), Since: pc.since, Seen: now,
			Sent: sent, Received: received, Skew: pc.clock.now().Sub(now), Source: r.sourceOf(pc),
		})
		addrs[pc.RemoteAddr()] = true
		shown[id] = true
	}
	for p := range t.dials {
		if _, connected := t.conns[p.ID]; connected || addrs[p.Addr] {
			continue
		}
		known, _ := r.near.book.Known(p.ID)
		st := PeerStatus{ID: p.ID, Addr: p.Addr, Dialled: true, Source: sourceConfigured, Seen: known.Seen}
		if e, ok := t.errors[p]; ok {
			st.LastError, st.ErrorAt = e.err.Error(), e.when
		}
		all = append(all, st)
		shown[p.ID] = true
	}
	for _, id := range r.near.book.Peers() {
		if known, _ := r.near.book.Known(id); !shown[id] {
			all = append(all, PeerStatus{ID: id, Addr: known.Addrs[0].Addr, Source: known.Addrs[0].Source.String(), Seen: known.Seen})
		}
	}
	slices.SortFunc(all, func(a, b PeerStatus) int {
		return cmp.Or(bytes.Compare(a.ID[:], b.ID[:]), cmp.Compare(a.Addr, b.Addr))
	})
	return all
}

// sourceOf is called with both mutexes held.
func (r *Replica) sourceOf(pc *peerConn) string {
	if pc.keep {
		return sourceConfigured
	}
	known, _ := r.near.book.Known(pc.peer)
	for _, a := range known.Addrs {
		if pc.Dialled() && a.Addr == pc.RemoteAddr() {
			return a.Source.String()
		}
	}
	if pc.Dialled() {
		return mesh.FromPeers.String()
	}
	return sourceIncoming
}

// Self returns this node's peer ID, zero without a transport.
func (r *Replica) Self() PeerID {
	if r.cfg.Transport == nil {
		return PeerID{}
	}
	return r.cfg.Transport.Self()
}

// Addrs returns the addresses on which this node listens.
func (r *Replica) Addrs() []string {
	if r.cfg.Transport == nil {
		return nil
	}
	return r.cfg.Transport.Addrs()
}

// Verify recomputes everything that derives from the documents of the space, and compares. With Repair it also makes
// the log, the feed and the counters what they should be; no transaction runs meanwhile.
func (s *Space) Verify(ctx context.Context, o VerifyOptions) (VerifyReport, error) {
	opts := docstore.VerifyOptions{Progress: o.Progress}
	var report VerifyReport
	if !o.Repair {
		err := s.view(ctx, func(snap store.Snapshot) (err error) {
			report, err = docstore.Verify(ctx, snap, s.number, opts)
			return err
		})
		return report, err
	}
	return s.repair(ctx, opts)
}

// VerifyOptions says how Verify goes about it.
type VerifyOptions struct {
	Repair   bool
	Progress func(keys int64) // called now and then
}

// VerifyReport is what Verify found.
type VerifyReport = docstore.Report

// repair makes what derives from the documents what it should be.
func (s *Space) repair(ctx context.Context, opts docstore.VerifyOptions) (VerifyReport, error) {
	opts.Repair = s.r.store.Commit
	var report VerifyReport
	err := s.exclusively(func(snap store.Snapshot) (err error) {
		report, err = docstore.Verify(ctx, snap, s.number, opts)
		return err
	})
	return report, err
}

// exclusively runs fn, which may commit to the store, while nothing else does. It holds the lock of all writes; the group that was
// waiting is committed first. Afterwards the state of the space is loaded again.
func (s *Space) exclusively(fn func(store.Snapshot) error) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.quiesce(); err != nil {
		return err
	}
	err := s.view(r.ctx, fn)
	snap, serr := r.store.Snapshot()
	if err = errors.Join(err, serr); serr != nil {
		return err
	}
	defer snap.Close()
	state, lerr := s.state.Reload(snap)
	if lerr == nil {
		s.state = state
		state := s.snapshotState(r.self)
		s.publish(state, &groupPart{})
	}
	return errors.Join(err, lerr)
}
