package mesh

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Candidate is a node that could be dialled.
type Candidate struct {
	Peer  protocol.PeerID
	Alive bool // somebody was connected with it of late
}

// Link is a connection that there is, or that is being dialled.
type Link struct {
	Peer protocol.PeerID
	// Keep: this node was told to stay connected with it.
	Keep bool
	// Up: it is connected; otherwise it is being dialled.
	Up bool
	// Age is how long it has been connected.
	Age time.Duration
	// Peers is how many connections the peer says that it has; zero if it has not said.
	Peers int
}

// Limits say how many connections are wanted.
type Limits struct {
	Degree int // dial until there are as many
	Max    int // give up what is not needed beyond this
}

// settleTime is how long a connection lasts before it may be given up: in it both sides have told each other whom they know.
const settleTime = 5 * time.Second

// Moves is what is to be done.
type Moves struct {
	Dial []protocol.PeerID
	Drop []protocol.PeerID
}

// Plan decides whom to dial and whom to give up. Candidates that are linked already are ignored.
func Plan(self protocol.PeerID, links []Link, candidates []Candidate, l Limits, rng *rand.Rand) Moves {
	linked := make(map[protocol.PeerID]bool, len(links))
	var circle []protocol.PeerID // those alive
	for _, k := range links {
		linked[k.Peer] = true
		circle = append(circle, k.Peer)
	}
	var alive, others []protocol.PeerID
	for _, c := range candidates {
		switch {
		case linked[c.Peer] || c.Peer == self:
		case c.Alive:
			alive = append(alive, c.Peer)
			circle = append(circle, c.Peer)
		default:
			others = append(others, c.Peer)
		}
	}
	near := neighbours(self, circle)
	var m Moves
	for _, p := range near {
		if !linked[p] {
			m.Dial = append(m.Dial, p)
		}
	}
	alive = slices.DeleteFunc(alive, func(p protocol.PeerID) bool { return slices.Contains(near, p) })
	for _, pool := range [][]protocol.PeerID{alive, others} {
		rng.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		missing := max(l.Degree-len(links)-len(m.Dial), 0)
		m.Dial = append(m.Dial, pool[:min(missing, len(pool))]...)
	}
	m.Drop = surplus(near, links, l, rng)
	return m
}

// neighbours returns the nearest IDs on both sides of self on the circle: two, or fewer if there are not as many.
func neighbours(self protocol.PeerID, circle []protocol.PeerID) []protocol.PeerID {
	if len(circle) == 0 {
		return nil
	}
	slices.SortFunc(circle, compare)
	i, _ := slices.BinarySearchFunc(circle, self, compare)
	next, previous := circle[i%len(circle)], circle[(i+len(circle)-1)%len(circle)]
	if next == previous {
		return []protocol.PeerID{next}
	}
	return []protocol.PeerID{next, previous}
}

// surplus returns the links to give up: those first whose peers have the most others.
func surplus(near []protocol.PeerID, links []Link, l Limits, rng *rand.Rand) []protocol.PeerID {
	up := 0
	var spare []Link
	for _, k := range links {
		if !k.Up {
			continue
		}
		up++
		if !k.Keep && k.Age >= settleTime && k.Peers >= l.Degree && !slices.Contains(near, k.Peer) {
			spare = append(spare, k)
		}
	}
	rng.Shuffle(len(spare), func(i, j int) { spare[i], spare[j] = spare[j], spare[i] })
	slices.SortStableFunc(spare, func(x, y Link) int { return y.Peers - x.Peers })
	var drop []protocol.PeerID
	for _, k := range spare[:min(len(spare), max(up-l.Max, 0))] {
		drop = append(drop, k.Peer)
	}
	return drop
}
