package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// session runs the protocol of one space over one stream: a goroutine that reads and merges, and one that
// sends what the state machine has to say whenever there may be something new.
type session struct {
	space  *Space
	conn   *peerConn
	stream Stream
	byUs   bool // we opened the stream
	began  time.Time
	left   chan struct{} // closed when the session is over

	mu        sync.Mutex
	proto     *protocol.Session
	repair    repairState
	jobs      chan struct{} // for doRepairs; holds one
	refusedAt time.Time     // when a refusal was logged last; for the reader alone
	heard     bool          // what the peer opened the session with was noted
	owned     uint64        // the version of the notes that the state machine knows

	inbox   sync.Mutex // guards what follows; held for moments only, so that a commit never waits for a peer
	state   protocol.State
	risen   crdt.VersionVector
	advised bool
	wake    chan struct{} // for the sender; holds one
	ending  atomic.Bool   // the sender stops after what it sends now

	trust sessionTrust // of a space with a key
}

// refusalTimeout is how long the last frame of a session that is refused may take.
const refusalTimeout = 2 * time.Second

// sendBatchBytes is how much a sender collects for one write to the stream.
const sendBatchBytes = 256 << 10

func newSession(s *Space, conn *peerConn, stream Stream, byUs bool) *session {
	return &session{space: s, conn: conn, stream: stream, byUs: byUs, began: time.Now(), wake: make(chan struct{}, 1), jobs: make(chan struct{}, 1), left: make(chan struct{})}
}

// advance tells the session that more is durable. It is called with space.mu held.
func (ses *session) advance(state protocol.State, risen crdt.VersionVector) {
	ses.inbox.Lock()
	ses.state, ses.advised = state, true
	ses.risen.Join(risen)
	ses.inbox.Unlock()
	ses.poke()
}

func (ses *session) poke() {
	select {
	case ses.wake <- struct{}{}:
	default:
	}
}

// takeAdvice passes on the time and what advance left. It is called with mu held.
func (ses *session) takeAdvice() {
	ses.proto.Tick(time.Since(ses.began))
	ses.inbox.Lock()
	defer ses.inbox.Unlock()
	if !ses.advised {
		return
	}
	risen := make([]crdt.Dot, 0, ses.risen.Len())
	for d := range ses.risen.All() {
		risen = append(risen, d)
	}
	ses.proto.Advance(ses.state, risen)
	ses.advised, ses.risen = false, crdt.VersionVector{}
}

// run exchanges until the stream or ctx ends, and returns why.
func (ses *session) run(ctx context.Context) error {
	s := ses.space
	if err := ses.enter(); err != nil {
		return err
	}
	defer s.evictRevoked(ses.conn.peer)
	defer ses.leave()
	s.awaitReceived()
	ses.begin()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sent := make(chan error, 1)
	go func() {
		err := ses.send(ctx)
		if err != nil { // ends the reader too
			_ = ses.stream.Close(closeCodeOf(err))
		}
		sent <- err
	}()
	var repairs sync.WaitGroup
	defer repairs.Wait()
	defer cancel()
	repairs.Go(func() { ses.doRepairs(ctx) })
	err := ses.receive()
	var refused *refusalError
	if errors.As(err, &refused) { // its frame goes out first, unless the peer does not read
		ses.ending.Store(true)
		ses.poke()
		stop := time.AfterFunc(refusalTimeout, func() { _ = ses.stream.Close(CloseRefused) })
		ended := <-sent
		stop.Stop()
		sent <- ended
	}
	_ = ses.stream.Close(closeCodeOf(err)) // before the sender ends, which would close it as if nothing were wrong
	cancel()
	if serr := <-sent; serr != nil && !errors.Is(serr, context.Canceled) && !isClose(serr) {
		return serr
	}
	return err
}

func (ses *session) leave() {
	s := ses.space
	defer s.chooseSource() // it may have been the one from which a snapshot came
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ses)
	close(ses.left)
	st := s.peerState(ses.conn.peer)
	st.connected--
	s.members.Leave(ses.conn.peer, s.r.cfg.Now())
	st.level = false
}

