package replicatest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// cargo is what a delta or a snapshot carries, by the oracle's account.
type cargo struct {
	cells  []known   // of a delta
	all    knowledge // of a snapshot
	vv     crdt.VersionVector
	stable crdt.VersionVector
}

// received is what a replica gets by the cells of a delta. What was stable where they were encoded, and is not known here whole, they say
// nothing of: vv may cover a removal that is on its way with a later write.
func (r *replica) received(cells []known, stable crdt.VersionVector) []known {
	o, firm := r.node.sim.oracles[r.space], r.state.Firm()
	forgotten := func(d crdt.Dot) bool { return stable.Covers(d) && !firm.Covers(d) }
	got := slices.Clone(cells)
	for i := range got {
		k := &got[i].inclusion
		vague, sure := o.split(k.sure, forgotten)
		k.sure, k.vague = sure, k.vague.union(vague)
		k.vague = k.vague.union(o.doubt(got[i].cell, r.now.of(got[i].cell), *k, r.seenAt(got[i].cell), r.state.Horizon()))
	}
	return got
}

// seenAt returns what the replica goes by to have seen at a cell, when a delta comes.
func (r *replica) seenAt(cell int) crdt.VersionVector {
	o, mark := r.node.sim.oracles[r.space], r.state.Rejoining()
	at := protocol.Position{Key: o.cells[cell].key, Path: o.cells[cell].path}
	if mark == nil || at.Compare(mark.Position) >= 0 {
		return r.state.Stable()
	}
	r.node.sim.counts[DeltasBesideSnapshot]++
	seen := r.state.Stable().Clone()
	seen.Join(mark.V)
	return seen
}

// liveNow returns what is live in a cell.
func (r *replica) liveNow(from docstore.Reader, cell int) []int {
	o := r.node.sim.oracles[r.space]
	r.node.sim.counts[VagueCells]++
	stored, ok, err := docstore.Read(from, spaceNumber(r.space), o.cells[cell].key)
	if err != nil {
		r.node.sim.failf("node %d: %v", r.node.index, err)
	}
	if !ok {
		return nil
	}
	var live []int
	for _, e := range stored.Document.Cell(o.cells[cell].path).Live {
		live = append(live, o.byDot[e.Dot])
	}
	slices.Sort(live)
	return live
}

// stream is a snapshot that one end of a session sends.
type stream struct {
	*docstore.SnapshotReader
	isClosed bool
}

func (st *stream) close() {
	if st != nil && !st.isClosed {
		st.isClosed = true
		st.Close()
	}
}

// source implements protocol.Source for one end of a session.
type source struct{ *end }

func (f source) Delta(origin crdt.ReplicaID, from, to, pruned hlc.Time) (*protocol.Delta, error) {
	return f.replica.Delta(origin, from, to, pruned)
}

func (f source) Begin(q *protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) {
	r, s := f.replica, f.replica.node.sim
	if !s.settles && s.rejoin.IntN(3) == 0 {
		return nil, protocol.ErrBusy // as if it were
	}
	f.stream.close()
	snap, err := r.node.store.Snapshot()
	if err != nil {
		return nil, err
	}
	reader, begin, err := docstore.OpenSnapshot(snap, spaceNumber(r.space), q)
	if err != nil {
		return nil, err
	}
	reader.MaxDocuments, reader.MaxBytes = 1+s.rejoin.IntN(3), 1+s.rejoin.IntN(2000)
	if s.plan.choppy {
		reader.MaxDocuments, reader.MaxBytes = 1, 1+s.rejoin.IntN(1000)
	}
	reader.MaxCell = 1 + s.rejoin.IntN(4000)
	f.stream = &stream{SnapshotReader: reader}
	s.begun[begin] = cargo{all: append(knowledge(nil), r.disk...), vv: begin.VV.Clone(), stable: begin.Stable.Clone()}
	return begin, nil
}

func (f source) Piece() (*protocol.SnapshotPiece, error) {
	p, err := f.stream.Next()
	if errors.Is(err, docstore.ErrCorrupt) && len(f.replica.node.sim.hurt[f.replica.space]) > 0 {
		f.stream.close()
		f.replica.node.sim.counts[SnapshotsUnreadable]++
		return nil, protocol.ErrUnreadable
	}
	if err != nil || f.stream.IsLast(p) {
		f.stream.close()
	}
	return p, err
}

