package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Repairs are begun by the side with the smaller peer ID, so that the two do not do the same work at once; or by a side that
// found damage in its own store. One that does not help is tried again after a while that doubles from the first to the second
// of these, each time up to a quarter more or less, so that many that began together do not all come back together.
const (
	minRepairPause = time.Minute
	maxRepairPause = time.Hour
	// repairTimeout is how long a repair may get no further before it is given up.
	repairTimeout = 10 * time.Minute
)

// repairState is what a session knows of its repairs. It is guarded by session.mu.
type repairState struct {
	notBefore time.Time
	pause     time.Duration
	moved     time.Time // when the repair that is going on got further last
	going     bool
}

// RepairStatus says what repairs of a space came to, since the replica was opened.
type RepairStatus struct {
	Mismatches int64 // comparisons that found closed replicas with equal vectors and different digests
	Repairs    int64 // that ended without an error, those that peers began included
	Documents  int64 // changed by them
	Last       time.Time
	// Damaged: something stored cannot be read, or is not what it should be, and was not mended yet.
	Damaged   bool
	DamagedAt time.Time
	DamageWas string
}

// damage is what was found wrong with the store of a space. It is guarded by Space.mu.
type damage struct {
	RepairStatus
	rebuilt    bool      // documents were made anew: what derives from them must be verified
	heldMended time.Time // when damage that stood in the way of a rebase was mended last
}

// startRepair begins a repair with the peer of this session, unless one was just tried.
func (ses *session) startRepair(why string) {
	now := time.Now()
	ses.mu.Lock()
	rs := &ses.repair
	if rs.going || now.Before(rs.notBefore) {
		ses.mu.Unlock()
		return
	}
	rs.pause = min(max(2*rs.pause, minRepairPause), maxRepairPause)
	rs.notBefore, rs.moved, rs.going = now.Add(jittered(rs.pause)), now, true
	ses.proto.StartRepair(rand.Uint64())
	ses.mu.Unlock()
	ses.space.r.log.Info("comparing what two replicas hold, to repair what differs", "space", ses.space.name, "peer", ses.conn.peer, "reason", why)
	ses.poke()
}

// jittered returns a duration between three and five quarters of d.
func jittered(d time.Duration) time.Duration {
	return d - d/4 + time.Duration(rand.Int64N(int64(d/2)+1))
}

// beginsRepairs reports whether this side begins those that either could.
func (ses *session) beginsRepairs() bool {
	self := ses.space.r.cfg.Transport.Self()
	return slices.Compare(self[:], ses.conn.peer[:]) < 0
}

// tendRepair gives up a repair that does not get on, and begins one if this store is damaged.
func (ses *session) tendRepair() {
	ses.mu.Lock()
	if ses.repair.going && time.Since(ses.repair.moved) > repairTimeout {
		ses.repair.moved = time.Now()
		ses.proto.AbandonRepair()
	}
	ses.mu.Unlock()
	s := ses.space
	s.mu.Lock()
	damaged := s.damage.Damaged
	s.mu.Unlock()
	if damaged {
		ses.startRepair("this store is damaged")
	}
}

// doRepairs does the jobs of repairs, until ctx ends. Only one goes on at a time in the whole replica, for each may read all
// of a space.
func (ses *session) doRepairs(ctx context.Context) {
	for {
		select {
		case <-ses.jobs:
		case <-ctx.Done():
			return
		}
		for {
			ses.mu.Lock()
			some := ses.proto.HasRepairJob()
			ended := ses.proto.RepairEnded()
			ses.mu.Unlock()
			for _, o := range ended {
				ses.noteRepaired(ctx, o)
			}
			if !some {
				break
			}
			select {
			case ses.space.r.repairing <- struct{}{}:
			case <-ctx.Done():
				return
			}
			ses.doRepair(ctx)
			<-ses.space.r.repairing
		}
	}
}

var errHeld = errors.New("this replica holds writes that it may not tell of: its clock is or was ahead")

// doRepair does one job.
func (ses *session) doRepair(ctx context.Context) {
	ses.mu.Lock()
	ses.takeAdvice()
	job := ses.proto.RepairJob()
	ses.mu.Unlock()
	if job == nil {
		return
	}
	res := protocol.RepairResult{Err: errHeld}
	if ses.space.mayHandOut(ses.conn.peer) == nil {
		res = ses.space.doRepairJob(ctx, ses.conn.peer, job)
	}
	ses.mu.Lock()
	ses.repair.moved = time.Now()
	ses.proto.RepairDone(job, res)
	ses.mu.Unlock()
	ses.poke()
}

