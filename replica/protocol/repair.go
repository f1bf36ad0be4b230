package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// A repair finds what differs in two replicas and mends it, whatever their vectors say: by comparing fingerprints of ranges of their cells,
// finer and finer (range-based set reconciliation, Meyer, arXiv:2212.13567), and then merging the whole cells of what is left, both
// ways. Nothing counts as removed because it is absent, so a damaged replica destroys nothing in a sound one.
//
//	A → B  RepairOpen {stable}                B → A  RangeAnswer {stable}
//	A → B  RangeDigests {16 parts of all}     B → A  RangeAnswer {3, 9 differ}
//	A → B  RangeDigests {16 parts of each}    B → A  RangeAnswer {7, 20 differ, and have few pieces}
//	A → B  RangeCells {both ranges, A's}      B merges
//	                                          B → A  RangeCells {what B had otherwise}        A merges
//	A → B  RangeDigests {}                    the repair is over
//
// The side that opens it asks one thing at a time and keeps what is still to be compared, which is bounded by the depth that
// ranges are cut to. The other answers, and keeps nothing but the vector. A broken session ends the repair; the next comparison of
// digests begins another.
//
// Fingerprints leave out what is observed at or below the join of the two stable vectors, for one side may have pruned it. Each
// stable vector must be at or below what the other holds whole (see Firm): a replica below the other's has not seen removals that were pruned there, and
// would bring back what was removed. Such a one needs a snapshot.

// And that must hold of the very states that cells are read from and merged into, while both go on. A side reads cells only where
// its stable vector is at or below what the other has acknowledged; and it acknowledges nothing between that and sending them, so
// that what it acknowledged before is in the state that they are of. The receiver compares its own stable vector with that
// when it merges. Messages are counted, against streams that reorder them.

// RepairJob is work of a repair that the host does: one of Split, Compare, Take and Merge. It then calls RepairDone.
type RepairJob struct {
	Round  uint64
	Stable crdt.VersionVector // what fingerprints leave out
	// Theirs is what the peer held whole, at least, when it read the cells to merge; or what it has acknowledged.
	Theirs crdt.VersionVector
	claims uint64 // that were sent before
	served bool   // of a repair that the peer began

	Split   []Range     // cut each into about SplitParts parts: Parts
	Compare []Part      // find those that differ from one's own: Differs
	Take    []Range     // collect cells, about RepairBytes: Cells
	Merge   *RangeCells // merge, after collecting what is otherwise here if it is not a reply: Cells
}

// RepairResult is what a RepairJob came to.
type RepairResult struct {
	Parts   []Part
	Differs []RangeDifference
	// Cells is what is to be sent. Its spans are the first of those of the job, and the last may end earlier.
	Cells *RangeCells
	// Changed documents by merging; Damaged ones could not be read, and were made anew.
	Changed int
	Damaged int
	Err     error // ends the repair, not the session
}

// RepairOutcome is how a repair ended.
type RepairOutcome struct {
	ByPeer  bool // the peer began it
	Changed int  // documents here
	Damaged int  // of those, could not be read before
	Sent    int  // documents, whole or in part
	Err     error
}

// repairs is a session's part in a repair that it began, and in one that the peer began.
type repairs struct {
	claims      uint64 // messages sent that acknowledge something
	claimsHeard uint64
	own         *ownRepair
	served      *servedRepair
	ended       []RepairOutcome
}

// ownRepair is a repair that this side opened.
type ownRepair struct {
	round  uint64
	stable crdt.VersionVector
	opened bool // the peer takes part
	job    *RepairJob
	reads  bool // cells for out
	out    Message
	asked  []Part  // whose RangeAnswer is awaited, as sent
	spans  []Range // whose reply is awaited
	large  []Range // that differ, to be cut; the last are cut first
	small  []Range // that differ, to be exchanged
	total  RepairOutcome
}

