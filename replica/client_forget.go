package replica

import "time"

const (
	// clientMemory is how long a client's record is kept after its last transaction. A client that comes back with older ones
	// counts as new, and one that it gave before may be made again.
	clientMemory = 400 * 24 * time.Hour
	// clientsEvery is how often records are looked through, beside once after opening.
	clientsEvery = 24 * time.Hour
	// clientKeys bounds the records that one step looks at, under the lock of all writes.
	clientKeys = 512
)

// forgettingClients is how far the records of a space's clients are looked through.
type forgettingClients struct {
	next []byte    // where the next step begins; nil: at the first
	done time.Time // when the last was looked at; zero: never
}

// forgetClients looks through a part of what is kept of clients, and drops what has not been used for long.
func (s *Space) forgetClients(f *forgettingClients, now time.Time) error {
	if f.next == nil && !f.done.IsZero() && now.Sub(f.done).Abs() < clientsEvery {
		return nil
	}
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.spaces[s.name] != s || r.clocks.Load().isAhead() {
		return nil
	}
	if err := r.waitForRoom(); err != nil {
		return err
	}
	over, err := r.overlay()
	if err != nil {
		return err
	}
	defer over.Snapshot.Close()
	before := r.group.batch.Len()
	f.next, err = s.state.ForgetClients(over, f.next, now.Add(-clientMemory).UnixMilli(), clientKeys)
	if err != nil {
		return err
	}
	if f.next == nil {
		f.done = now
	}
	if r.group.batch.Len() > before {
		r.poke()
	}
	return nil
}