// pokeRepairs wakes doRepairs.
func (ses *session) pokeRepairs() {
	select {
	case ses.jobs <- struct{}{}:
	default:
	}
}

// doRepairJob reads what is durable, and merges.
func (s *Space) doRepairJob(ctx context.Context, peer PeerID, job *protocol.RepairJob) (res protocol.RepairResult) {
	err := s.view(ctx, func(snap store.Snapshot) error {
		res = docstore.RepairJob(ctx, snap, s.number, job)
		return res.Err
	})
	if d := s.durableNow(); err == nil && d.Rejoining {
		err = docstore.ErrRejoining
	} else if err == nil && !d.Stable.LessOrEqual(job.Theirs) {
		err = docstore.ErrBelowStable
	}
	if err == nil && job.Merge != nil {
		res.Changed, res.Damaged, err = s.joinCells(peer, job.Merge, job.Theirs)
	}
	res.Err = err
	return res
}

// joinCells merges the cells of a peer, and waits until that is durable.
func (s *Space) joinCells(peer PeerID, cells *protocol.RangeCells, theirs crdt.VersionVector) (changed, damaged int, err error) {
	if len(cells.Documents) == 0 {
		return 0, 0, nil
	}
	for {
		m, g, err := s.joinPart(peer, cells, theirs)
		if err == nil && g != nil {
			err = g.wait()
		}
		if err != nil {
			return changed, 0, fmt.Errorf("merge cells of a peer: %w", err)
		}
		changed += m.Changed
		if m.Partial {
			continue
		}
		if len(m.Damaged) > 0 {
			err = s.rebuild(m.Damaged)
		}
		return changed, len(m.Damaged), err
	}
}

func (s *Space) joinPart(peer PeerID, cells *protocol.RangeCells, theirs crdt.VersionVector) (docstore.JoinedCells, *group, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return docstore.JoinedCells{}, nil, err
	}
	if err := s.mayMerge(peer); err != nil {
		return docstore.JoinedCells{}, nil, err
	}
	over, err := r.overlay()
	if err != nil {
		return docstore.JoinedCells{}, nil, err
	}
	defer over.Snapshot.Close()
	m, err := s.state.JoinCells(over, r.group.batch, cells, theirs, r.self, r.checkClock)
	if err != nil {
		return m, nil, err
	}
	if m.Foreign {
		r.doubtIdentity(s.name, "cells of a peer name writes of it that are not here")
	}
	r.clock.Observe(m.Max)
	s.noteNamed(m.Own)
	if m.Changed == 0 {
		return m, nil, nil
	}
	r.group.part(s)
	r.poke()
	return m, r.group, nil
}

// rebuild makes documents anew that cannot be read.
func (s *Space) rebuild(docs []crdt.DocumentDelta) error {
	for _, d := range docs {
		s.r.log.Error("a stored document cannot be read; it is made anew from what a peer has of it, and from its parts that can be read",
			"space", s.name, "document", d.Key)
	}
	s.noteDamage("a document could not be read")
	s.mu.Lock()
	s.damage.rebuilt = true
	s.mu.Unlock()
	return s.exclusively(func(snap store.Snapshot) error {
		return s.state.Rebuild(snap, s.r.store.Commit, docs)
	})
}

// noteDamage remembers that something stored is not what it should be, so that a repair is begun with each peer.
func (s *Space) noteDamage(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.damage
	if !d.Damaged {
		d.DamagedAt = s.r.cfg.Now()
		s.r.log.Error("something stored is damaged; it is repaired from a connected peer, and `anabranch doctor` shows what is wrong",
			"space", s.name, "what", what)
	}
	d.Damaged, d.DamageWas = true, what
	select {
	case s.r.damaged <- struct{}{}:
	default:
	}
}

// damageLoop begins repairs as soon as damage is noted. Who notes it may hold the lock of a session, and does not begin them himself.
func (r *Replica) damageLoop() {
	for {
		select {
		case <-r.damaged:
		case <-r.ctx.Done():
			return
		}
		for _, ses := range r.allSessions() {
			ses.tendRepair()
		}
	}
}

