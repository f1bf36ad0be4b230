package protocol

import (
	"errors"

	"github.com/anabranch-db/anabranch/crdt"
)

// opening is how far the two sides have told each other what they hold.
type opening struct {
	whole, leaf int // up to how many entries are told whole: of the vectors, and of a place

	introduced bool // our Vectors or Opening went out
	heard      bool // the peer's came
	isFixed    bool
	ours       crdt.VersionVector // what the session is opened with
	stable     crdt.VersionVector
	ahead      crdt.VersionVector
	open       []crdt.Dot
	exchange   *vectorExchange // nil if there is nothing to find out, nor to tell
}

// TellWhole sets up to how many entries vectors are told whole when the session opens, and places of the trie after that.
// It is for tests and simulations, whose vectors are short; call it before Next.
func (s *Session) TellWhole(vectors, place int) { s.whole, s.leaf = vectors, place }

func opens(m Message) bool {
	switch m.(type) {
	case *Vectors, *Opening:
		return true
	}
	return false
}

// fix settles what the session is opened with, when it is told or when the peer's vectors come. What rises after that is
// acknowledged.
func (s *Session) fix() {
	if s.isFixed {
		return
	}
	s.isFixed = true
	s.ours, s.stable, s.ahead, s.open = s.local.VV, s.local.Stable, s.local.Ahead, s.local.Open
	for _, d := range s.open {
		s.firmness.told[d.Replica] = d.Time
	}
	s.told = s.ours.Clone()
	clear(s.unacked)
}

func (s *Session) tellsWhole() bool { return s.ours.Len()+s.stable.Len() <= s.whole }

func (s *Session) introduce() Message {
	s.fix()
	s.introduced = true
	if s.tellsWhole() {
		return &Vectors{Self: s.local.Self, VV: s.ours, Stable: s.stable, Ahead: s.ahead, Open: s.open}
	}
	return &Opening{Self: s.local.Self, VV: Summarize(s.ours), Stable: Summarize(s.stable), Ahead: s.ahead, Open: s.open}
}

var errOpenedTwice = errors.New("the vectors that open a session came twice")

func (s *Session) receiveVectors(m *Vectors) (Step, error) {
	if s.heard {
		return Step{}, errOpenedTwice
	}
	s.fix()
	s.heard = true
	s.peer = *m
	s.hearOpen(m.Open)
	if !s.tellsWhole() && !m.VV.Equal(s.ours) { // the peer has a summary of ours: it needs the rest
		s.exchange = newVectorExchange(s.ours, VectorSummary{}, s.leaf)
		s.exchange.answer(Place{})
	}
	return s.meet(m.VV), nil
}

func (s *Session) receiveOpening(m *Opening) (Step, error) {
	if s.heard {
		return Step{}, errOpenedTwice
	}
	s.fix()
	s.heard = true
	s.peer = Vectors{Self: m.Self, Ahead: m.Ahead, Open: m.Open}
	s.hearOpen(m.Open)
	if m.Stable == Summarize(s.stable) {
		s.peer.Stable = s.stable
	}
	if m.VV == Summarize(s.ours) {
		return s.meet(s.ours), nil
	}
	s.exchange = newVectorExchange(s.ours, m.VV, s.leaf)
	if s.tellsWhole() {
		s.exchange.open[Place{}] = nil
	} else {
		s.exchange.begin(Place{})
	}
	return Step{}, nil
}

func (s *Session) receiveBranches(m *Branches) (Step, error) {
	if s.met || s.exchange == nil {
		return Step{}, errors.New("branches came and the vector is known")
	}
	if err := s.exchange.receive(m); err != nil || !s.exchange.isKnown() {
		return Step{}, err
	}
	vv, err := s.exchange.vector()
	if err != nil {
		return Step{}, err
	}
	return s.meet(vv), nil
}

// nextBranches ends the exchange when both sides know what they need.
func (s *Session) nextBranches() Message {
	if s.exchange == nil {
		return nil
	}
	if m := s.exchange.next(); m != nil {
		return m
	}
	if s.met {
		s.exchange = nil
	}
	return nil
}

// holdsMoreOfUs reports whether a vector covers writes of this replica, under any of its lanes, that are not here.
func (s *Session) holdsMoreOfUs(vv crdt.VersionVector) bool {
	for d := range vv.Beyond(s.local.VV).All() {
		if d.Replica.IsLaneOf(s.local.Self) {
			return true
		}
	}
	return false
}

// meet takes the vector that the peer opened the session with. The peer may have learned ours before, and sent deltas.
func (s *Session) meet(vv crdt.VersionVector) Step {
	s.met = true
	s.peer.VV = vv
	s.acked.Join(vv)
	s.sent.Join(vv)
	for d := range s.local.VV.Beyond(s.sent).All() {
		s.markBehind(d.Replica)
	}
	return Step{
		LostWrites: s.holdsMoreOfUs(vv),
		Acked:      true,
		Offered:    true,
	}
}
