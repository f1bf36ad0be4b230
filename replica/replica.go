package replica

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Errors that a program may want to tell apart with errors.Is; those of package store (in use, damaged, no
// space, read-only, newer format) and of package crdt (limits, keys, paths, values) come as they are.
var (
	ErrNotFound = errors.New("document not found")
	ErrClosed   = errors.New("replica is closed")
	ErrSpace    = errors.New("invalid space name")
	ErrCursor   = errors.New("cursor cannot be served: read from the beginning")
)

// Replica is one node's copy of its spaces, and the exchange with its peers. Its methods may be called
// from several goroutines.
type Replica struct {
	cfg    Config
	log    *slog.Logger
	store  store.Store
	anchor string // of the undisturbed store; "" if it is in doubt
	feed   uint64 // names this life of the store's arrival numbers, for cursors

	ctx    context.Context // of everything that runs until Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // held for each change of the state, never while waiting for the disk
	clock    hlc.Clock
	self     crdt.ReplicaID // zero until the first write, and after a doubt
	spaces   map[string]*Space
	byNumber map[uint32]*Space
	owned    map[SpaceID]*Space  // those with a key
	dropped  map[string]struct{} // names of spaces that were removed, and are not kept again when a peer offers them
	group    *group              // of changes that are not being committed yet
	inFlight *group              // being committed; nil if none is
	last     *group              // that was or is being committed; nil at first
	roomy    *sync.Cond          // on mu: the group was taken
	paused   bool                // quiesce waits until the group is committed: it takes no more
	closed   bool

	wake      chan struct{} // for the committer; holds one
	gatherer  gatherer
	committed chan struct{} // closed when the committer has ended
	large     chan struct{} // holds one for each large frame that is being taken
	repairing chan struct{} // held while something reads or merges for a repair
	damaged   chan struct{} // for damageLoop; holds one
	peers     peerTable
	clocks    atomic.Pointer[clockView] // nil while no peer is connected
	held      atomic.Pointer[[]HeldStatus]
	near      neighbours
	meter     *meter
	serving   serving
	keys      SpaceKeys
	joins     joinBudget
	closeOnce sync.Once
	closeErr  error
}

// Open opens the store, or makes a new one, and begins to reach peers if there is a transport.
func Open(cfg Config) (*Replica, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	st, anchor, err := cfg.openStore()
	if err != nil {
		return nil, err
	}
	return openWith(cfg, st, anchor)
}

// openWith opens a Replica on a store, which it owns from here on.
func openWith(cfg Config, st store.Store, anchor string) (*Replica, error) {
	r := &Replica{
		cfg: cfg, log: cfg.Logger, store: st, anchor: anchor,
		spaces: make(map[string]*Space), byNumber: make(map[uint32]*Space), owned: make(map[SpaceID]*Space), keys: cfg.spaceKeys(),
		group: newGroup(), wake: make(chan struct{}, 1), committed: make(chan struct{}),
		large: make(chan struct{}, largeFrames), repairing: make(chan struct{}, 1), damaged: make(chan struct{}, 1), meter: newMeter(),
	}
	r.roomy = sync.NewCond(&r.mu)
	if err := r.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", cfg.describe(), err), r.store.Close())
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go r.commitLoop()
	r.resumeRemovals()
	r.wg.Go(r.forgetLoop)
	if cfg.Transport != nil {
		r.startNetwork()
	}
	return r, nil
}

func (c Config) describe() string {
	if c.Dir == "" {
		return "a store in memory"
	}
	return c.Dir
}

// openStore returns the store and its anchor. A store in memory lives and dies with its Replica: nothing can
// disturb it.
func (c Config) openStore() (store.Store, string, error) {
	if c.Dir == "" {
		return memstore.New(), "memory", nil
	}
	s, err := badgerstore.Open(badgerstore.Options{
		Dir:           c.Dir,
		Sync:          badgerstore.SyncMode(c.Sync),
		Interval:      c.SyncInterval,
		MemTableBytes: c.MemTableBytes,
		Logger:        c.Logger,
	})
	if err != nil {
		return nil, "", err
	}
	return s, string(s.Anchor()), nil
}

// load reads what is kept in memory: the vectors and counters of each space, and the identity.
func (r *Replica) load() error {
	snap, err := r.store.Snapshot()
	if err != nil {
		return err
	}
	defer snap.Close()
	r.loadNeighbours(snap)
	numbers, err := docstore.Spaces(snap)
	if err != nil {
		return err
	}
	for name, number := range numbers {
		s, err := r.loadSpace(snap, name, number)
		if err != nil {
			return fmt.Errorf("space %q: %w", name, err)
		}
		r.spaces[name], r.byNumber[number] = s, s
		if s.trust != nil {
			r.owned[s.trust.id] = s
		}
		r.clock.Observe(s.state.Horizon().Max())
	}
	if err := r.loadRemovals(snap); err != nil {
		return err
	}
	id, err := docstore.LoadIdentity(snap)
	if err != nil {
		return err
	}
	if r.anchor != "" && id.Anchor == r.anchor {
		r.self, r.feed = id.Replica, id.Feed
		return nil
	}
	return r.beginLife(id)
}

// beginLife starts a new life of a store that was disturbed, or may have been: it writes under another ReplicaID,
// so that no dot is used twice, and its cursors have another name from here on.
func (r *Replica) beginLife(former docstore.Identity) error {
	r.feed = uint64(randomReplicaID())
	b := new(store.Batch)
	docstore.PutIdentity(b, docstore.Identity{Feed: r.feed, Anchor: r.anchor})
	for _, s := range r.spaces {
		if former.Feed != 0 {
			s.lives = append(s.lives, docstore.Life{Feed: former.Feed, Arrival: s.state.Arrival()})
			docstore.PutLives(b, s.number, s.lives)
		}
	}
	return r.store.Commit(b)
}

// Close ends the exchange with peers, waits for commits in progress, and closes the store. Calls in progress end with
// ErrClosed.
func (r *Replica) Close() error {
	r.closeOnce.Do(func() {
		r.peers.mu.Lock() // nobody is between looking at ctx and starting a goroutine
		r.cancel()
		r.peers.mu.Unlock()
		if r.cfg.Transport != nil {
			r.closeErr = r.cfg.Transport.Close()
		}
		r.wg.Wait()
		r.readyNeighbours(true)
		r.mu.Lock()
		r.closed = true
		limit := r.group.batch.Bytes() + membersBytes
		for _, s := range r.spaces {
			s.storeMembers(r.group.batch, limit, true)
		}
		r.near.storeNeighbours(r.group.batch)
		r.roomy.Broadcast()
		r.mu.Unlock()
		r.poke()
		<-r.committed
		r.closeErr = errors.Join(r.closeErr, r.store.Close())
	})
	return r.closeErr
}

// Space returns the named space, and makes it if it is new, as one without a key (see CreateSpace). A name is 1 to MaxSpaceNameBytes bytes of
// UTF-8; a space with a key can also be named by its ID.
func (r *Replica) Space(name string) (*Space, error) {
	if id, err := ParseSpaceID(name); err == nil {
		if s := r.ownedSpace(id); s != nil {
			return s, nil
		}
	}
	if err := checkSpaceName(name); err != nil {
		return nil, err
	}
	r.mu.Lock()
	if s, ok := r.spaces[name]; ok {
		r.mu.Unlock()
		return s, nil
	}
	if err := r.waitForRoom(); err != nil {
		r.mu.Unlock()
		return nil, err
	}
	if s, ok := r.spaces[name]; ok { // made while we waited
		r.mu.Unlock()
		return s, nil
	}
	if len(r.spaces) == MaxSpaces {
		r.mu.Unlock()
		return nil, &crdt.LimitError{What: "store", Size: MaxSpaces + 1, Limit: MaxSpaces, Unit: "spaces"}
	}
	s, g, err := r.makeSpace(name)
	r.mu.Unlock()
	if err != nil {
		return nil, err
	}
	r.poke()
	if err := g.wait(); err != nil {
		return nil, fmt.Errorf("make space %q: %w", name, err)
	}
	r.offerSpace(s)
	return s, nil
}

// Lookup returns the space of that name, or of that ID, if it is here. It makes none.
func (r *Replica) Lookup(name string) (*Space, bool) {
	if id, err := ParseSpaceID(name); err == nil {
		s := r.ownedSpace(id)
		return s, s != nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.spaces[name]
	return s, ok
}

// makeSpace is called with mu held.
func (r *Replica) makeSpace(name string) (*Space, *group, error) {
	number := uint32(1)
	for n := range r.byNumber {
		number = max(number, n+1)
	}
	snap, err := r.store.Snapshot()
	if err != nil {
		return nil, nil, err
	}
	defer snap.Close()
	if number, err = docstore.UnusedNumber(snap, number); err != nil {
		return nil, nil, err
	}
	s, err := r.loadSpace(snap, name, number)
	if err != nil {
		return nil, nil, err
	}
	docstore.PutSpace(r.group.batch, name, number)
	if _, ok := r.dropped[name]; ok {
		delete(r.dropped, name)
		docstore.ForgetDropped(r.group.batch, name)
	}
	r.group.made = append(r.group.made, s)
	r.spaces[name], r.byNumber[number] = s, s
	return s, r.group, nil
}

// forget takes a space out of all tables. It is called with mu held.
func (r *Replica) forget(s *Space) {
	delete(r.spaces, s.name)
	delete(r.byNumber, s.number)
	if s.trust != nil {
		delete(r.owned, s.trust.id)
	}
}

// Spaces returns the names of the spaces, sorted.
func (r *Replica) Spaces() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.spaces))
}

