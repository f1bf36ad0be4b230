package replica

import (
	"context"
	"fmt"
	"time"
)

// Check is one thing that a replica needs to be of use.
type Check struct {
	Name   string
	OK     bool
	Detail string // for people: why not, or how it is
	// Advisory checks do not make a replica unready: it takes reads and writes, and somebody should look.
	Advisory bool
}

// maxCommitTime is how long a commit may take before the disk counts as stuck.
const maxCommitTime = 30 * time.Second

// Ready reports whether the replica can read and write, check by check. It costs little and writes nothing.
func (r *Replica) Ready(ctx context.Context) []Check {
	checks := []Check{r.checkOpen(ctx), r.checkWritable(), r.checkCommits()}
	if r.cfg.Transport == nil {
		return checks
	}
	return append(checks, r.checkPeers(), r.checkOwnClock(), r.checkSpaces())
}

func passed(name, detail string) Check { return Check{Name: name, OK: true, Detail: detail} }

func failed(name string, err error) Check { return Check{Name: name, Detail: err.Error()} }

// checkOpen looks whether the store can be read.
func (r *Replica) checkOpen(ctx context.Context) Check {
	if err := r.ctx.Err(); err != nil {
		return failed("store", ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return failed("store", err)
	}
	snap, err := r.store.Snapshot()
	if err != nil {
		return failed("store", err)
	}
	snap.Close()
	return passed("store", "it can be read")
}

// checkWritable asks the store whether it would take a commit: it does not after an error of the disk, or with too little room.
func (r *Replica) checkWritable() Check {
	if w, ok := r.store.(interface{ Writable() error }); ok {
		if err := w.Writable(); err != nil {
			return failed("writable", err)
		}
	}
	return passed("writable", "it takes commits")
}

func (r *Replica) checkCommits() Check {
	if took := r.committing(); took > maxCommitTime {
		return Check{Name: "commits", Detail: fmt.Sprintf("one has not ended for %s: the disk does not answer", took.Round(time.Second))}
	}
	return passed("commits", "none is stuck")
}

func (r *Replica) checkPeers() Check {
	connected := 0
	for _, p := range r.Peers() {
		if p.Connected {
			connected++
		}
	}
	return Check{
		Name: "peers", Advisory: true, OK: connected > 0 || len(r.cfg.Peers) == 0,
		Detail: fmt.Sprintf("%d connected, %d configured", connected, len(r.cfg.Peers)),
	}
}

func (r *Replica) checkOwnClock() Check {
	c := r.Clock()
	return Check{
		Name: "clock", Advisory: true, OK: !c.Holding,
		Detail: fmt.Sprintf("ahead of %d and behind %d of %d peers; writes are held in %d spaces", c.Ahead, c.Behind, c.Peers, len(c.Held)),
	}
}

// checkSpaces looks for damage, and for replicas that have the same writes and other contents.
func (r *Replica) checkSpaces() Check {
	for _, name := range r.Spaces() {
		s, err := r.Space(name)
		if err != nil {
			return failed("spaces", err)
		}
		s.mu.Lock()
		damage := s.damage.RepairStatus
		mismatch := false
		for _, st := range s.status {
			mismatch = mismatch || st.mismatch
		}
		s.mu.Unlock()
		if damage.Damaged || mismatch {
			detail := fmt.Sprintf("space %q: a peer has the same writes and another state: run `anabranch doctor` on both", name)
			if damage.Damaged {
				detail = fmt.Sprintf("space %q is damaged: %s", name, damage.DamageWas)
			}
			return Check{Name: "spaces", Advisory: true, Detail: detail}
		}
	}
	return Check{Name: "spaces", Advisory: true, OK: true, Detail: "no damage and no mismatch is known"}
}
