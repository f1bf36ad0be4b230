package replica

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// sourcePatience is how long the source of a snapshot may be gone, while other peers are there, before another is
// asked from the beginning.
const sourcePatience = time.Minute

// rejoin is what a space remembers of its source beside the mark in the store.
type rejoin struct {
	choosing sync.Mutex // held while a source is chosen, so that one is asked at a time
	seen     time.Time  // when the source was connected last; guarded by choosing
}

// chooseSource asks a peer for a snapshot if one is needed and none is under way. It is called whenever that may have become so, with
// no lock held.
func (s *Space) chooseSource() {
	s.rejoin.choosing.Lock()
	defer s.rejoin.choosing.Unlock()
	mark, firm := s.rejoining()
	s.mu.Lock()
	sessions := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		sessions = append(sessions, ses)
	}
	s.mu.Unlock()
	now := s.r.cfg.Now()
	if s.rejoin.seen.IsZero() {
		s.rejoin.seen = now
	}
	candidates := make([]protocol.Candidate, len(sessions))
	for i, ses := range sessions {
		candidates[i] = ses.candidate(firm)
		if mark != nil && candidates[i].Peer == mark.Source {
			s.rejoin.seen = now
		}
	}
	source := PeerID{}
	if mark != nil {
		source = mark.Source
	}
	lost := now.Sub(s.rejoin.seen) > sourcePatience
	i, startOver := protocol.ChooseSource(candidates, mark != nil, source, lost)
	if startOver {
		s.r.log.Warn("the snapshot that was being taken is given up: its source is gone, or takes one itself", "space", s.name, "source", source)
		s.abandonSnapshot()
	}
	if i < 0 {
		return
	}
	s.rejoin.seen = now
	sessions[i].askSnapshot()
}

// rejoining returns a copy of the mark of the snapshot that is being merged, nil if there is none, and what is here whole by now.
func (s *Space) rejoining() (*docstore.Rejoin, crdt.VersionVector) {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	firm := s.state.Firm().Clone()
	m := s.state.Rejoining()
	if m == nil {
		return nil, firm
	}
	mark := *m
	return &mark, firm
}

func (s *Space) abandonSnapshot() {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	s.state.AbandonSnapshot()
	r.group.part(s)
	r.poke()
}

func (ses *session) candidate(firm crdt.VersionVector) protocol.Candidate {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	return ses.proto.Candidate(ses.conn.peer, firm)
}

// askSnapshot asks the peer for what is missing of a snapshot.
func (ses *session) askSnapshot() {
	s := ses.space
	ses.mu.Lock()
	offered := ses.proto.OfferedStable()
	ses.mu.Unlock()
	q := s.snapshotRequest(offered)
	s.r.log.Info("asking for a snapshot", "space", s.name, "peer", ses.conn.peer, "from", q.From.Key)
	ses.mu.Lock()
	ses.proto.AskSnapshot(q)
	ses.mu.Unlock()
	ses.poke()
}

// snapshotRequest says what is missing of a snapshot, and what is here already. No lock is held while that is read, so it may have
// changed when it is merged.
func (s *Space) snapshotRequest(offered crdt.VersionVector) protocol.SnapshotRequest {
	s.r.mu.Lock()
	q := s.state.SnapshotRequest()
	from, stable, ok := s.state.KnownFrom(offered)
	s.r.mu.Unlock()
	if !ok {
		return q
	}
	snap, err := s.r.store.Snapshot()
	if err == nil {
		defer snap.Close()
		q.Known, err = docstore.ReadKnownRanges(s.r.ctx, snap, s.number, rand.Uint64()|1, stable, from, docstore.UsualGrain())
	}
	if err != nil {
		s.r.log.Warn("what is here cannot be told: the snapshot brings all of it", "space", s.name, "error", err)
	}
	return q
}

func (ses *session) isFetching() bool {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	return ses.proto.IsFetching()
}

func (ses *session) dropSnapshot() {
	ses.mu.Lock()
	ses.proto.DropSnapshot()
	ses.mu.Unlock()
}

// doSnapshot does what a step asks for that concerns snapshots.
func (ses *session) doSnapshot(step protocol.Step) error {
	var err error
	switch {
	case step.Begun != nil:
		err = ses.space.beginSnapshot(ses.conn.peer, step.Begun)
	case step.Piece != nil:
		err = ses.mergePiece(step.Piece)
	case step.Offered:
		ses.space.chooseSource()
	}
	var drift *hlc.DriftError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, docstore.ErrGap):
		ses.askSnapshot()
		return nil
	case errors.As(err, &drift):
		ses.noteError(fmt.Errorf("a snapshot is refused: %w", err)) // asked for again in a while
		ses.dropSnapshot()
		return nil
	}
	return fmt.Errorf("merge a snapshot: %w", err)
}

func (s *Space) beginSnapshot(source PeerID, b *protocol.SnapshotBegin) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return err
	}
	m, err := s.state.BeginSnapshot(source, b, r.self, r.checkClock)
	if err != nil {
		return err
	}
	s.noteMerged(m)
	return nil
}

// noteMerged keeps the books of what came in a snapshot. It is called with r.mu held.
func (s *Space) noteMerged(m docstore.Merged) {
	r := s.r
	if m.Foreign {
		r.doubtIdentity(s.name, "a snapshot names writes of it that are not here")
	}
	r.clock.Observe(m.Max)
	s.noteNamed(m.Own)
	r.group.part(s).snapshot = true
	r.poke()
}

// mergePiece merges a piece of a snapshot, in as many groups as it takes. It does not wait until they are durable.
func (ses *session) mergePiece(p *protocol.Piece) error {
	for {
		m, err := ses.space.mergePieceStep(ses.conn.peer, p)
		if errors.Is(err, docstore.ErrCorrupt) {
			if err = ses.space.mendBroken(err); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		if m.End {
			ses.dropSnapshot()
			ses.space.r.log.Info("the snapshot is through", "space", ses.space.name, "peer", ses.conn.peer)
			ses.space.chooseSource()
		}
		if !m.Partial {
			if p.AsksOn && m.New {
				ses.askSnapshot()
			}
			return nil
		}
	}
}

func (s *Space) mergePieceStep(peer PeerID, p *protocol.Piece) (docstore.MergedPiece, error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.waitForRoom(); err != nil {
		return docstore.MergedPiece{}, err
	}
	if err := s.mayMerge(peer); err != nil {
		return docstore.MergedPiece{}, err
	}
	over, err := r.overlay()
	if err != nil {
		return docstore.MergedPiece{}, err
	}
	defer over.Snapshot.Close()
	m, err := s.state.MergePiece(over, r.group.batch, p, r.self, r.checkClock)
	if m.New {
		s.noteMerged(m.Merged)
		r.group.part(s).risen.Join(m.Risen)
	}
	return m, err
}
