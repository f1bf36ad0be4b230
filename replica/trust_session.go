package replica

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// A session of a space with a key begins with what each side may do there:
//
//	Grants {hash of all it knows, its own grant and those that this rests on}  ──▶
//	                                                                          ◀──  Grants {…}
//	what the other may lack, if the hashes differ                              ──▶
//	                                                                          ◀──  …
//	Vectors, Delta, Ack, …: only when each has found that the other may read
//
// What becomes known later goes out at once. So revocations come before documents, also through peers that may only read.

var (
	// errNoGrant ends a session whose peer may not read the space.
	errNoGrant = errors.New("the peer has no rights in the space")
	// errMayNotWrite refuses writes of a peer that may only read.
	errMayNotWrite = errors.New("the peer may only read the space")
)

// Bounds of what is said of rights.
const (
	// maxIntroduction bounds the first Grants of a peer, which is checked before anything is known of it.
	maxIntroduction = 64
	// grantsPerFrame are sent at once.
	grantsPerFrame = 1024
)

// sessionTrust is how far a session of a space with a key is. It is guarded by session.mu, where nothing else is said.
type sessionTrust struct {
	introduced bool // our Grants went out
	met        bool // the peer's came
	next       int  // the first statement of the set that the peer was not sent and may lack
	admitted   atomic.Bool
}

func (ses *session) isAdmitted() bool { return ses.trust.admitted.Load() }

// expel ends the session of a peer that has lost its rights: the sender says why and ends it; if it cannot, because the peer does not read, this
// does.
func (ses *session) expel() {
	time.AfterFunc(refusalTimeout, func() { _ = ses.stream.Close(CloseNoGrant) })
}

// collectGrants returns what is to be said of rights, and whether other things may be said too. It is called with mu held, after takeAdvice: what
// was written after a revocation was learnt does not go to whoever it names.
func (ses *session) collectGrants() (frames [][]byte, open bool, err error) {
	s, t := ses.space, &ses.trust
	if s.trust == nil {
		return nil, true, nil
	}
	if !t.introduced {
		t.introduced = true
		f, err := ses.frameGrants(s.introduction())
		return f, false, err
	}
	if !t.met {
		return nil, false, nil
	}
	for {
		list := s.statementsSince(t.next)
		if len(list) == 0 {
			break
		}
		f, err := ses.frameGrants(&protocol.Grants{Hash: s.statementHash(), Statements: grant.AppendAll(nil, list)})
		if err != nil {
			return nil, false, err
		}
		frames = append(frames, f...)
		t.next += len(list)
	}
	ses.proto.Mute(s.Rights() < WriteRights)
	if s.rightsOf(ses.conn.peer) >= ReadRights {
		t.admitted.Store(true)
		return frames, true, nil
	}
	if len(frames) > 0 {
		return frames, false, nil // it gets these first, which tell it why
	}
	return nil, false, errNoGrant
}

func (ses *session) frameGrants(m *protocol.Grants) ([][]byte, error) {
	frame, err := ses.space.r.cfg.Transport.Marshal(nil, m)
	if err != nil {
		return nil, fmt.Errorf("frame a %T: %w", m, err)
	}
	return [][]byte{frame}, nil
}

// introduction is the first thing to say: what gives this node its rights.
func (s *Space) introduction() *protocol.Grants {
	chain := s.permissions().Chain(s.r.me())
	return &protocol.Grants{Hash: s.statementHash(), Statements: grant.AppendAll(nil, chain)}
}

func (s *Space) statementHash() [32]byte {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	return s.trust.set.Hash()
}

func (s *Space) statementsSince(n int) []grant.Statement {
	s.trust.mu.Lock()
	defer s.trust.mu.Unlock()
	list := s.trust.set.Since(n)
	return list[:min(len(list), grantsPerFrame)]
}

// receiveGrants takes statements in. Those that cannot be taken yet, because of a clock, are sent again with the next session.
func (ses *session) receiveGrants(m *protocol.Grants) error {
	s := ses.space
	list, err := grant.ParseAll(m.Statements)
	if err == nil && s.trust == nil {
		err = errors.New("grants of a space without a key")
	}
	ses.mu.Lock()
	first := !ses.trust.met
	ses.mu.Unlock()
	if err == nil && first && len(list) > maxIntroduction {
		err = fmt.Errorf("an introduction of %d grants", len(list))
	}
	if err != nil {
		return fmt.Errorf("%w: %w", docstore.ErrMalformed, err)
	}
	switch err := s.learn(list); {
	case errors.Is(err, grant.ErrSignature), errors.Is(err, grant.ErrForeign):
		return fmt.Errorf("%w: %w", docstore.ErrMalformed, err)
	case errors.Is(err, ErrClosed), errors.Is(err, ErrSpace):
		return err
	case err != nil:
		s.r.log.Warn("grants of a peer were not taken", "space", s.name, "peer", ses.conn.peer, "reason", err)
		ses.noteError(err)
	}
	ses.mu.Lock()
	if first {
		ses.trust.met = true
		s.trust.mu.Lock()
		if m.Hash == s.trust.set.Hash() {
			ses.trust.next = s.trust.set.Len()
		}
		s.trust.mu.Unlock()
	}
	ses.mu.Unlock()
	ses.poke()
	return nil
}

// permit refuses what a peer may not say: before anything is known of it, after its rights have ended, or because it may only read. It returns what
// is to be heard of a message, nil if nothing is. What is merged is looked at once more at that moment (mayMerge).
func (ses *session) permit(m protocol.Message) (protocol.Message, error) {
	if ses.space.trust == nil {
		return m, nil
	}
	ses.mu.Lock()
	met := ses.trust.met
	ses.mu.Unlock()
	rights := ses.space.rightsOf(ses.conn.peer)
	switch {
	case !met:
		return nil, fmt.Errorf("%w: a %T came before the grants that open a session", docstore.ErrMalformed, m)
	case rights < ReadRights:
		return nil, &refusalError{errNoGrant}
	case rights < WriteRights:
		return ofReader(m)
	}
	return m, nil
}

// ofReader is permit for a peer that may only read: nothing that it says changes a document here. A Delta is let through, to be refused by
// name in merge.
func ofReader(m protocol.Message) (protocol.Message, error) {
	switch m := m.(type) {
	case *protocol.Vectors, *protocol.Opening, *protocol.Branches, *protocol.Ack, *protocol.Level, *protocol.Refusal, *protocol.Clock, *protocol.Delta,
		*protocol.SnapshotRequest, *protocol.Members, *protocol.RepairOpen, *protocol.RangeDigests, *protocol.RangeAnswer:
		return m, nil
	case *protocol.SnapshotOffer: // it cannot be taken up
		return nil, nil
	case *protocol.RangeCells: // a repair of its replica: it gets what is here, and gives nothing
		return &protocol.RangeCells{Round: m.Round, Reply: m.Reply, Spans: m.Spans}, nil
	}
	return nil, &refusalError{fmt.Errorf("%w: it sent a %T", errMayNotWrite, m)}
}

// mayMerge is called with Replica.mu held, under which rights change: nothing is merged from a peer that has lost the right to write by
// then, or into a space that was removed.
func (s *Space) mayMerge(peer PeerID) error {
	if err := s.checkHere(); err != nil {
		return err
	}
	if s.trust != nil && s.rightsOf(peer) < WriteRights {
		return errMayNotWrite
	}
	return nil
}