// servedRepair is a repair that the peer opened.
type servedRepair struct {
	round  uint64
	stable crdt.VersionVector
	job    *RepairJob
	reads  bool // cells for out
	out    Message
	total  RepairOutcome
}

// isClaim reports whether who gets m knows of more that the sender holds.
func isClaim(m Message) bool {
	switch m.(type) {
	case *Delta, *Ack, *SnapshotBegin:
		return true
	}
	return false
}

// tellsCells reports whether cells are being read, or were and are to be sent next.
func (s *Session) tellsCells() bool {
	return s.own != nil && s.own.reads || s.served != nil && s.served.reads
}

// StartRepair begins a repair with the peer, unless one is going on that this side began. round is a random number.
func (s *Session) StartRepair(round uint64) {
	if s.own != nil {
		return
	}
	s.own = &ownRepair{round: round, stable: s.local.Stable, out: &RepairOpen{Round: round, Stable: s.local.Stable}}
}

// AbandonRepair ends a repair that this side began and that does not get on.
func (s *Session) AbandonRepair() {
	if s.own != nil {
		s.own.giveUp(errors.New("the peer does not answer"))
	}
}

// HasRepairJob reports whether RepairJob would return one. From then on until RepairDone the session may acknowledge nothing, so a host
// that has to wait before it can work does so first.
func (s *Session) HasRepairJob() bool {
	return s.own != nil && s.own.job != nil || s.served != nil && s.served.job != nil
}

// RepairJob returns work for the host, nil if there is none now. The same is not returned again.
func (s *Session) RepairJob() *RepairJob {
	var job *RepairJob
	switch {
	case s.own != nil && s.own.job != nil:
		job, s.own.job = s.own.job, nil
		s.own.reads = job.Take != nil
	case s.served != nil && s.served.job != nil:
		job, s.served.job = s.served.job, nil
		s.served.reads = job.Merge != nil
	}
	if job != nil {
		job.claims = s.claims
		if job.Merge == nil {
			job.Theirs = s.FirmVector().Clone()
		}
	}
	return job
}

// RepairEnded returns how repairs ended since the last call.
func (s *Session) RepairEnded() []RepairOutcome {
	ended := s.ended
	s.ended = nil
	return ended
}

// RepairDone takes the result of a job.
func (s *Session) RepairDone(job *RepairJob, res RepairResult) {
	switch {
	case !job.served && s.own != nil && s.own.round == job.Round && !s.own.isOver():
		s.own.total.Changed += res.Changed
		s.own.total.Damaged += res.Damaged
		if res.Err != nil {
			s.own.giveUp(res.Err)
			return
		}
		s.ownDone(job, res)
	case job.served && s.served != nil && s.served.round == job.Round:
		s.served.total.Changed += res.Changed
		s.served.total.Damaged += res.Damaged
		s.servedDone(job, res)
	}
}

func (s *Session) nextRepair() Message {
	var m Message
	switch {
	case s.own != nil && s.own.out != nil:
		m, s.own.out, s.own.reads = s.own.out, nil, false
		if d, ok := m.(*RangeDigests); ok && len(d.Parts) == 0 {
			s.endOwn(s.own.total.Err)
		}
	case s.served != nil && s.served.out != nil:
		m, s.served.out, s.served.reads = s.served.out, nil, false
		if a, ok := m.(*RangeAnswer); ok && a.Refused {
			s.endServed(errors.New(a.Text))
		}
	}
	return m
}

// giveUp ends the repair once the peer is told.
func (o *ownRepair) giveUp(err error) {
	o.total.Err = err
	o.job, o.asked, o.spans = nil, nil, nil
	o.out = &RangeDigests{Round: o.round}
}

func (o *ownRepair) isOver() bool { return o.total.Err != nil }

func (s *Session) endOwn(err error) {
	s.own.total.Err = err
	s.ended = append(s.ended, s.own.total)
	s.own = nil
}