// endSessions ends all sessions of the space: what they received is lost, and the peers believe it sent. They start
// again, after a while, from what is durable here.
func (s *Space) endSessions(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ses := range s.sessions {
		st := s.peerState(ses.conn.peer)
		st.lastError, st.errorAt = why.Error(), s.r.cfg.Now()
		go ses.stream.Close(CloseInternal)
	}
}

// refusalError ends a session after the refusal went out.
type refusalError struct{ err error }

func (e *refusalError) Error() string { return e.err.Error() }
func (e *refusalError) Unwrap() error { return e.err }

func closeCodeOf(err error) CloseCode {
	var refused *refusalError
	var closed *CloseError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
		return CloseDone
	case errors.Is(err, errNoGrant):
		return CloseNoGrant
	case errors.As(err, &refused):
		return CloseRefused
	case errors.As(err, &closed):
		return closed.Code
	case errors.Is(err, docstore.ErrMalformed):
		return CloseMalformed
	}
	return CloseInternal
}

func isClose(err error) bool {
	var closed *CloseError
	return errors.As(err, &closed) || errors.Is(err, io.EOF)
}

// send pulls messages from the state machine and writes them, many at once where many wait.
func (ses *session) send(ctx context.Context) error {
	src := &source{space: ses.space, peer: ses.conn.peer}
	defer src.closeSnapshot()
	for {
		frames, err := ses.collect(src)
		if err != nil {
			return err
		}
		if len(frames) > 0 {
			if err := ses.stream.WriteFrames(frames...); err != nil {
				return err
			}
			ses.pokeRepairs() // the end of one may have been sent
		}
		if ses.ending.Load() {
			return nil
		}
		if src.wantsNote {
			src.wantsNote = false
			if err := ses.space.note(ses.conn.peer); err != nil {
				return err
			}
		}
		if len(frames) > 0 {
			continue
		}
		ses.noteLevel()
		if err := ses.idle(ctx); err != nil {
			return err
		}
	}
}