// chooseSource lets a replica ask for the snapshot that it needs, if there is one, and reports whether it did.
func (s *simulation) chooseSource(r *replica) bool {
	if r.node.isDown || s.failure != nil {
		return false
	}
	ends := s.endsOf(r)
	var candidates []protocol.Candidate
	var source protocol.PeerID
	mark := r.state.Rejoining()
	if mark != nil {
		source = mark.Source
	}
	lost := s.settles || s.rejoin.IntN(5) == 0
	for _, e := range ends {
		c := e.session.Candidate(e.peer.replica.node.peer, r.state.Firm())
		candidates = append(candidates, c)
		lost = lost && c.Peer != source
	}
	i, startOver := protocol.ChooseSource(candidates, mark != nil, source, lost)
	if startOver {
		s.abandon(r)
	}
	if i < 0 {
		return startOver
	}
	if ends[i].peer.replica.durable.Stable.LessOrEqual(r.state.Firm()) {
		s.counts[SnapshotsPreferred]++
	}
	s.askAgain(ends[i])
	return true
}

// abandon drops the mark of a replica. What the snapshot lent is vague from now on.
func (s *simulation) abandon(r *replica) {
	s.counts[SnapshotsAbandoned]++
	s.tracef("node %d: gives its snapshot up", r.node.index)
	for _, e := range s.endsOf(r) {
		e.session.DropSnapshot()
		e.piece = nil
	}
	r.state.AbandonSnapshot()
	s.settleLoans(r, func(k inclusion) inclusion {
		return inclusion{sure: k.sure, vague: k.vague.union(k.lent)}
	})
}

func (s *simulation) settleLoans(r *replica, to func(inclusion) inclusion) {
	part := &r.node.group.parts[r.space]
	part.partial = true
	for cell := range r.now {
		k := known{cell, to(r.now.of(cell))}
		r.now.set(cell, k.inclusion)
		part.known = append(part.known, k)
	}
}

func (s *simulation) beginSnapshot(e *end, b *protocol.SnapshotBegin) {
	r, n := e.replica, e.replica.node
	had := r.state.Rejoining() != nil
	m, err := r.state.BeginSnapshot(e.peer.replica.node.peer, b, n.self, n.checkClock)
	switch {
	case errors.Is(err, docstore.ErrGap):
		s.askAgain(e)
		return
	case err != nil:
		s.noteMerge(n, docstore.Merged{}, err)
		e.session.DropSnapshot()
		return
	}
	n.clock.Observe(m.Max)
	s.noteForeign(n, m)
	if b.From.IsZero() && r.state.Rejoining().Position.IsZero() {
		if had {
			s.counts[SnapshotsRestarted]++
			s.settleLoans(r, func(k inclusion) inclusion { return inclusion{sure: k.sure, vague: k.vague.union(k.lent)} })
		}
		s.counts[Snapshots]++
	} else {
		s.counts[SnapshotsContinued]++
	}
	n.group.parts[r.space].partial = true
}

func (s *simulation) noteForeign(n *node, m docstore.Merged) {
	if m.Foreign {
		s.counts[LossProvenByDelta]++
		n.doubtIdentity()
	}
}

// askUnneeded lets a replica take a snapshot that it may not need, so that most of it is here already.
func (s *simulation) askUnneeded() {
	var all []*end
	for _, l := range s.links {
		for _, e := range l.ends {
			r := e.replica
			fetches := slices.ContainsFunc(s.endsOf(r), func(e *end) bool { return e.session.IsFetching() })
			if !fetches && !r.node.isDown && r.state.Rejoining() == nil && e.session.Candidate(protocol.PeerID{}, crdt.VersionVector{}).Met {
				all = append(all, e)
			}
		}
	}
	if len(all) > 0 {
		s.askAgain(all[s.known.IntN(len(all))])
	}
}

func (s *simulation) askAgain(e *end) {
	r := e.replica
	q := r.state.SnapshotRequest()
	if from, stable, ok := r.state.KnownFrom(e.session.OfferedStable()); ok && s.tells {
		snap, err := r.node.store.Snapshot()
		if err == nil {
			defer snap.Close()
			grain := docstore.Grain{Ranges: 2 * (1 + s.known.IntN(4)), Width: 1 + s.known.IntN(3)}
			q.Known, err = docstore.ReadKnownRanges(context.Background(), snap, spaceNumber(r.space), s.known.Uint64()|1, stable, from, grain)
		}
		if err != nil {
			s.failf("node %d: %v", r.node.index, err)
		}
	}
	s.tracef("node %d: asks for a snapshot from %v", r.node.index, q.From)
	e.session.AskSnapshot(q)
}

func (s *simulation) mergePiece(e *end, p *protocol.Piece) {
	var before protocol.Position
	if mark := e.replica.state.Rejoining(); mark != nil {
		before = mark.Position
	}
	s.mergePieceFrom(e, p, before)
}

