package protocol

import (
	"math/rand/v2"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// randomVectors returns two vectors that share most entries: each side lacks some, and has older times of some.
func randomVectors(rng *rand.Rand, shared, differing int) (a, b crdt.VersionVector) {
	var x, y []crdt.Dot
	for range shared {
		d := crdt.Dot{Replica: crdt.ReplicaID(rng.Uint64() | 1), Time: hlc.Time(1 + rng.Uint64N(1<<40))}
		x, y = append(x, d), append(y, d)
	}
	for range differing {
		d := crdt.Dot{Replica: crdt.ReplicaID(rng.Uint64() | 1), Time: hlc.Time(2 + rng.Uint64N(1<<40))}
		switch rng.IntN(4) {
		case 0:
			x = append(x, d)
		case 1:
			y = append(y, d)
		case 2:
			x = append(x, d)
			y = append(y, crdt.Dot{Replica: d.Replica, Time: d.Time - 1})
		case 3:
			y = append(y, d)
			x = append(x, crdt.Dot{Replica: d.Replica, Time: 1})
		}
	}
	return crdt.NewVersionVector(x...), crdt.NewVersionVector(y...)
}

// converse lets two sessions exchange what opens them, in a random order of sending and delivering, and returns how many
// messages that took.
func converse(t *testing.T, rng *rand.Rand, sessions [2]*Session) int {
	t.Helper()
	var wires [2][]Message
	count, idle := 0, 0
	for idle < 50 {
		side := rng.IntN(2)
		idle++
		if rng.IntN(2) == 0 {
			m, err := sessions[side].Next(wholeLog{})
			if err != nil {
				t.Fatal(err)
			}
			if m != nil {
				wires[1-side] = append(wires[1-side], m)
				count++
				idle = 0
			}
			continue
		}
		if len(wires[side]) > 0 {
			if _, err := sessions[side].Receive(wires[side][0]); err != nil {
				t.Fatal(err)
			}
			wires[side] = wires[side][1:]
			idle = 0
		}
	}
	return count
}

func TestExchangeFindsWhatDiffers(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		shared := []int{0, 1, 40, 60, 500, 3000}[rng.IntN(6)]
		differing := []int{0, 1, 5, 100}[rng.IntN(4)]
		a, b := randomVectors(rng, shared, differing)
		sessions := [2]*Session{NewSession(State{VV: a}), NewSession(State{VV: b})}
		if rng.IntN(2) == 0 {
			sessions[rng.IntN(2)].TellWhole(rng.IntN(50), 1+rng.IntN(16))
		}
		converse(t, rng, sessions)
		for side, want := range [2]crdt.VersionVector{b, a} {
			v, ok := sessions[side].PeerVectors()
			if !ok || !v.VV.Equal(want) {
				t.Fatalf("%d shared, %d differing: side %d has not found out the other's vector", shared, differing, side)
			}
		}
	}
}

// TestExchangeOfClusteredIDs: IDs that are not random make a deep trie, and nothing worse.
func TestExchangeOfClusteredIDs(t *testing.T) {
	var x, y []crdt.Dot
	for i := range 2000 {
		d := crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: 5}
		x = append(x, d)
		if i%100 == 0 {
			d.Time = 6
		}
		y = append(y, d)
	}
	a, b := crdt.NewVersionVector(x...), crdt.NewVersionVector(y...)
	sessions := [2]*Session{NewSession(State{VV: a}), NewSession(State{VV: b})}
	rng := rand.New(rand.NewPCG(3, 4))
	converse(t, rng, sessions)
	if v, ok := sessions[0].PeerVectors(); !ok || !v.VV.Equal(b) {
		t.Error("the vector was not found out")
	}
}

func TestDeltaMayComeBeforeTheVectorIsKnown(t *testing.T) {
	a, b := randomVectors(rand.New(rand.NewPCG(5, 6)), 100, 0)
	b.Advance(dot(replicaB, 7))
	s := NewSession(State{VV: a})
	next(t, s)
	receive(t, s, &Opening{VV: Summarize(b)})
	if step := receive(t, s, delta(replicaB, 6, 9)); step.Merge == nil {
		t.Fatal("the delta was not merged")
	}
	if s.IsLevel() {
		t.Error("level with a peer whose vector is not known")
	}
	if !s.AckedVector().Covers(dot(replicaB, 9)) {
		t.Error("the sender of a delta holds it")
	}
}

// TestBadBranches: what a peer makes up ends the session and takes no more memory than its declared vector.
func TestBadBranches(t *testing.T) {
	a, _ := randomVectors(rand.New(rand.NewPCG(7, 8)), 200, 0)
	entry := func(r crdt.ReplicaID) crdt.Dot { return dot(r, 1) }
	for _, c := range []struct {
		name string
		list []Branch
	}{
		{"a place that was not asked for", []Branch{{Place: Place{Prefix: 1 << 63, Depth: 1}}}},
		{"entries of another place", []Branch{{Hashes: &[FanOut]BranchHash{{1}}}, {Place: Place{Depth: 1}, Entries: []crdt.Dot{entry(1 << 63)}}}},
		{"entries out of order", []Branch{{Entries: []crdt.Dot{entry(2), entry(1)}}}},
		{"more entries than declared", []Branch{{Entries: []crdt.Dot{entry(1), entry(2), entry(3), entry(4)}}}},
		{"another vector than declared", []Branch{{Entries: []crdt.Dot{entry(1), entry(2), entry(3)}}}},
		{"one place twice", []Branch{{Entries: []crdt.Dot{entry(1)}}, {Entries: []crdt.Dot{entry(1)}}}},
	} {
		s := NewSession(State{VV: a})
		next(t, s)
		receive(t, s, &Opening{VV: VectorSummary{Entries: 3}})
		if _, err := s.Receive(&Branches{List: c.list}); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
	s := NewSession(State{VV: a})
	receive(t, s, &Vectors{})
	if _, err := s.Receive(&Branches{}); err == nil {
		t.Error("branches of a vector that is known: no error")
	}
	if _, err := s.Receive(&Opening{}); err == nil {
		t.Error("opened twice: no error")
	}
}

// TestPlaces: children cover their place, and nothing else.
func TestPlaces(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	for range 1000 {
		r := crdt.ReplicaID(rng.Uint64())
		p := Place{}
		for p.Depth < maxDepth {
			in := 0
			var next Place
			for i := range FanOut {
				if c := p.child(i); c.contains(r) {
					in++
					next = c
				}
			}
			if in != 1 || !next.IsValid() || !p.contains(r) {
				t.Fatalf("%s lies in %d children of %v", r, in, p)
			}
			p = next
		}
	}
	if (Place{Prefix: 1}).IsValid() || (Place{Depth: maxDepth + 1}).IsValid() {
		t.Error("a place with bits beyond its prefix is taken for valid")
	}
}