// noteCorrupt notes damage that a reader or a writer met, and tells him what comes of it.
func (s *Space) noteCorrupt(err error) error {
	if err == nil || !errors.Is(err, docstore.ErrCorrupt) || errors.Is(err, ErrDamaged) {
		return err
	}
	s.noteDamage(err.Error())
	return fmt.Errorf("%w: %w", err, ErrDamaged)
}

// ErrDamaged is wrapped by the errors of reads and writes that meet something stored that cannot be read.
var ErrDamaged = errors.New("what a connected peer has of it comes back by itself; `anabranch doctor` shows what is damaged")

// unreadable notes damage that keeps something from being sent, and turns it into what a session goes on after, so that the peer can
// mend it.
func (s *Space) unreadable(err error) error {
	if !errors.Is(err, docstore.ErrCorrupt) {
		return err
	}
	s.noteDamage(err.Error())
	return fmt.Errorf("%w: %w", protocol.ErrUnreadable, err)
}

// noteRepaired tells how a repair ended, puts right what derives from the documents if they were damaged, and has the digests
// compared again.
func (ses *session) noteRepaired(ctx context.Context, o protocol.RepairOutcome) {
	s, r := ses.space, ses.space.r
	if !o.ByPeer {
		ses.mu.Lock()
		ses.repair.going = false
		ses.mu.Unlock()
	}
	if o.Err != nil {
		r.log.Warn("a repair ended early", "space", s.name, "peer", ses.conn.peer, "by_peer", o.ByPeer, "error", o.Err)
		if !o.ByPeer {
			ses.noteError(fmt.Errorf("repair: %w", o.Err))
		}
		return
	}
	if err := ses.verifyRepair(ctx); err != nil {
		r.log.Error("what derives from the documents could not be put right", "space", s.name, "error", err)
		return
	}
	s.mu.Lock()
	s.damage.Repairs++
	s.damage.Documents += int64(o.Changed + o.Damaged)
	s.damage.Last = r.cfg.Now()
	st := s.peerState(ses.conn.peer)
	st.repairedAt, st.repaired = r.cfg.Now(), st.repaired+int64(o.Changed+o.Damaged)
	s.mu.Unlock()
	r.log.Info("repaired", "space", s.name, "peer", ses.conn.peer, "by_peer", o.ByPeer,
		"changed", o.Changed, "remade", o.Damaged, "sent", o.Sent)
	ses.mu.Lock()
	ses.proto.CompareDigests()
	ses.mu.Unlock()
	ses.poke()
}

// verifyRepair ends the damage of the space, if it has any: what still cannot be read is dropped, for the peer has nothing of it, and
// another peer that has will bring it back; and what derives from the documents is made what it should be.
func (ses *session) verifyRepair(ctx context.Context) error {
	s := ses.space
	s.mu.Lock()
	damaged := s.damage.Damaged
	s.mu.Unlock()
	if !damaged {
		return nil
	}
	var broken []crdt.DocumentDelta
	err := s.view(ctx, func(snap store.Snapshot) (err error) {
		broken, err = docstore.Broken(ctx, snap, s.number)
		return err
	})
	if err != nil {
		return err
	}
	if len(broken) > 0 {
		if err := s.rebuild(broken); err != nil {
			return err
		}
	}
	report, err := s.repair(ctx, docstore.VerifyOptions{})
	if err != nil {
		return err
	}
	for _, p := range report.Problems {
		if !p.Derived {
			return fmt.Errorf("%s: %w", p, docstore.ErrCorrupt)
		}
	}
	s.mu.Lock()
	s.damage.Damaged, s.damage.rebuilt = false, false
	s.mu.Unlock()
	return nil
}

// mendBroken makes anew what cannot be read, so that what failed because of that can be done. It returns what stands in the way
// still. What peers have of those documents comes back in a repair.
func (s *Space) mendBroken(why error) error {
	var broken []crdt.DocumentDelta
	err := s.view(s.r.ctx, func(snap store.Snapshot) (err error) {
		broken, err = docstore.Broken(s.r.ctx, snap, s.number)
		return err
	})
	if err != nil || len(broken) == 0 {
		return errors.Join(why, err)
	}
	return s.rebuild(broken)
}
