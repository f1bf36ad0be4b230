package replica

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

const (
	// clockInterval is how often clocks are compared, and held writes looked at.
	clockInterval = time.Second
	disownEvery   = 60 // intervals
	// askClockEvery is how often each peer is asked for its clock, and how long an answer may take.
	askClockEvery  = 15 * time.Second
	maxClockAnswer = 10 * time.Second
	// clockMemory is how long the clock of a peer counts after it has left: so that two nodes whose clocks are wrong do not tell each other what
	// they hold, as soon as they are alone. maxClocks bounds of how many.
	clockMemory = time.Hour
	maxClocks   = 64
)

// peerClock is what is known of a peer's wall clock. It goes on by our monotonic clock, so that setting our own wall clock does
// not move it.
type peerClock struct {
	mu    sync.Mutex
	wall  time.Time // what the peer's clock read
	at    time.Time // when, by our monotonic clock
	own   time.Time // what our wall clock read then
	asked time.Time // when it was asked last
	code  uint64    // of that question; zero if it is answered
}

func (c *peerClock) set(wall, own time.Time) {
	c.mu.Lock()
	c.wall, c.own, c.at, c.code = wall, own.Round(0), time.Now(), 0
	c.mu.Unlock()
}

// now returns what the peer's clock reads.
func (c *peerClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall.Add(time.Since(c.at))
}

// ask returns the code of a question, zero if it is not time for one.
func (c *peerClock) ask() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.asked) < askClockEvery && time.Since(c.at) < askClockEvery {
		return 0
	}
	if c.code != 0 && time.Since(c.asked) < maxClockAnswer {
		return 0
	}
	c.asked, c.code = time.Now(), 1+rand.Uint64N(1<<63)
	return c.code
}

// answer takes what a peer tells of its clock. It read it about half way between question and answer.
func (c *peerClock) answer(code uint64, wall, own time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	roundTrip := time.Since(c.asked)
	if code != c.code || code == 0 || roundTrip > maxClockAnswer {
		return false
	}
	c.wall, c.own, c.at, c.code = wall.Add(roundTrip/2), own.Round(0), time.Now(), 0
	return true
}

// slept reports whether our wall clock has gone on for longer than the monotonic one: it was set forward, or the machine was asleep. What the
// clock of a peer that has left reads now is not known then.
func (c *peerClock) slept(own time.Time, drift time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return own.Round(0).Sub(c.own)-time.Since(c.at) > drift
}

// goneClock is the clock of a peer that has left.
type goneClock struct {
	clock *peerClock
	left  time.Time
}

// keepClock remembers the clock of a peer that leaves. It is called with mu held.
func (t *peerTable) keepClock(pc *peerConn) {
	pc.clock.mu.Lock()
	last := &peerClock{wall: pc.clock.wall, own: pc.clock.own, at: pc.clock.at}
	pc.clock.mu.Unlock()
	t.gone[pc.peer] = goneClock{last, time.Now()}
	if len(t.gone) <= maxClocks {
		return
	}
	var oldest PeerID
	for p, g := range t.gone {
		if o, ok := t.gone[oldest]; !ok || g.left.Before(o.left) {
			oldest = p
		}
	}
	delete(t.gone, oldest)
}

// walls returns what the clocks of the connected peers read, and of those that have left not long ago; none if nobody is connected.
func (t *peerTable) walls(own time.Time, drift time.Duration) []time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.conns) == 0 {
		return nil
	}
	walls := make([]time.Time, 0, len(t.conns)+len(t.gone))
	for _, pc := range t.conns {
		walls = append(walls, pc.clock.now())
	}
	for p, g := range t.gone {
		switch {
		case time.Since(g.left) > clockMemory || g.clock.slept(own, drift):
			delete(t.gone, p)
		case t.conns[p] == nil:
			walls = append(walls, g.clock.now())
		}
	}
	return walls
}

// clockView is what the clocks of peers come to at one moment: of those that are connected, and of those that were not long ago.
type clockView struct {
	peers         int
	wall, at      time.Time // what most peers say at least that the time is, and when it was by our monotonic clock
	ahead, behind int       // peers that this node's clock is ahead of, or behind, by more than MaxDrift
	offset        time.Duration
}

func (v *clockView) isAhead() bool  { return v != nil && 2*v.ahead > v.peers }
func (v *clockView) isBehind() bool { return v != nil && 2*v.behind > v.peers }
func (v *clockView) isSound() bool {
	return v != nil && 2*(v.ahead+v.behind) < v.peers
}

// judgeClocks compares this node's clock with those of its peers. If it is ahead of most of them, that is told, and
// nothing is sent that they would refuse.
func (r *Replica) judgeClocks() {
	now := r.cfg.Now()
	walls := r.peers.walls(now, r.cfg.MaxDrift)
	var view *clockView
	if len(walls) > 0 {
		view = &clockView{peers: len(walls), at: time.Now()}
		for _, w := range walls {
			switch d := now.Sub(w); {
			case d > r.cfg.MaxDrift:
				view.ahead++
			case d < -r.cfg.MaxDrift:
				view.behind++
			}
		}
		slices.SortFunc(walls, time.Time.Compare)
		view.wall = walls[len(walls)/2] // more than half of them have to be below the limit for it to be
		view.offset = now.Sub(view.wall)
	}
	before := r.clocks.Swap(view)
	r.tellClocks(before, view)
}

