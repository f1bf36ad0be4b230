package replicatest

import "time"

// stepTime is how long a step takes on the clock of the sessions, which goes on also where time stands still for dots.
const stepTime = 5 * time.Millisecond

// uptime is what the clock of the sessions says.
func (s *simulation) uptime() time.Duration {
	return time.Duration(s.counts[Steps])*stepTime + s.waited
}

// wait lets the time pass until some session has something to send because of it, and reports whether any waits.
func (s *simulation) wait() bool {
	var next time.Duration
	for _, l := range s.links {
		for _, e := range l.ends {
			if at, ok := e.session.Due(); ok && !e.broken && (next == 0 || at < next) {
				next = at
			}
		}
	}
	if next == 0 {
		return false
	}
	s.waited += max(next-s.uptime(), 0)
	return true
}
