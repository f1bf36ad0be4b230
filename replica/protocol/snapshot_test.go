package protocol

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// pieces is a source whose snapshots have two pieces, unless it cannot begin one.
type pieces struct {
	vv    crdt.VersionVector
	fails error
	left  int
	from  Position
}

func (p *pieces) Delta(r crdt.ReplicaID, from, to, _ hlc.Time) (*Delta, error) {
	return delta(r, from, to), nil
}

func (p *pieces) Begin(q *SnapshotRequest) (*SnapshotBegin, error) {
	if p.fails != nil {
		return nil, p.fails
	}
	p.left, p.from = 2, q.From
	return &SnapshotBegin{From: q.From, VV: p.vv}, nil
}

func (p *pieces) Piece() (*SnapshotPiece, error) {
	p.left--
	if p.left == 0 {
		return &SnapshotPiece{Range: Range{Lower: Position{Key: "m"}}}, nil
	}
	return &SnapshotPiece{Range: Range{Lower: p.from, Upper: Position{Key: "m"}}}, nil
}

// said returns what a session has to say.
func said(t *testing.T, s *Session, src Source) []string {
	t.Helper()
	var all []string
	for {
		m, err := s.Next(src)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			return all
		}
		all = append(all, show(m))
	}
}

func TestSnapshotIsOfferedAskedForAndSent(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, 5))}
	src := &pieces{vv: local.VV, fails: ErrBusy}
	s := opened(t, local, Vectors{VV: vector(dot(replicaB, 1))})
	expect(t, said(t, s, src), "offer {a:5}")
	expect(t, said(t, s, src)) // once is enough
	receive(t, s, &SnapshotRequest{From: Position{Key: "f"}})
	expect(t, said(t, s, src)) // it waits
	src.fails = nil
	expect(t, said(t, s, src), "begin 1 from {f } at {a:9}", "piece of 1 from {f } to {m }", "piece of 1 from {m } to { }")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 9))})
	s.Advance(State{VV: vector(dot(replicaA, 10)), Stable: local.Stable}, []crdt.Dot{dot(replicaA, 10)})
	expect(t, said(t, s, src), "delta a (9, 10]")
}

func TestSnapshotIsOfferedAgainWhenMoreIsForgotten(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, 5))}
	s := opened(t, local, Vectors{})
	expect(t, said(t, s, &pieces{}), "offer {a:5}")
	local.Stable = vector(dot(replicaA, 8))
	s.Advance(local, nil)
	expect(t, said(t, s, &pieces{})) // it has not had the first yet
	receive(t, s, &Ack{VV: vector(dot(replicaA, 5))})
	expect(t, said(t, s, &pieces{}), "offer {a:8}")
}

// Deltas would do, but take long.
func TestWhoHasNothingOfMuchIsOfferedASnapshot(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9), dot(replicaB, 4)), Large: true}
	src := &pieces{vv: local.VV}
	s := opened(t, local, Vectors{Self: replicaB, VV: vector(dot(replicaB, 4))})
	expect(t, said(t, s, src), "offer {a:9 b:4}")
	expect(t, said(t, s, src)) // and no delta
	receive(t, s, &SnapshotRequest{})
	s.Advance(State{VV: vector(dot(replicaA, 10), dot(replicaB, 4)), Large: true}, []crdt.Dot{dot(replicaA, 10)})
	expect(t, said(t, s, src), "ack {a:10}", "begin 1 from { } at {a:9 b:4}", "piece of 1 from { } to {m }", "piece of 1 from {m } to { }")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 9))})
	expect(t, said(t, s, src), "delta a (9, 10]") // and no other offer
}

func TestWhoHasSomethingOfMuchGetsDeltas(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9), dot(replicaB, 4)), Large: true}
	expect(t, said(t, opened(t, local, Vectors{VV: vector(dot(replicaA, 1))}), &pieces{}), "delta a (1, 9]", "delta b (0, 4]")
	expect(t, said(t, opened(t, local, Vectors{Self: replicaA, VV: vector(dot(replicaA, 9), dot(replicaB, 4))}), &pieces{}), "level")
	local.Large = false
	expect(t, said(t, opened(t, local, Vectors{}), &pieces{}), "delta a (0, 9]", "delta b (0, 4]")
}

// A peer that is open at more than this replica does not come to hold all of it whole, and is not to ask over and over.
func TestOfferIsTakenBackFromWhoHasAllOfIt(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 9)), Large: true}, Vectors{})
	expect(t, said(t, s, &pieces{}), "offer {a:9}")
	receive(t, s, &Ack{VV: vector(dot(replicaA, 9)), Open: []crdt.Dot{dot(replicaA, 7)}})
	expect(t, said(t, s, &pieces{}), "offer {}", "level")
}