// mergePieceFrom merges a piece of which what comes before a position is accounted for already.
func (s *simulation) mergePieceFrom(e *end, p *protocol.Piece, before protocol.Position) {
	r, n := e.replica, e.replica.node
	over := n.overlay()
	defer over.Snapshot.Close()
	seen := r.state.VV().Clone()
	m, err := r.state.MergePiece(over, n.group.batch, p, n.self, n.checkClock)
	switch {
	case errors.Is(err, docstore.ErrGap):
		s.counts[GapsRefused]++
		if p.Equal {
			s.counts[EqualRangesChanged]++
		}
		s.askAgain(e)
		return
	case errors.Is(err, docstore.ErrCorrupt):
		// Some of it may have been merged before the damage was met, and becomes durable now.
		if mark := r.state.Rejoining(); mark != nil && !p.Partial && before.Compare(mark.Position) < 0 {
			r.borrow(&n.group.parts[r.space], s.begun[p.Of], seen, before, docstore.MergedPiece{Next: mark.Position})
			before = mark.Position
		}
		if r.mendBroken() {
			s.mergePieceFrom(e, p, before)
			return
		}
		fallthrough
	case err != nil:
		s.noteMerge(n, docstore.Merged{}, err)
		e.session.DropSnapshot()
		return
	case !m.New:
		s.counts[KnownPieces]++
		return
	}
	n.clock.Observe(m.Max)
	s.noteForeign(n, m.Merged)
	s.counts[Pieces]++
	part := &n.group.parts[r.space]
	part.partial = true
	if p.Equal {
		s.counts[EqualRanges]++
		if p.Fingerprint != 0 {
			s.counts[EqualRangesWithCells]++
		}
	}
	if p.Partial {
		s.counts[PiecesOfOneCell]++
		r.borrowVaguely(part, s.begun[p.Of], p)
	} else {
		r.borrow(part, s.begun[p.Of], seen, before, m)
	}
	if m.Partial {
		s.counts[PartialPieces]++
		e.piece = p
	}
	if m.End {
		s.counts[SnapshotsCompleted]++
		s.tracef("node %d: its snapshot is through", n.index)
		part.risen.Join(m.Risen)
		s.settleLoans(r, func(k inclusion) inclusion { return inclusion{sure: k.firm(), vague: k.vague} })
		e.session.DropSnapshot()
	}
	for key := range s.oracles[r.space].docs {
		r.checkDocument(over, key)
	}
	r.checkVectors()
	if p.AsksOn && !m.Partial {
		s.counts[KnownWindows]++
		s.askAgain(e)
	}
}

// borrow adds what the cells of a piece include to the account.
func (r *replica) borrow(part *groupPart, from cargo, seen crdt.VersionVector, before protocol.Position, m docstore.MergedPiece) {
	o := r.node.sim.oracles[r.space]
	for cell := range o.cells {
		k, own := from.all.of(cell), r.now.of(cell)
		at := protocol.Position{Key: o.cells[cell].key, Path: o.cells[cell].path}
		if at.Compare(before) < 0 || !m.End && at.Compare(m.Next) >= 0 {
			continue
		}
		lent, sure := o.split(k.sure, from.stable.Covers)
		vague := k.vague.union(o.doubt(cell, own, k, seen, r.state.Horizon()))
		vague = vague.union(o.doubt(cell, k, own, from.vv, r.state.Horizon()))
		r.learn(part, []known{{cell, inclusion{sure: sure, lent: lent.union(k.lent), vague: vague}}})
	}
}

// borrowVaguely adds what a part of a cell may include to the account.
func (r *replica) borrowVaguely(part *groupPart, from cargo, p *protocol.Piece) {
	o := r.node.sim.oracles[r.space]
	for cell, name := range o.cells {
		if k := from.all.of(cell); p.Contains(protocol.Position{Key: name.key, Path: name.path}) {
			r.learn(part, []known{{cell, inclusion{vague: k.firm().union(k.vague)}}})
		}
	}
}

// anyStable returns any vector at or below that of a replica: the join of what others have, all of its own, or something between.
func (s *simulation) anyStable(r *replica) crdt.VersionVector {
	switch s.rejoin.IntN(3) {
	case 0:
		return s.below(r.state.VV().Clone())
	case 1:
		return s.onDisk(s.nodes[s.rejoin.IntN(len(s.nodes))].replicas[r.space])
	}
	return r.state.VV().Clone()
}

