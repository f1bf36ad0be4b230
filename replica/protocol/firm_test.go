package protocol

import (
	"fmt"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// prunedLog gives what is asked for in one delta, and notes how much of the origin its encoder may have pruned.
type prunedLog struct {
	noSnapshots
	stable hlc.Time // of this replica
	asked  []hlc.Time
}

func (l *prunedLog) Delta(r crdt.ReplicaID, from, to, pruned hlc.Time) (*Delta, error) {
	l.asked = append(l.asked, pruned)
	if l.stable > pruned {
		return nil, ErrPruned
	}
	return &Delta{crdt.Delta{Origin: r, From: from, To: to, Stable: l.stable}}, nil
}

// drainFrom is drain with a source, and shows where the sender is open.
func drainFrom(t *testing.T, s *Session, src Source) (said []string) {
	t.Helper()
	for {
		m, err := s.Next(src)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			return said
		}
		text := show(m)
		if ack, ok := m.(*Ack); ok && ack.Open != nil {
			text += fmt.Sprintf(" open %d", ack.Open[0].Time)
		}
		said = append(said, text)
	}
}

func TestFirmLowersWhereOneIsOpen(t *testing.T) {
	vv := vectorOf(10, 20, 30)
	open := []crdt.Dot{dot(1, 12), dot(2, 7), dot(3, 0), dot(4, 5)}
	if got, want := Firm(vv, open), vector(dot(1, 10), dot(2, 7)); !got.Equal(want) {
		t.Errorf("firm is %s, want %s", got, want)
	}
	if !vv.Equal(vectorOf(10, 20, 30)) {
		t.Errorf("the vector has become %s", vv)
	}
}

// Who is open gets deltas of those alone who have pruned no more than it has whole; from the others a snapshot.
func TestOpenPeerIsServedByWhatItHoldsWhole(t *testing.T) {
	peer := Vectors{VV: vector(dot(replicaA, 8)), Ahead: vector(dot(replicaA, 9)), Open: []crdt.Dot{dot(replicaA, 1)}}
	for _, c := range []struct {
		stable hlc.Time
		want   string
	}{
		{0, "delta a (8, 9]"},
		{1, "delta a (8, 9]"},
		{2, "offer {a:2}"},
		{8, "offer {a:8}"},
	} {
		s := opened(t, State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, c.stable))}, peer)
		src := &prunedLog{stable: c.stable}
		expect(t, drainFrom(t, s, src), c.want)
		if len(src.asked) > 0 && src.asked[0] != 1 {
			t.Errorf("a delta was asked for of one who has pruned up to %d", src.asked[0])
		}
	}
}

func TestAckSaysWhereThePeerIsOpen(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9))}
	s := opened(t, local, Vectors{VV: vector(dot(replicaA, 1))})
	expect(t, drainFrom(t, s, &prunedLog{}), "delta a (1, 9]")
	for _, c := range []struct {
		name  string
		ack   Ack
		acked bool
		firm  crdt.VersionVector
	}{
		{"open", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 1)}}, true, vector(dot(replicaA, 1))},
		{"again", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 1)}}, false, vector(dot(replicaA, 1))},
		{"it holds more of it whole", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 5)}}, true, vector(dot(replicaA, 5))},
		{"it came late", Ack{VV: vector(dot(replicaA, 7)), Open: []crdt.Dot{dot(replicaA, 0)}}, false, vector(dot(replicaA, 5))},
		{"of a replica that is not acknowledged", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 5), dot(replicaB, 0)}}, false, vector(dot(replicaA, 5))},
		{"more whole than it holds", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 99)}}, true, vector(dot(replicaA, 8))},
		{"nothing whole", Ack{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 0)}}, true, vector()},
		{"closed", Ack{VV: vector(dot(replicaA, 9))}, true, vector(dot(replicaA, 9))},
	} {
		step := receive(t, s, &c.ack)
		if got := s.FirmVector(); step.Acked != c.acked || !got.Equal(c.firm) {
			t.Errorf("%s: acked %v, firm %s, want %v, %s", c.name, step.Acked, got, c.acked, c.firm)
		}
	}
	if len(s.firmness.peer) > 0 {
		t.Errorf("it remembers %v", s.firmness.peer)
	}
}

// A delta that names more than is firm may be under way when others make its receiver open: the receiver knows best.
func TestRefusedOpenIsFollowedByADeltaThatSaysMore(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 9))}, Vectors{VV: vector(dot(replicaA, 8))})
	src := &prunedLog{}
	expect(t, drainFrom(t, s, src), "delta a (8, 9]")
	step := receive(t, s, &Refusal{Code: RefusedOpen, Origin: replicaA, From: 3, To: 9})
	if !step.Acked || step.Refused == nil || s.FirmVector().Get(replicaA) != 3 {
		t.Errorf("%+v, firm %s", step, s.FirmVector())
	}
	expect(t, drainFrom(t, s, src), "delta a (8, 9]")
	if got := fmt.Sprint(src.asked); got != fmt.Sprint([]hlc.Time{8, 3}) {
		t.Errorf("asked for were deltas pruned up to %s", got)
	}
	receive(t, s, &Refusal{Code: RefusedOpen, Origin: replicaC, To: 9}) // of one that it cannot have been sent
	if len(s.firmness.peer) != 1 {
		t.Errorf("it remembers %v", s.firmness.peer)
	}
}