// endServed also ends it where the peer opens another.
func (s *Session) endServed(err error) {
	if s.served == nil {
		return
	}
	s.served.total.ByPeer = true
	s.served.total.Err = err
	s.ended = append(s.ended, s.served.total)
	s.served = nil
}

func (s *Session) receiveRepairOpen(m *RepairOpen) {
	s.endServed(errors.New("the peer began another"))
	v := &servedRepair{round: m.Round}
	if s.local.Rejoining {
		v.out = &RangeAnswer{Round: m.Round, Refused: true, Text: "this replica is being brought up by a snapshot"}
		s.served = v
		return
	}
	if !s.local.holdsFirmly(m.Stable) {
		v.out = &RangeAnswer{Round: m.Round, Refused: true, Text: "this replica is below the other's stable vector: it needs a snapshot"}
		s.served = v
		return
	}
	beyond := s.local.Stable.Beyond(m.Stable)
	v.stable = m.Stable.Clone()
	v.stable.Join(beyond)
	v.out = &RangeAnswer{Round: m.Round, Stable: beyond}
	s.served = v
}

func (s *Session) receiveRangeDigests(m *RangeDigests) error {
	v := s.served
	if v == nil || v.round != m.Round {
		return nil // of a repair that was given up
	}
	if err := checkParts(m.Parts); err != nil {
		return err
	}
	if len(m.Parts) == 0 {
		s.endServed(nil)
		return nil
	}
	v.job = &RepairJob{Round: m.Round, Stable: v.stable, served: true, Compare: m.Parts}
	return nil
}

func checkParts(parts []Part) error {
	for i, p := range parts {
		if !p.isValid() || i > 0 && !p.follows(parts[i-1].Range) {
			return errors.New("ranges whose digests came are out of order")
		}
	}
	return nil
}

func checkSpans(spans []Range) error {
	for i, g := range spans {
		if !g.isValid() || i > 0 && !g.follows(spans[i-1]) {
			return errors.New("ranges whose cells came are out of order")
		}
	}
	return nil
}

func (s *Session) receiveRangeAnswer(m *RangeAnswer) error {
	o := s.own
	if o == nil || o.round != m.Round {
		return nil
	}
	switch {
	case m.Refused:
		s.endOwn(fmt.Errorf("the peer refused: %.200s", m.Text))
	case o.isOver(): // given up
	case !o.opened:
		if !s.local.holdsFirmly(m.Stable) {
			o.giveUp(errors.New("this replica is below the peer's stable vector: it needs a snapshot"))
			return nil
		}
		o.opened = true
		o.stable = o.stable.Clone()
		o.stable.Join(m.Stable)
		o.job = &RepairJob{Round: o.round, Stable: o.stable, Split: []Range{{}}}
	case o.asked != nil:
		return s.takeDifferences(m.Differs)
	}
	return nil
}

// takeDifferences sorts the ranges that differ by what is to be done with them.
func (s *Session) takeDifferences(differs []RangeDifference) error {
	o := s.own
	last := -1
	for _, d := range differs {
		if d.Index <= last || d.Index >= len(o.asked) {
			return errors.New("an answer names ranges out of order, or that were not asked for")
		}
		last = d.Index
		own := o.asked[d.Index]
		if min(own.Pieces, d.Pieces) <= smallRange {
			o.small = append(o.small, own.Range)
		} else {
			o.large = append(o.large, own.Range)
		}
	}
	o.asked = nil
	s.proceed()
	return nil
}