// idle returns when there may be something to send.
func (ses *session) idle(ctx context.Context) error {
	ses.mu.Lock()
	at, ok := ses.proto.Due()
	ses.mu.Unlock()
	var due <-chan time.Time
	if ok {
		timer := time.NewTimer(time.Until(ses.began.Add(at)))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ses.wake:
	case <-due:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

func (ses *session) collect(src *source) ([][]byte, error) {
	ses.mu.Lock()
	defer ses.mu.Unlock()
	ses.takeAdvice()
	ses.takeNotes()
	frames, open, err := ses.collectGrants()
	if err != nil || !open {
		return frames, err
	}
	size := 0
	for size < sendBatchBytes {
		src.frame = nil
		m, err := ses.proto.Next(src)
		if err != nil {
			return nil, err
		}
		if m == nil {
			break
		}
		frame := src.frame
		if frame == nil {
			if frame, err = ses.space.r.cfg.Transport.Marshal(nil, m); err != nil {
				return nil, fmt.Errorf("frame a %T: %w", m, err)
			}
		}
		frames = append(frames, frame)
		size += len(frame)
	}
	return frames, nil
}

// receive reads and merges. It does not wait for the disk: what waits together is synced together, and
// acknowledged when it is durable.
func (ses *session) receive() error {
	for {
		frame, err := ses.stream.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := ses.take(frame); err != nil {
			return err
		}
	}
}

// largeFrame is from what size on a frame is taken in turn with those of other sessions: parsed and unpacked it may be much larger, and
// a crowd of peers could fill the memory with what is needed for moments.
const (
	largeFrame  = 16 << 10
	largeFrames = 2 // at once
)

// take merges, or takes note of, one frame.
func (ses *session) take(frame []byte) error {
	r := ses.space.r
	if len(frame) >= largeFrame {
		select {
		case r.large <- struct{}{}:
			defer func() { <-r.large }()
		case <-r.ctx.Done():
			return ErrClosed
		}
	}
	m, err := r.cfg.Transport.Unmarshal(frame) // it keeps the frame, and so does the live cache
	if err != nil {
		return fmt.Errorf("%w: %w", docstore.ErrMalformed, err)
	}
	if m == nil {
		return nil // of a newer minor version
	}
	if g, ok := m.(*protocol.Grants); ok {
		return ses.receiveGrants(g)
	}
	if m, err = ses.permit(m); m == nil || err != nil {
		return err
	}
	ses.mu.Lock()
	ses.takeAdvice()
	step, err := ses.proto.Receive(m)
	ses.hear()
	ses.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%w: %w", docstore.ErrMalformed, err)
	}
	return ses.do(step, frame)
}

// do does what a step asks for, in the order of its fields.
func (ses *session) do(step protocol.Step, frame []byte) error {
	s := ses.space
	if step.Merge != nil {
		d := &liveDelta{message: step.Merge, frame: frame, from: ses.conn.peer}
		err := s.merge(d)
		if errors.Is(err, docstore.ErrCorrupt) {
			if err = s.mendBroken(err); err == nil {
				err = s.merge(d)
			}
		}
		if err != nil {
			return ses.refuse(step.Merge, err)
		}
		if d.known {
			ses.mu.Lock()
			ses.proto.Surplus(step.Merge)
			ses.mu.Unlock()
		}
	}
	if err := ses.doSnapshot(step); err != nil {
		return err
	}
	if step.LostWrites {
		s.r.mu.Lock()
		s.r.doubtIdentity(s.name, "peer "+ses.conn.peer.Short()+" holds more of it than this store")
		s.r.mu.Unlock()
		s.r.poke()
	}
	if step.Acked {
		ses.noteAcked()
	}
	if len(step.Members) > 0 {
		s.learnMembers(step.Members)
	}
	if step.Refused != nil {
		ses.noteRefused(step.Refused)
	}
	if step.Clock != nil {
		ses.takeClock(step.Clock)
	}
	if step.Compared != protocol.NotCompared {
		ses.noteCompared(step.Compared, step.Lasting)
	}
	ses.poke()
	ses.pokeRepairs()
	return nil
}

// refuse tells the peer why its delta was not merged. Only what the peer can mend goes on: a gap, a clock that is
// ahead, and a delta that says too little.
func (ses *session) refuse(d *protocol.Delta, err error) error {
	var drift *hlc.DriftError
	var open *docstore.OpenError
	code := protocol.RefusedInternal
	text := "it could not be stored"
	switch {
	case errors.Is(err, docstore.ErrGap):
		code, text = protocol.RefusedGap, err.Error()
	case errors.As(err, &open):
		code = protocol.RefusedOpen
	case errors.As(err, &drift):
		code, text = protocol.RefusedClock, err.Error()
		ses.noteError(fmt.Errorf("writes of replica %s refused: %w", d.Origin, err))
	case errors.Is(err, docstore.ErrMalformed):
		code, text = protocol.RefusedMalformed, err.Error()
	case errors.Is(err, errMayNotWrite):
		code, text = protocol.RefusedPermission, "this node knows of no right of yours to write in the space"
	case errors.Is(err, crdt.ErrLimit): // of this space, not of the delta
		text = err.Error()
	}
	ses.space.r.meter.refuse(refusedByUs, code)
	ses.mu.Lock()
	if open != nil {
		ses.proto.RefuseOpen(d, open.Firm, err.Error())
	} else {
		ses.proto.Refuse(d, code, text)
	}
	ses.mu.Unlock()
	if code == protocol.RefusedGap || code == protocol.RefusedClock || code == protocol.RefusedOpen {
		ses.poke()
		return nil
	}
	return &refusalError{fmt.Errorf("merge a delta of %s: %w", d.Origin, err)}
}
