package replica

import "time"

// A peer that sends on without waiting to be acknowledged lets small deltas come in while the one before is being committed, and each would
// be a commit of its own. So they wait until gatherDeltas are together, for as long at most as so many commits take. A delta that comes when
// nothing is being committed, out of no such stream, and all that a caller here waits for, is committed at once. So is one that comes once
// the commit before is told to others: it may be the answer to that, and more may not come before it is answered too.
const (
	gatherDeltas  = 4
	minGatherTime = 2 * time.Millisecond
	maxGatherTime = 20 * time.Millisecond
	// A group of more entries is worth a commit.
	gatherEntries = 64
	// A peer whose few writers wait to be acknowledged never has so many deltas under way, and waiting for them only makes its writers
	// slow. So after a wait in vain the committer does not wait after one commit, after the next one after three, then seven, and so on up to this.
	gatherPause = 4095
)

// gatherer belongs to the committer, but for on.
type gatherer struct {
	on        bool // with Replica.mu held: the committer waits, and is woken only once it should go on
	timer     *time.Timer
	streaming bool      // the last wait was not in vain
	committed time.Time // when the last commit ended
	took      time.Duration
	overlaps  bool // a delta came during that commit
	vain      int  // the last pause; halved by each wait that was not in vain
	pause     int  // so many commits more are not waited after
}

// longest is how long the committer waits at most.
func (g *gatherer) longest() time.Duration {
	return min(max(gatherDeltas*g.took, minGatherTime), maxGatherTime)
}

// gatherNext waits for more of the first that comes after a commit, if that is soon and out of a stream.
func (r *Replica) gatherNext() {
	if g := &r.gatherer; g.streaming && time.Since(g.committed) < g.longest() {
		r.gather()
	}
}

// noteCommit notes a commit that has just ended, before anybody is told of it.
func (g *gatherer) noteCommit(began time.Time, overlaps bool) {
	g.committed = time.Now()
	g.took = g.committed.Sub(began)
	g.overlaps = overlaps
}

// gatherMore waits for more of what came in while a group was being committed.
func (r *Replica) gatherMore() {
	switch g := &r.gatherer; {
	case g.pause > 0:
		g.pause--
	case g.overlaps || g.streaming:
		r.gather()
	}
}

func (r *Replica) gather() {
	g := &r.gatherer
	waiting := r.isWorthWaiting()
	if !waiting {
		return
	}
	if g.timer == nil {
		g.timer = time.NewTimer(g.longest())
	} else {
		g.timer.Reset(g.longest())
	}
	late := false
	for waiting {
		select {
		case <-r.wake:
			waiting = r.isWorthWaiting()
		case <-g.timer.C:
			waiting, late = false, true
		}
	}
	g.timer.Stop()
	r.mu.Lock()
	g.on = false
	enough := r.group.deltas >= gatherDeltas
	r.mu.Unlock()
	switch {
	case enough:
		g.streaming, g.vain = true, g.vain/2
	case late:
		g.streaming, g.vain = false, min(2*g.vain+1, gatherPause)
		g.pause = g.vain
	}
}

// isWorthWaiting also sets gatherer.on.
func (r *Replica) isWorthWaiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gatherer.on = r.mayGather()
	return r.gatherer.on
}

// mayGather reports whether the group holds nothing but deltas of peers, and few of them. It is called with mu held.
func (r *Replica) mayGather() bool {
	g := r.group
	return r.cfg.Sync == SyncAlways && !r.closed && !r.paused &&
		0 < g.deltas && g.deltas < gatherDeltas &&
		g.batch.Len() == g.deltaEntries && g.batch.Len() <= gatherEntries
}
