package wire

import (
	"math/rand/v2"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// TestVectorsOfYearsCostWhatDiffers counts the bytes of a session between two replicas with vectors of 10,000 entries, both ways,
// from the first frame until both are level and have compared their digests. Deltas are not counted.
func TestVectorsOfYearsCostWhatDiffers(t *testing.T) {
	for _, c := range []struct{ differing, limit int }{{0, 400}, {1, 2 << 10}, {10, 11 << 10}, {100, 72 << 10}} {
		rng := rand.New(rand.NewPCG(1, uint64(c.differing)))
		entries := make([]crdt.Dot, 10_000)
		for i := range entries {
			entries[i] = crdt.Dot{Replica: crdt.ReplicaID(rng.Uint64()), Time: at(1_790_000_000_000+rng.Int64N(1e10), 0)}
		}
		a := crdt.NewVersionVector(entries...)
		b := a.Clone()
		for i := range c.differing {
			b.Advance(crdt.Dot{Replica: entries[i].Replica, Time: entries[i].Time + 1<<16})
		}
		sessions := [2]*protocol.Session{
			protocol.NewSession(protocol.State{VV: a, Stable: a, Closed: true}), protocol.NewSession(protocol.State{VV: b, Stable: a, Closed: true}),
		}
		bytes, level := 0, 0
		for moved := true; moved; {
			moved = false
			for side, s := range sessions {
				m, err := s.Next(aLog{})
				if err != nil {
					t.Fatal(err)
				}
				if m == nil {
					continue
				}
				moved = true
				frame, err := Marshal(nil, m)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := m.(*protocol.Delta); !ok {
					bytes += len(frame)
				}
				if m, err = Unmarshal(frame); err != nil {
					t.Fatal(err)
				}
				step, err := sessions[1-side].Receive(m)
				if err != nil {
					t.Fatal(err)
				}
				if d := step.Merge; d != nil {
					dot := crdt.Dot{Replica: d.Origin, Time: d.To}
					a.Advance(dot)
					sessions[1-side].Advance(protocol.State{VV: a.Clone(), Stable: a, Closed: true}, []crdt.Dot{dot})
				}
				if step.Compared == protocol.Equal {
					level++
				}
			}
		}
		t.Logf("%d of 10,000 entries differ: %d bytes", c.differing, bytes)
		if level != 2 {
			t.Errorf("%d differ: %d of 2 sides found the other equal", c.differing, level)
		}
		if bytes > c.limit {
			t.Errorf("%d differ: %d bytes, want at most %d", c.differing, bytes, c.limit)
		}
	}
}

type aLog struct{}

func (aLog) Begin(*protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) { return nil, nil }

func (aLog) Piece() (*protocol.SnapshotPiece, error) { return nil, nil }

func (aLog) Delta(r crdt.ReplicaID, from, to, _ hlc.Time) (*protocol.Delta, error) {
	return &protocol.Delta{Delta: crdt.Delta{Origin: r, From: from, To: to}}, nil
}
