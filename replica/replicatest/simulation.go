package replicatest

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// simulation is one run. Everything in it follows from the seed: it has one goroutine, and whatever could
// depend on the order of a map is kept in slices.
type simulation struct {
	seed     uint64
	rng      *rand.Rand
	rejoin   *rand.Rand
	known    *rand.Rand
	tells    bool   // requests of snapshots tell what is there
	tended   string // what the clocks were when the nodes looked at what waits for them last
	holding  *rand.Rand
	received map[*protocol.Delta]hlc.Time // the greatest time in each, of those that were merged somewhere
	forget   *rand.Rand                   // its own, so that histories stay what they are whether they are forgotten or not
	plan     plan
	millis   int64 // the true time
	nodes    []*node
	links    []*link
	waited   time.Duration // see uptime
	side     []int         // of the partition, for each node
	oracles  []*oracle
	carried  map[*protocol.Delta]cargo
	begun    map[*protocol.SnapshotBegin]cargo
	settles  bool                // everything is healed, and nothing goes wrong
	past     [][]*protocol.Delta // by space: deltas sent at some time
	lost     map[*tx]bool        // rolled back before another node had it
	counts   Counts
	mend     *rand.Rand // for repairs, and what makes them needed
	cells    map[*protocol.RangeCells]cargo
	hurt     []map[string]bool // by space: documents that were damaged, of which the oracle says nothing any more
	kept     []keptRecord
	rebases  int  // begun
	isMended bool // everything was repaired, and nothing has been damaged since
	client   *rand.Rand
	clients  []*client

	leaves  without
	trace   io.Writer
	failure *Failure
}

// without says what is left out of a run, so that seeds from before there was such a thing make the history that they made then.
type without struct {
	clients bool
	readers bool // clients that read at a home which has less than they
	absence bool // clients that read nothing for a long time
}

const startMillis = 1_700_000_000_000

// Failure says at which seed and step a simulation went wrong.
type Failure struct { //nolint:errname // it is what a run returns first, and an error second
	Seed uint64
	Step int64
	Text string
}

func (f *Failure) Error() string {
	return fmt.Sprintf("seed %d, step %d: %s\nreplay: go test ./replica/replicatest -run TestSimulation -seed %d\n    or: anabranch sim --seed %d",
		f.Seed, f.Step, f.Text, f.Seed, f.Seed)
}

// Run runs the simulation of one seed. If it goes wrong it returns a Failure, whose text has the commands that replay
// it. Each event is written to trace, unless that is nil.
func Run(seed uint64, trace io.Writer) (counts Counts, failure *Failure) {
	return run(seed, trace, without{})
}

func run(seed uint64, trace io.Writer, leave without) (counts Counts, failure *Failure) {
	s := &simulation{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x616e616272616e63)), trace: trace, leaves: leave}
	s.client = s.draws("clients")
	s.forget = s.draws("forget")
	s.rejoin = s.draws("rejoin")
	s.known = s.draws("known")
	s.tells = s.known.IntN(2) == 0
	s.holding = s.draws("holding")
	s.received = make(map[*protocol.Delta]hlc.Time)
	defer func() {
		if p := recover(); p != nil {
			s.failf("panic: %v\n%s", p, debug.Stack())
		}
		counts, failure = s.counts, s.failure
	}()
	s.begin()
	for i := range s.plan.steps {
		if s.failure != nil {
			return s.counts, s.failure
		}
		if i == s.plan.pause {
			s.settle()
		}
		s.someRepair(i)
		s.step()
	}
	s.settle()
	return s.counts, s.failure
}

func (s *simulation) begin() {
	s.plan = s.draw()
	s.millis = startMillis
	s.carried = make(map[*protocol.Delta]cargo)
	s.begun = make(map[*protocol.SnapshotBegin]cargo)
	s.cells = make(map[*protocol.RangeCells]cargo)
	s.lost = make(map[*tx]bool)
	s.past = make([][]*protocol.Delta, s.plan.spaces)
	for range s.plan.spaces {
		s.oracles = append(s.oracles, newOracle())
		s.hurt = append(s.hurt, make(map[string]bool))
	}
	s.side = make([]int, s.plan.nodes)
	for i := range s.plan.nodes {
		n := &node{sim: s, index: i, store: memstore.New(), anchor: i << 16, poisoned: make(map[crdt.ReplicaID]bool)}
		binary.BigEndian.PutUint32(n.peer[:], uint32(i+1))
		n.isAbsent = i >= s.plan.nodes-s.plan.late
		for space := range s.plan.spaces {
			n.replicas = append(n.replicas, &replica{node: n, space: space})
		}
		s.nodes = append(s.nodes, n)
	}
	for _, n := range s.nodes {
		n.open()
	}
	for _, e := range s.plan.edges {
		s.links = append(s.links, &link{nodes: [2]*node{s.nodes[e[0]], s.nodes[e[1]]}})
	}
	s.beginClients()
	s.tracef("plan %+v", s.plan)
}