// proceed chooses what is done next. Cells are exchanged as soon as they fill a message, so that what is kept stays bounded.
func (s *Session) proceed() {
	o := s.own
	switch {
	case len(o.small) >= MaxRangeSpans || len(o.large) == 0 && len(o.small) > 0:
		n := min(len(o.small), MaxRangeSpans)
		spans := slices.Clone(o.small[len(o.small)-n:])
		o.small = o.small[:len(o.small)-n]
		slices.SortFunc(spans, func(a, b Range) int { return a.Lower.Compare(b.Lower) })
		o.job = &RepairJob{Round: o.round, Stable: o.stable, Take: spans}
	case len(o.large) > 0:
		n := min(len(o.large), splitRanges)
		ranges := slices.Clone(o.large[len(o.large)-n:])
		o.large = o.large[:len(o.large)-n]
		slices.SortFunc(ranges, func(a, b Range) int { return a.Lower.Compare(b.Lower) })
		o.job = &RepairJob{Round: o.round, Stable: o.stable, Split: ranges}
	default:
		o.out = &RangeDigests{Round: o.round}
	}
}

func (s *Session) ownDone(job *RepairJob, res RepairResult) {
	o := s.own
	switch {
	case job.Split != nil:
		o.asked = res.Parts
		o.out = &RangeDigests{Round: o.round, Parts: res.Parts}
	case job.Take != nil:
		o.small = append(o.small, remainder(job.Take, res.Cells.Spans)...)
		o.spans = res.Cells.Spans
		o.total.Sent += len(res.Cells.Documents)
		res.Cells.Claims = job.claims
		o.out = res.Cells
	case job.Merge != nil:
		s.proceed()
	}
}

func (s *Session) servedDone(job *RepairJob, res RepairResult) {
	v := s.served
	switch {
	case res.Err != nil:
		v.out = &RangeAnswer{Round: v.round, Refused: true, Text: res.Err.Error()}
	case job.Compare != nil:
		v.out = &RangeAnswer{Round: v.round, Differs: res.Differs}
	case job.Merge != nil:
		v.total.Sent += len(res.Cells.Documents)
		res.Cells.Claims = job.claims
		v.out = res.Cells
	}
}

// remainder returns what is left of some ranges once the first of them are covered by spans.
func remainder(ranges, spans []Range) []Range {
	rest := slices.Clone(ranges[len(spans):])
	if n := len(spans); n > 0 && spans[n-1].Upper != ranges[n-1].Upper {
		rest = append(rest, Range{spans[n-1].Upper, ranges[n-1].Upper})
	}
	return rest
}

// staleCells says that cells are of a state before one that the sender told of.
const staleCells = "cells came late"

func (s *Session) receiveRangeCells(m *RangeCells) error {
	if err := checkSpans(m.Spans); err != nil {
		return err
	}
	if m.Reply {
		return s.receiveReply(m)
	}
	if v := s.served; v != nil && v.round == m.Round {
		if s.claimsHeard > m.Claims {
			v.out = &RangeAnswer{Round: m.Round, Refused: true, Text: staleCells}
			return nil
		}
		v.job = &RepairJob{Round: m.Round, Stable: v.stable, Theirs: s.FirmVector().Clone(), served: true, Merge: m}
	}
	return nil
}

func (s *Session) receiveReply(m *RangeCells) error {
	o := s.own
	if o == nil || o.round != m.Round || o.spans == nil || o.isOver() {
		return nil
	}
	if len(m.Spans) == 0 || len(m.Spans) > len(o.spans) {
		return errors.New("a reply covers none of the ranges, or more than were asked for")
	}
	for i, g := range m.Spans {
		asked := o.spans[i]
		cut := i+1 == len(m.Spans) && !g.Upper.IsZero() && !asked.EndsBefore(g.Upper)
		if g.Lower != asked.Lower || g.Upper != asked.Upper && !cut {
			return errors.New("a reply covers other ranges than were asked for")
		}
	}
	if s.claimsHeard > m.Claims {
		o.giveUp(errors.New(staleCells))
		return nil
	}
	o.small = append(o.small, remainder(o.spans, m.Spans)...)
	o.spans = nil
	o.job = &RepairJob{Round: o.round, Stable: o.stable, Theirs: s.FirmVector().Clone(), Merge: m}
	return nil
}