// What is damaged here, or held back, cannot be sent in a snapshot, but all else can by deltas. And slow peers that take snapshots hold up nobody
// who can do without.
func TestWhoCannotHaveASnapshotNowGetsDeltas(t *testing.T) {
	for _, why := range []error{ErrUnreadable, ErrHeld, ErrBusy} {
		s := opened(t, State{VV: vector(dot(replicaA, 9)), Large: true}, Vectors{})
		expect(t, said(t, s, &pieces{}), "offer {a:9}")
		receive(t, s, &SnapshotRequest{})
		expect(t, said(t, s, &pieces{fails: why}), "refusal 0 (0, 0] serves no snapshot", "delta a (0, 9]")
	}
}

// Who cannot do without may get it elsewhere, and is told when it can be had here.
func TestWhatCannotBeSentForLongIsDeclined(t *testing.T) {
	for _, why := range []error{ErrUnreadable, ErrHeld} {
		s := opened(t, State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, 5))}, Vectors{})
		src := &pieces{vv: vector(dot(replicaA, 9))}
		expect(t, said(t, s, src), "offer {a:5}")
		receive(t, s, &SnapshotRequest{})
		src.fails = why
		expect(t, said(t, s, src), "refusal 0 (0, 0] serves no snapshot")
		s.RetryHeld()
		src.fails = nil
		expect(t, said(t, s, src), "offer {a:5}")
	}
}

// Where nothing may be sent for a moment that is no reason to go by deltas.
func TestSnapshotThatMustWaitIsNotDeclined(t *testing.T) {
	s := opened(t, State{VV: vector(dot(replicaA, 9)), Large: true}, Vectors{})
	src := &pieces{vv: vector(dot(replicaA, 9)), fails: ErrWait}
	expect(t, said(t, s, src), "offer {a:9}")
	receive(t, s, &SnapshotRequest{})
	expect(t, said(t, s, src))
	src.fails = nil
	expect(t, said(t, s, src), "begin 1 from { } at {a:9}", "piece of 1 from { } to {m }", "piece of 1 from {m } to { }")
}

func TestRequestInTheMiddleBeginsAnotherSnapshot(t *testing.T) {
	src := &pieces{vv: vector(dot(replicaA, 9))}
	s := opened(t, State{VV: src.vv, Stable: src.vv}, Vectors{})
	expect(t, said(t, s, src), "offer {a:9}")
	receive(t, s, &SnapshotRequest{})
	next := func() string {
		m, err := s.Next(src)
		if err != nil {
			t.Fatal(err)
		}
		return show(m)
	}
	next()
	next()
	receive(t, s, &SnapshotRequest{})
	expect(t, said(t, s, src), "begin 2 from { } at {a:9}", "piece of 2 from { } to {m }", "piece of 2 from {m } to { }")
}

func TestOnlyPiecesOfWhatWasAskedForAreTaken(t *testing.T) {
	s := opened(t, State{}, Vectors{})
	begin := func(state uint64) *SnapshotBegin { return &SnapshotBegin{State: state, VV: vector(dot(replicaA, 9))} }
	piece := func(state uint64) *SnapshotPiece { return &SnapshotPiece{State: state} }
	if step := receive(t, s, begin(1)); step.Begun != nil || receive(t, s, piece(1)).Piece != nil {
		t.Error("a snapshot is taken that nobody asked for")
	}
	s.AskSnapshot(SnapshotRequest{})
	expect(t, drain(t, s), "request from { } of {}")
	if step := receive(t, s, begin(2)); step.Begun == nil || receive(t, s, piece(1)).Piece != nil || receive(t, s, piece(2)).Piece == nil {
		t.Error("of the snapshot that was asked for, not just its own pieces are taken")
	}
	if s.AckedVector().Get(replicaA) != 9 {
		t.Error("who sends a snapshot of a state holds it")
	}
	s.AskSnapshot(SnapshotRequest{From: Position{Key: "m"}}) // again, for a piece was missing
	if step := receive(t, s, begin(2)); step.Begun != nil || receive(t, s, piece(2)).Piece != nil {
		t.Error("the answer to an earlier request is taken before the new one went out")
	}
	known := &KnownRanges{Round: 7, Parts: []Part{{Range: Range{Upper: Position{Key: "m"}}}}}
	s.AskSnapshot(SnapshotRequest{Known: known})
	drain(t, s)
	other := begin(3)
	other.Round = 6
	if step := receive(t, s, other); step.Begun != nil || receive(t, s, piece(3)).Piece != nil {
		t.Error("the answer to what was told before is taken for that to what was told last")
	}
	mine := begin(4)
	mine.Round = 7
	equal := piece(4)
	equal.Upper.Key = "m"
	if receive(t, s, mine); receive(t, s, equal).Piece == nil || !receive(t, s, equal).Piece.AsksOn || receive(t, s, equal).Piece.Known != known {
		t.Error("the end of what was told is not seen")
	}
	s.DropSnapshot()
	if receive(t, s, piece(2)).Piece != nil || s.IsFetching() {
		t.Error("a piece is taken after the snapshot was dropped")
	}
}