// ReplicaID returns the present ReplicaID; zero if none was drawn since the store was opened, moved or restored.
func (r *Replica) ReplicaID() crdt.ReplicaID {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self
}

// Usage returns the space that the store takes, about.
func (r *Replica) Usage() store.Usage { return r.store.Usage() }

// identify makes sure that there is a ReplicaID to write under. It is called with mu held, before a write
// goes into the group.
func (r *Replica) identify() {
	if r.self != 0 {
		return
	}
	r.self = r.cfg.NewReplicaID()
	docstore.PutIdentity(r.group.batch, docstore.Identity{Replica: r.self, Feed: r.feed, Anchor: r.anchor})
}

// doubtIdentity gives the present ReplicaID up, because something shows that this store has lost writes of it. It is
// called with mu held. The doubt is stored with the next group: after a crash what gave rise to it may be gone,
// as the lost writes were fetched meanwhile.
func (r *Replica) doubtIdentity(space, why string) {
	if r.self == 0 {
		return
	}
	docstore.PutIdentity(r.group.batch, docstore.Identity{Feed: r.feed, Anchor: r.anchor})
	for _, s := range r.spaces {
		s.state.Doubt(r.group.batch)
		r.group.part(s)
	}
	r.log.Warn("this store has lost writes of its own, as after restoring a backup; it goes on under a new replica ID and fetches them from peers",
		"space", space, "replica", r.self, "reason", why)
	r.self = 0
}

// now is a physical reading as a Time.
func (r *Replica) now() hlc.Time { return hlc.FromWall(r.cfg.Now()) }

// checkClock refuses times that are too far in the future.
func (r *Replica) checkClock(t hlc.Time) error { return hlc.Check(t, r.now(), r.cfg.MaxDrift) }

func (r *Replica) poke() {
	select {
	case r.wake <- struct{}{}:
	default: // one is waiting already
	}
}