// step does one random thing.
func (s *simulation) step() {
	s.counts[Steps]++
	s.someForgetting()
	s.someRejoining()
	s.someHolding()
	s.someClients()
	s.millis += int64(s.rng.IntN(1 + s.plan.stepMillis))
	if s.plan.stepMillis > 0 && s.chance(0.02) {
		s.millis += int64(s.rng.IntN(5000))
	}
	switch d := s.rng.IntN(1000); {
	case d < 170:
		s.someTransaction()
	case d < 410:
		s.somePump()
	case d < 650:
		s.someDelivery()
	case d < 770:
		if n := s.someNode(); !n.isDown {
			n.seal()
		}
	case d < 890:
		if n := s.someNode(); !n.isDown {
			n.persist()
		}
	case d < 920:
		s.toggleLink()
	case d < 930:
		s.partition()
	case d < 945:
		s.staleDelta()
	case d < 950:
		s.retryHeld()
	case d < 965:
		s.compareDigests()
	case d < 970:
		s.someVerification()
	default:
		s.fault()
	}
}

func (s *simulation) someNode() *node { return s.nodes[s.rng.IntN(len(s.nodes))] }

func (s *simulation) chance(p float64) bool { return s.rng.Float64() < p }

func (s *simulation) someTransaction() {
	n := s.someNode()
	if n.self == 0 && len(n.poisoned) > 0 && s.chance(0.95) {
		return // it has to remember its doubt for a while, without the fresh ReplicaID that a write brings
	}
	if !n.isDown && !n.isSuspect() {
		s.transact(n.replicas[s.rng.IntN(len(n.replicas))])
	}
}

// someEnd returns a random side of a session; nil if none is up.
func (s *simulation) someEnd() *end {
	var ends []*end
	for _, l := range s.links {
		ends = append(ends, l.ends...)
	}
	if len(ends) == 0 {
		return nil
	}
	return ends[s.rng.IntN(len(ends))]
}

func (s *simulation) somePump() {
	if e := s.someEnd(); e != nil {
		s.doRepairJob(e)
		for range 1 + s.rng.IntN(4) {
			s.pump(e)
		}
	}
}

func (s *simulation) someDelivery() {
	if e := s.someEnd(); e != nil {
		for range 1 + s.rng.IntN(4) {
			s.deliver(e, s.chance(s.plan.distortion))
		}
	}
}

func (s *simulation) someVerification() {
	n := s.someNode()
	s.verify(n.replicas[s.rng.IntN(len(n.replicas))])
}

// settle heals everything and lets the nodes come level; then everything is compared.
func (s *simulation) settle() {
	s.settles = true
	defer func() { s.settles = false }()
	s.heal()
	s.settleClients()
	if s.plan.forgets && s.forget.IntN(4) == 0 {
		s.deleteAll()
	}
	s.rest()
	s.mendAll()
	if s.failure == nil {
		s.checkQuiet()
	}
	for _, c := range s.clients {
		if c.ahead != nil {
			s.follow(c)
		}
	}
	if s.failure == nil && s.plan.forgets {
		s.forgetAll()
	}
}

// heal ends everything that keeps nodes from each other.
func (s *simulation) heal() {
	for _, n := range s.nodes {
		n.isAbsent = false
		if n.isDown {
			s.reopen(n)
		}
		n.skew = 0
		if !s.plan.holds {
			s.millis = max(s.millis, n.clock.Last().UnixMilli())
		}
	}
	s.healPartition()
	for _, l := range s.links {
		if l.isUp && s.plan.distortion > 0 {
			l.cut() // what a distorted stream lost nobody will ask for
		}
		if !l.isUp {
			l.connect()
		}
		l.askClocks()
	}
}

// drain does everything that can be done without a fault, once, and reports whether there was anything.
func (s *simulation) drain() bool {
	moved := false
	for _, n := range s.nodes {
		for n.seal() || n.persist() {
			moved = true
		}
		for _, r := range n.replicas {
			moved = s.chooseSource(r) || moved
		}
	}
	for _, l := range s.links {
		for _, e := range l.ends {
			for s.failure == nil && (s.doRepairJob(e) || s.pump(e) || s.deliver(e, false)) {
				moved = true
			}
		}
	}
	for _, n := range s.nodes {
		moved = moved || !n.group.isEmpty() // a note was taken that a peer will be told of own writes
	}
	return moved
}

// retryAll lets everything that was refused for a clock be sent again, and reports whether there was anything. Refusals may have
// been under way when the clocks were set right.
func (s *simulation) retryAll() bool {
	any := false
	for _, l := range s.links {
		for _, e := range l.ends {
			if len(e.session.Held()) > 0 {
				s.counts[HeldRetried]++
				e.session.RetryHeld()
				any = true
			}
		}
	}
	return any
}

func (s *simulation) failf(format string, args ...any) {
	if s.failure == nil {
		s.failure = &Failure{Seed: s.seed, Step: s.counts[Steps], Text: fmt.Sprintf(format, args...)}
		s.tracef("FAILED: %v", s.failure)
	}
}

func (s *simulation) tracef(format string, args ...any) {
	if s.trace != nil {
		fmt.Fprintf(s.trace, "%6d %8dms  %s\n", s.counts[Steps], s.millis-startMillis, fmt.Sprintf(format, args...))
	}
}