func (r *Replica) tellClocks(before, now *clockView) {
	if now == nil {
		return
	}
	attrs := []any{"by", now.offset.Round(time.Second).Abs(), "ahead_of", now.ahead, "behind", now.behind, "peers", now.peers}
	switch {
	case now.isAhead() && !before.isAhead():
		r.log.Warn("this node's clock is ahead of those of most peers: what it writes is held here until the clock is corrected, or that time has come", attrs...)
	case now.isBehind() && !before.isBehind():
		r.log.Warn("this node's clock is behind those of most peers: their writes are refused here until it is corrected", attrs...)
	case now.isSound() && (before.isAhead() || before.isBehind()):
		r.log.Info("this node's clock agrees with those of most peers again", attrs...)
	}
}

// clockLimit returns the greatest time that most peers take.
func (r *Replica) clockLimit() hlc.Time {
	v := r.clocks.Load()
	if v == nil {
		return hlc.Max
	}
	return latest(hlc.FromWall(v.wall.Add(time.Since(v.at))), r.cfg.MaxDrift)
}

// latest returns the greatest time that hlc.Check lets pass.
func latest(now hlc.Time, drift time.Duration) hlc.Time {
	return hlc.FromUnixMilli(now.UnixMilli()+drift.Milliseconds()+1) - 1
}

// clockLoop compares clocks, asks peers for theirs, and re-issues held writes once that is possible.
func (r *Replica) clockLoop() {
	for n := 1; sleep(r.ctx, clockInterval) == nil; n++ {
		r.askClocks()
		r.judgeClocks()
		for _, ses := range r.allSessions() {
			ses.resume()
			ses.noteClock()
		}
		r.noteAhead()
		r.rebase()
		if n%disownEvery == 0 {
			r.disown()
		}
	}
}

// noteClock says what is wrong with a peer whose clock is ahead: it holds what it writes, or that is refused here.
func (ses *session) noteClock() {
	ahead := ses.conn.clock.now().Sub(ses.space.r.cfg.Now())
	if ahead <= ses.space.r.cfg.MaxDrift {
		return
	}
	s := ses.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if st := s.peerState(ses.conn.peer); !st.level && st.lastError == "" {
		st.lastError = fmt.Sprintf("the clock of the peer is %s ahead of this node's, so what it writes is not taken: correct the clock that is wrong", ahead.Round(time.Second))
		st.errorAt = s.r.cfg.Now()
	}
}

// askClocks asks each peer for its clock now and then, in one of the sessions with it.
func (r *Replica) askClocks() {
	r.peers.mu.Lock()
	conns := make([]*peerConn, 0, len(r.peers.conns))
	for _, pc := range r.peers.conns {
		conns = append(conns, pc)
	}
	r.peers.mu.Unlock()
	for _, pc := range conns {
		ses := pc.anySession()
		if ses == nil {
			continue
		}
		if code := pc.clock.ask(); code != 0 {
			ses.mu.Lock()
			ses.proto.AskClock(code)
			ses.mu.Unlock()
			ses.poke()
		}
	}
}

// anySession returns a session that has begun.
func (pc *peerConn) anySession() *session {
	pc.mu.Lock()
	defer pc.mu.Unlock()
	for s, ses := range pc.open {
		s.mu.Lock()
		_, begun := s.sessions[ses]
		s.mu.Unlock()
		if begun {
			return ses
		}
	}
	return nil
}

// takeClock answers a peer's question for the clock, or takes its answer.
func (ses *session) takeClock(m *protocol.Clock) {
	r := ses.space.r
	if m.IsQuestion() {
		ses.mu.Lock()
		ses.proto.TellClock(m.Asked, r.cfg.Now())
		ses.mu.Unlock()
		return
	}
	if ses.conn.clock.answer(m.Asked, m.Wall, r.cfg.Now()) {
		r.judgeClocks()
	}
}

// ClockStatus says what the clocks of peers say of this node's. While any peer is connected, those count too that were within the last hour.
type ClockStatus struct {
	Peers  int
	Ahead  int // peers that this node's clock is ahead of by more than MaxDrift
	Behind int // peers that it is behind of by more than that
	// Offset is how far this node's clock is ahead of the one in the middle; negative if it is behind.
	Offset time.Duration
	// Sound: it agrees with most of them.
	Sound bool
	// Holding: this node's clock is ahead of most peers. Its writes stay here until it is corrected, or until their time has come.
	Holding bool
	// Held are writes that wait, by space.
	Held []HeldStatus
}

// State says in a word how this node's clock is: "sound", "ahead" or "behind" of most peers, "doubtful" if they do not agree, and "unknown"
// while none is connected.
func (c ClockStatus) State() string {
	switch {
	case c.Peers == 0:
		return "unknown"
	case c.Holding:
		return "ahead"
	case c.Sound:
		return "sound"
	case 2*c.Behind > c.Peers:
		return "behind"
	}
	return "doubtful"
}

// Clock compares this node's clock with those of its peers.
func (r *Replica) Clock() ClockStatus {
	var st ClockStatus
	if v := r.clocks.Load(); v != nil {
		st = ClockStatus{Peers: v.peers, Ahead: v.ahead, Behind: v.behind, Offset: v.offset, Sound: v.isSound(), Holding: v.isAhead()}
	}
	st.Held = r.heldStatus()
	return st
}