func TestWhoTakesASnapshotServesNone(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, 5)), Rejoining: true}
	s := opened(t, local, Vectors{})
	expect(t, said(t, s, &pieces{}))
	receive(t, s, &SnapshotRequest{})
	expect(t, said(t, s, &pieces{}), "refusal 0 (0, 0] serves no snapshot")
	local.Rejoining = false
	s.Advance(local, nil)
	expect(t, said(t, s, &pieces{}), "offer {a:5}")

	e := opened(t, State{}, Vectors{})
	e.AskSnapshot(SnapshotRequest{})
	if step := receive(t, e, &Refusal{Code: RefusedStable}); !step.Offered || e.IsFetching() || !e.Candidate(PeerID{}, crdt.VersionVector{}).Declines {
		t.Error("a refusal does not end the wait")
	}
	receive(t, e, &SnapshotOffer{Stable: vector(dot(replicaA, 5))})
	if c := e.Candidate(PeerID{}, crdt.VersionVector{}); c.Declines || !c.Offers {
		t.Errorf("after another offer: %+v", c)
	}
	if e.Candidate(PeerID{}, vector(dot(replicaA, 5))).Offers {
		t.Error("what is here already is still to be had")
	}
}

// Two sides that are each below the other's stable vector wait for the other's acknowledgement, and hold back none of their own.
func TestAcknowledgementsGoOutWhereDeltasCannot(t *testing.T) {
	local := State{VV: vector(dot(replicaA, 9)), Stable: vector(dot(replicaA, 5))}
	s := opened(t, local, Vectors{VV: vector(dot(replicaB, 1))})
	expect(t, said(t, s, &pieces{}), "offer {a:5}")
	local.VV = vector(dot(replicaA, 10))
	s.Advance(local, []crdt.Dot{dot(replicaA, 10)})
	expect(t, said(t, s, &pieces{}), "ack {a:10}")
}

func TestChooseSource(t *testing.T) {
	a, b := PeerID{1}, PeerID{2}
	at := func(p PeerID) Candidate { return Candidate{Peer: p, Met: true} }
	offers := func(p PeerID) Candidate { c := at(p); c.Offers = true; return c }
	fetching := func(p PeerID) Candidate { c := offers(p); c.Fetching = true; return c }
	declines := func(p PeerID) Candidate { c := at(p); c.Declines = true; return c }
	for name, c := range map[string]struct {
		candidates []Candidate
		rejoining  bool
		lost       bool
		i          int
		startOver  bool
	}{
		"nobody is there":                             {nil, false, false, -1, false},
		"nobody offers":                               {[]Candidate{at(a), at(b)}, false, false, -1, false},
		"one offers":                                  {[]Candidate{at(a), offers(b)}, false, false, 1, false},
		"one was asked":                               {[]Candidate{offers(a), fetching(b)}, false, false, -1, false},
		"the source is back":                          {[]Candidate{offers(b), at(a)}, true, false, 1, false},
		"the source is away":                          {[]Candidate{offers(b)}, true, false, -1, false},
		"the source is not met yet":                   {[]Candidate{{Peer: a}, offers(b)}, true, false, -1, false},
		"the source is away for long":                 {[]Candidate{at(b), offers(b)}, true, true, 1, true},
		"the source is away for long, nobody offers":  {[]Candidate{at(b)}, true, true, -1, true},
		"everybody is away for long":                  {nil, true, true, -1, false},
		"the source takes one itself":                 {[]Candidate{declines(a)}, true, false, -1, true},
		"the source takes one itself, another offers": {[]Candidate{declines(a), offers(b)}, true, false, 1, true},
	} {
		if i, startOver := ChooseSource(c.candidates, c.rejoining, a, c.lost); i != c.i || startOver != c.startOver {
			t.Errorf("%s: %d, %v, want %d, %v", name, i, startOver, c.i, c.startOver)
		}
	}
}

func TestContinuesFrom(t *testing.T) {
	v := vector(dot(replicaA, 5), dot(replicaB, 5))
	later := vector(dot(replicaA, 6), dot(replicaB, 5))
	for name, c := range map[string]struct {
		v, vv, stable crdt.VersionVector
		want          bool
	}{
		"the same state":                      {v, v, crdt.VersionVector{}, true},
		"a later one":                         {v, later, v, true},
		"a later one that has forgotten more": {v, later, vector(dot(replicaA, 6)), false},
		"one that has lost something":         {v, vector(dot(replicaA, 9)), crdt.VersionVector{}, false},
		"nothing to continue":                 {crdt.VersionVector{}, v, crdt.VersionVector{}, false},
	} {
		if got := ContinuesFrom(c.v, c.vv, c.stable); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
