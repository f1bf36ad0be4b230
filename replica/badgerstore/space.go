package badgerstore

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica/store"
)

// spaceGuard keeps writes away from a disk that is nearly full. Badger writes through memory maps of sparse files:
// where the disk has no block for a page, the kernel kills the process (SIGBUS), and again at each opening. So
// there must be room for what Badger may write before it deletes something: a log, tables, a compaction.
type spaceGuard struct {
	dir   string
	floor int64
	free  func(dir string) (int64, error)
	now   func() time.Time

	mu      sync.Mutex
	asked   time.Time // when free was last called; zero if the answer was too little
	written int64     // since then
}

// Between two looks at the disk at most this passes. Others may fill the disk in that time; what they can
// write in 100 ms and we in 4 MiB is covered by the floor.
const (
	spaceCheckEvery = 100 * time.Millisecond
	spaceCheckBytes = 4 << 20
)

func newSpaceGuard(dir string, floor int64) *spaceGuard {
	return &spaceGuard{dir: dir, floor: floor, free: freeBytes, now: time.Now}
}

// check returns store.ErrNoSpace if there is too little room to write another n bytes.
func (g *spaceGuard) check(n int) error {
	if g.floor < 0 {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.written += int64(n)
	if !g.asked.IsZero() && now.Sub(g.asked) < spaceCheckEvery && g.written < spaceCheckBytes {
		return nil
	}
	g.asked, g.written = time.Time{}, 0
	// The batch is written twice, to the log and later to a table.
	if err := g.checkFor(g.floor + 2*int64(n)); err != nil {
		return err
	}
	g.asked = now
	return nil
}

// checkFor asks the disk whether so much is free.
func (g *spaceGuard) checkFor(need int64) error {
	if g.floor < 0 {
		return nil
	}
	free, err := g.free(g.dir)
	if err != nil {
		return fmt.Errorf("ask for the free space of %s: %w", g.dir, err)
	}
	if free < need {
		return fmt.Errorf("%w: %d MiB are free, %d MiB needed: free some space on the disk of %s, writing then resumes by itself",
			store.ErrNoSpace, free>>20, (need+1<<20-1)>>20, g.dir)
	}
	return nil
}

func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