// someRejoining lets snapshots begin, and things happen to them.
func (s *simulation) someRejoining() {
	if !s.plan.rejoins {
		return
	}
	if s.rejoin.IntN(30) == 0 {
		if n := s.nodes[s.rejoin.IntN(len(s.nodes))]; !n.isDown {
			s.chooseSource(n.replicas[s.rejoin.IntN(len(n.replicas))])
		}
	}
	if s.tells && s.known.IntN(40) == 0 {
		s.askUnneeded()
	}
	switch s.rejoin.IntN(6) {
	case 0, 1:
		s.moveSnapshot()
	case 2:
		s.deltaBesideSnapshot()
	}
	if s.rejoin.IntN(200) == 0 || s.plan.choppy && s.rejoin.IntN(6) == 0 {
		s.disturbSnapshot()
	}
}

// moveSnapshot lets a message of a session pass in each direction, one that takes a snapshot if there is any: it takes many.
func (s *simulation) moveSnapshot() {
	var all, fetching []*end
	for _, l := range s.links {
		for _, e := range l.ends {
			if all = append(all, e); e.session.IsFetching() {
				fetching = append(fetching, e)
			}
		}
	}
	if len(fetching) > 0 {
		all = fetching
	}
	if len(all) == 0 {
		return
	}
	e := all[s.rejoin.IntN(len(all))]
	for _, side := range []*end{e.peer, e} {
		for range 2 {
			if s.failure == nil {
				s.pump(side.peer)
				s.deliver(side, false)
			}
		}
	}
	if n := e.replica.node; s.rejoin.IntN(2) == 0 && !n.isDown {
		n.seal()
		n.persist()
	}
}

// deltaBesideSnapshot lets a replica that takes a snapshot receive a delta that was sent to somebody at some time, and which it
// can use.
func (s *simulation) deltaBesideSnapshot() {
	taking := s.taking()
	if len(taking) == 0 || s.plan.holds {
		return
	}
	r := taking[s.rejoin.IntN(len(taking))]
	var past []*protocol.Delta
	for _, d := range s.past[r.space] {
		if have := r.state.VV().Get(d.Origin); d.Origin != r.node.self && d.From <= have && have < d.To {
			past = append(past, d)
		}
	}
	if len(past) == 0 {
		return
	}
	d := past[s.rejoin.IntN(len(past))]
	s.tracef("node %d: beside its snapshot %s", r.node.index, describe(d))
	m, err := r.merge(d)
	s.noteMerge(r.node, m, err)
	if err == nil {
		s.noteForeign(r.node, m)
	}
}

// taking returns the replicas that take a snapshot.
func (s *simulation) taking() []*replica {
	var taking []*replica
	for _, n := range s.nodes {
		for _, r := range n.replicas {
			if !n.isDown && r.state.Rejoining() != nil {
				taking = append(taking, r)
			}
		}
	}
	return taking
}

// disturbSnapshot lets something happen to a snapshot under way, or to one that has stopped.
func (s *simulation) disturbSnapshot() {
	taking := s.taking()
	if len(taking) == 0 {
		return
	}
	r := taking[s.rejoin.IntN(len(taking))]
	var from *end
	for _, e := range s.endsOf(r) {
		if e.session.IsFetching() {
			from = e
		}
	}
	switch d := s.rejoin.IntN(20); {
	case d == 0:
		s.abandon(r)
	case from == nil:
		s.chooseSource(r)
	case d < 10 && (r.durable.Rejoining || s.rejoin.IntN(3) == 0):
		s.cut(from.link)
		if s.rejoin.IntN(2) == 0 {
			from.link.connect() // at once, so that it goes on
		}
	case d < 10:
	case d < 13 && s.plan.crashes:
		s.crash(r.node)
	case d < 15 && s.plan.crashes:
		s.crash(from.peer.replica.node)
	case d < 17:
		s.restore(from.peer.replica.node)
	case d < 18:
		s.restore(r.node)
	default:
		from.peer.replica.raiseStable(from.peer.replica.state.VV())
		s.cut(from.link)
	}
}

func describeSnapshot(m protocol.Message) string {
	switch m := m.(type) {
	case *protocol.SnapshotOffer:
		return "offer of a snapshot, stable " + m.Stable.String()
	case *protocol.SnapshotRequest:
		return fmt.Sprintf("request of a snapshot from %v, V %s", m.From, m.V)
	case *protocol.SnapshotBegin:
		return fmt.Sprintf("snapshot %d begins at %v: vv %s, stable %s", m.State, m.From, m.VV, m.Stable)
	case *protocol.SnapshotPiece:
		return fmt.Sprintf("piece of snapshot %d from %v to %v with %d documents, last %v", m.State, m.Lower, m.Upper, len(m.Documents), m.IsLast())
	}
	return ""
}