// A refusal comes of the newest state, and what is not durable yet may be taken back by a crash.
func TestRefusedOpenTellsWhatIsDurablyFirm(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 8)), Ahead: vector(dot(replicaA, 9)), Open: []crdt.Dot{dot(replicaA, 1)}}
	s := opened(t, local, Vectors{VV: vector(dot(replicaA, 12))})
	for newest, told := range map[hlc.Time]hlc.Time{9: 1, 1: 1, 0: 0} {
		s.RefuseOpen(&Delta{Delta: crdt.Delta{Origin: replicaA, From: 9, To: 12}}, newest, "")
		m, err := s.Next(&prunedLog{})
		if r, ok := m.(*Refusal); err != nil || !ok || r.From != told {
			t.Errorf("%d is firm in the newest state: %+v, %v", newest, m, err)
		}
	}
}

func TestOpenIsToldBeforeTheDeltaThatWouldHideIt(t *testing.T) {
	local := State{}
	s := opened(t, local, Vectors{})
	local = State{VV: vector(dot(replicaA, 8)), Ahead: vector(dot(replicaA, 9)), Open: []crdt.Dot{dot(replicaA, 1)}}
	s.Advance(local, []crdt.Dot{dot(replicaA, 8)})
	expect(t, drainFrom(t, s, &prunedLog{}), "ack {a:8} open 1", "delta a (0, 8]")
	local.Open = []crdt.Dot{dot(replicaA, 5)} // by a snapshot that brings nothing else
	s.Advance(local, nil)
	expect(t, drainFrom(t, s, &prunedLog{}), "ack {a:8} open 5")
	local = State{VV: vector(dot(replicaA, 9))}
	s.Advance(local, []crdt.Dot{dot(replicaA, 9)})
	expect(t, drainFrom(t, s, &prunedLog{}), "delta a (8, 9]", "ack {a:9}")
	local = State{VV: vector(dot(replicaA, 10))}
	s.Advance(local, []crdt.Dot{dot(replicaA, 10)})
	expect(t, drainFrom(t, s, &prunedLog{}), "delta a (9, 10]")
}

// A snapshot that is offered to one who says that it is open is not needed by one who is not any more.
func TestOfferIsJudgedByWhatIsFirm(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 8))}, Vectors{VV: vector(dot(replicaA, 8))})
	receive(t, s, &SnapshotOffer{Stable: vector(dot(replicaA, 5))})
	if c := s.Candidate(PeerID{}, vector(dot(replicaA, 1))); !c.Offers {
		t.Error("who holds less whole has no use for it")
	}
	if c := s.Candidate(PeerID{}, vector(dot(replicaA, 5))); c.Offers {
		t.Error("who holds as much whole takes it")
	}
}

func TestRepairNeedsWhatIsFirm(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 8)), Ahead: vector(dot(replicaA, 9)), Open: []crdt.Dot{dot(replicaA, 1)}}
	for stable, refused := range map[hlc.Time]bool{1: false, 2: true} {
		s := opened(t, local, Vectors{VV: vector(dot(replicaA, 8))})
		receive(t, s, &RepairOpen{Round: 7, Stable: vector(dot(replicaA, stable))})
		m, err := s.Next(wholeLog{})
		if answer, ok := m.(*RangeAnswer); err != nil || !ok || answer.Refused != refused {
			t.Errorf("a repair with one whose stable is %d: %+v, %v", stable, m, err)
		}
	}
}

func TestCellsOfAnOpenPeerAreMergedByWhatItHoldsWhole(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 8))}, Vectors{VV: vector(dot(replicaA, 8)), Open: []crdt.Dot{dot(replicaA, 1)}})
	receive(t, s, &RepairOpen{Round: 7})
	for _, m := range []Message{&RangeCells{Round: 7, Spans: []Range{{}}}, &RangeDigests{Round: 7, Parts: []Part{{}}}} {
		receive(t, s, m)
		job := s.RepairJob()
		if job == nil || !job.Theirs.Equal(vector(dot(replicaA, 1))) {
			t.Errorf("after %s the job is %+v", show(m), job)
		}
	}
}

func TestSnapshotSaysWhereItsSourceIsOpen(t *testing.T) {
	s := opened(t, State{}, Vectors{VV: vector(dot(replicaA, 1))})
	receive(t, s, &SnapshotBegin{VV: vector(dot(replicaA, 8), dot(replicaB, 3)), Stable: vector(dot(replicaA, 4)), Horizon: vector(dot(replicaA, 9), dot(replicaB, 3))})
	if got, want := s.FirmVector(), vector(dot(replicaA, 4), dot(replicaB, 3)); !got.Equal(want) {
		t.Errorf("firm is %s, want %s", got, want)
	}
}

func TestRosterKeepsWhatIsHeldAndWhatIsFirm(t *testing.T) {
	p := PeerID{1}
	r := NewRoster(PeerID{9}, nil)
	r.Acknowledge(p, vectorOf(10, 20), vectorOf(10, 5))
	m, _ := r.Get(p)
	if !m.VV.Equal(vectorOf(10, 20)) || !m.Firm.Equal(vectorOf(10, 5)) || r.Holding(vectorOf(0, 20)) != 1 {
		t.Errorf("of one that is open is kept %+v", m)
	}
	r.Meet(p, time.UnixMilli(1))
	if got := r.Stable(vectorOf(10, 20), time.UnixMilli(1), time.Hour); !got.Equal(vectorOf(10, 5)) {
		t.Errorf("with one that is open stable is %s", got)
	}
	r.Acknowledge(p, vectorOf(10, 20), vectorOf(10, 20))
	if m, _ := r.Get(p); !m.Firm.Equal(vectorOf(10, 20)) {
		t.Errorf("once it is closed is kept %+v", m)
	}
}
