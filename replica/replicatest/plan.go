package replicatest

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// plan is what a seed chooses before its run begins: how large the run is, and what may go wrong in it.
type plan struct {
	nodes      int
	spaces     int
	edges      [][2]int
	steps      int
	stepMillis int // the most that a step takes; zero: time stands still, and transactions differ by the counter alone
	pause      int // step before which everything is healed and compared; negative for none
	keys       int
	large      bool    // with documents in chunks
	walks      int64   // from so many documents on who has nothing gets a snapshot; zero for never
	window     int     // frames under way in one direction
	liveDeltas int     // size of the live cache
	mergeBytes int     // what one merge may write; zero for what the store takes
	distortion float64 // probability that a stream loses, repeats or reorders a frame
	crashes    bool
	clocks     bool
	rejoins    bool // stable rises anywhere, so that peers need snapshots
	choppy     bool // snapshots are broken off all the time
	holds      bool // clocks are far ahead for a while, and what is written then is held and re-issued
	restores   restorePolicy
	fragile    int // the node whose backups are restored with the old ReplicaID
	late       int // nodes that join late
	whole      int // up to how many entries vectors are told whole when a session opens
	leaf       int // the same of a place in their trie
	repair     repairPlan
	forgets    bool // stable rises, and is pruned
	maxOffline time.Duration
	clients    int // that are not replicas
}

// restorePolicy says how backups are restored.
type restorePolicy int

const (
	neverRestored restorePolicy = iota
	restoredWell                // the anchor differs, so a fresh ReplicaID is drawn
	restoredBadly               // the old ReplicaID is kept, of one node
)

func (s *simulation) draw() plan {
	p := plan{
		nodes:      2 + s.rng.IntN(4),
		spaces:     1,
		steps:      150 + s.rng.IntN(450),
		keys:       1 + s.rng.IntN(4),
		large:      s.chance(0.25),
		window:     1 + s.rng.IntN(8),
		liveDeltas: []int{0, 4, 64}[s.rng.IntN(3)],
		crashes:    s.chance(0.6),
		clocks:     s.chance(0.4),
	}
	p.stepMillis = []int{0, 0, 20, 200}[s.rng.IntN(4)]
	if s.chance(0.2) {
		p.spaces = 2
	}
	if s.chance(0.5) {
		p.distortion = 0.02 + 0.2*s.rng.Float64()
	}
	if s.chance(0.5) {
		p.restores = restoredWell
		if s.chance(0.5) {
			p.restores = restoredBadly
			p.crashes = p.crashes && s.chance(0.5) // for a restarted machine draws a fresh ReplicaID anyway
		}
	}
	if s.chance(0.2) {
		p.mergeBytes = 50 + s.rng.IntN(1000)
	}
	p.fragile = s.rng.IntN(p.nodes)
	if s.chance(0.3) {
		p.late = 1 + s.rng.IntN(p.nodes-1)
	}
	p.pause = -1
	if p.late == 0 && s.chance(0.4) {
		p.pause = s.rng.IntN(p.steps)
	}
	if more := s.draws("vectors"); more.IntN(2) == 0 {
		p.whole, p.leaf = 48, 16
	} else {
		p.whole, p.leaf = more.IntN(4), 1+more.IntN(2)
	}
	if more := s.draws("large"); more.IntN(3) == 0 {
		p.walks = 1 + more.Int64N(3)
	}
	s.drawRepairs(&p)
	p.edges = topology(p.nodes, s.rng.IntN(4))
	if s.holding.Float64() < 0.25 {
		p.holds = true
	}
	p.rejoins = s.rejoin.IntN(3) > 0 && !p.holds
	p.choppy = p.rejoins && s.rejoin.IntN(2) == 0
	p.forgets = p.restores == neverRestored && s.forget.Float64() < 0.7
	p.maxOffline = []time.Duration{time.Second, time.Minute, 30 * 24 * time.Hour}[s.forget.IntN(3)]
	s.drawClients(&p)
	return p
}

// draws returns a source of random numbers of its own for what a plan came to hold later, so that the seeds of before still make the
// same histories.
func (s *simulation) draws(of string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(of))
	return rand.New(rand.NewPCG(s.seed, h.Sum64()))
}

// topology returns the edges of a chain, a star, a mesh or a ring.
func topology(nodes, shape int) [][2]int {
	var edges [][2]int
	for i := 1; i < nodes; i++ {
		switch shape {
		case 0, 3:
			edges = append(edges, [2]int{i - 1, i})
		case 1:
			edges = append(edges, [2]int{0, i})
		case 2:
			for j := range i {
				edges = append(edges, [2]int{j, i})
			}
		}
	}
	if shape == 3 && nodes > 2 {
		edges = append(edges, [2]int{nodes - 1, 0})
	}
	return edges
}
