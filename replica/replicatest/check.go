package replicatest

import (
	"context"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// checkDocument compares what is stored under a key with what the oracle expects of this very state, cell by
// cell: the live entries with their dots, stamps, authors and values.
func (r *replica) checkDocument(from docstore.Reader, key string) {
	s, o := r.node.sim, r.node.sim.oracles[r.space]
	if s.hurt[r.space][key] {
		return
	}
	stored, ok, err := docstore.Read(from, spaceNumber(r.space), key)
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return
	}
	if !ok {
		stored.Document = crdt.NewDocument(nil)
	}
	checked := 0
	for _, id := range o.docs[key] {
		cell := stored.Document.Cell(o.cells[id].path)
		if !cell.IsEmpty() {
			checked++
		}
		r.checkCell(id, cell)
	}
	stray := -checked
	for range stored.Document.Fields() {
		stray++
	}
	if stray != 0 {
		s.failf("node %d: document %q has %d cells that nobody wrote", r.node.index, key, stray)
	}
}

func (r *replica) checkCell(id int, cell crdt.Cell) {
	s, o := r.node.sim, r.node.sim.oracles[r.space]
	must, may := o.bounds(id, r.now.of(id))
	if err := cell.Check(); err != nil {
		s.failf("node %d: %s: %v", r.node.index, o.cells[id], err)
	}
	if len(must) > 1 {
		s.counts[SiblingsSeen]++
	}
	same := true
	for _, e := range cell.Live {
		i, known := o.byDot[e.Dot]
		if !known || !slices.Contains(may, i) {
			same = false
			break
		}
		must = slices.DeleteFunc(slices.Clone(must), func(k int) bool { return k == i })
		same = same && o.entryOf(id, i) == e
	}
	if !same || len(must) > 0 {
		if s.failure == nil && s.trace != nil {
			s.explain(r.space, id)
		}
		s.failf("node %d: %s: live are %v, and the oracle says %s, of which %s are missing",
			r.node.index, o.cells[id], cell.Live, o.describe(id, may), o.describe(id, must))
	}
}

func (o *oracle) describe(cell int, live []int) string {
	text := "["
	for _, i := range live {
		text += fmt.Sprintf(" %s=%v", o.txs[i].dot, o.valueOf(cell, i))
	}
	return text + " ]"
}

// checkVectors checks stable ≤ vv ≤ horizon, and of a closed replica that it equals the oracle restricted to the
// transactions in its vv.
func (r *replica) checkVectors() {
	s, o := r.node.sim, r.node.sim.oracles[r.space]
	vv := r.state.VV()
	firm := r.state.Firm()
	if !r.state.Stable().LessOrEqual(firm) || !firm.LessOrEqual(vv) || !vv.LessOrEqual(r.state.Horizon()) {
		s.failf("node %d: stable %s, firm %s, vv %s and horizon %s are out of order", r.node.index, r.state.Stable(), firm, vv, r.state.Horizon())
	}
	if !r.state.IsClosed() {
		s.counts[OpenStates]++
		return
	}
	s.counts[ClosedChecks]++
	over := r.node.overlay()
	defer over.Snapshot.Close()
	for id := range o.cells {
		if s.hurt[r.space][o.cells[id].key] {
			continue // who got it from a damaged replica may lack a part
		}
		k := r.now.of(id)
		have, want := o.live(id, k.firm()), o.liveAt(id, vv)
		if k.isVague() { // whatever happened to the cell, it has come to this
			have = r.liveNow(over, id)
		}
		if !slices.Equal(have, want) {
			if s.failure == nil && s.trace != nil {
				s.explain(r.space, id)
			}
			s.failf("node %d is closed at %s, but in %s it has %s where the oracle has %s",
				r.node.index, vv, o.cells[id], o.describe(id, have), o.describe(id, want))
			return
		}
	}
}

// checkSent: only what is durable is sent.
func (s *simulation) checkSent(e *end, m protocol.Message) {
	var claims crdt.VersionVector
	switch m := m.(type) {
	case *protocol.Vectors:
		claims = m.VV
	case *protocol.Opening:
		s.counts[OpenedBySummary]++
	case *protocol.Branches:
		s.counts[BranchesTold]++
		for _, b := range m.List {
			claims.Join(crdt.NewVersionVector(b.Entries...))
		}
	case *protocol.Ack:
		claims = m.VV
	case *protocol.Delta:
		claims = crdt.NewVersionVector(crdt.Dot{Replica: m.Origin, Time: m.To})
		s.remember(e.replica.space, m)
	}
	if disk := s.onDisk(e.replica); !claims.LessOrEqual(disk) {
		s.failf("node %d says that it holds %s, and on disk has %s", e.replica.node.index, claims, disk)
	}
}

// checkAckedBy: what a peer is thought to hold, and to hold whole, is no more than what it holds durably. Which of two messages came first
// decides what is thought to be whole, so a stream that swaps them may break that; who merges a delta looks for himself.
func (s *simulation) checkAckedBy(e *end) {
	if acked, ever := e.session.AckedVector(), e.peer.replica.ever; !acked.LessOrEqual(ever) {
		s.failf("node %d thinks that node %d holds %s, which never had more than %s on disk",
			e.replica.node.index, e.peer.replica.node.index, acked, ever)
	}
	if whole, firm := e.session.FirmVector(), e.peer.replica.firm; s.plan.distortion == 0 && !whole.LessOrEqual(firm) {
		s.failf("node %d thinks that node %d holds all of %s, which never had more of it on disk than %s",
			e.replica.node.index, e.peer.replica.node.index, whole, firm)
	}
}

// onDisk reads the vv that the store would be opened with.
func (s *simulation) onDisk(r *replica) crdt.VersionVector { return s.stored(r).VV() }

// stored returns the state that is durable.
func (s *simulation) stored(r *replica) *docstore.Space {
	state := new(docstore.Space)
	snap, err := r.node.store.Snapshot()
	if err == nil {
		defer snap.Close()
		state, err = docstore.Load(snap, spaceNumber(r.space))
	}
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return new(docstore.Space)
	}
	return state
}

// verify recomputes what derives from the documents.
func (s *simulation) verify(r *replica) {
	if len(s.hurt[r.space]) > 0 && !s.isMended {
		return
	}
	snap, err := r.node.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return
	}
	defer snap.Close()
	s.counts[Verifications]++
	report, err := docstore.Verify(context.Background(), snap, spaceNumber(r.space), docstore.VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		s.failf("node %d: verify: %v %v", r.node.index, err, report.Problems)
	}
}

// checkQuiet compares everything with everything, at a moment when all replicas are level.
func (s *simulation) checkQuiet() {
	s.counts[QuietChecks]++
	for space, o := range s.oracles {
		first := s.nodes[0].replicas[space]
		for _, n := range s.nodes {
			r := n.replicas[space]
			if !r.state.VV().Equal(first.state.VV()) {
				s.failf("nodes 0 and %d do not come level: %s and %s", n.index, first.state.VV(), r.state.VV())
				return
			}
			s.checkWhole(r)
			s.checkOpen(r)
			if r.state.Digest() != first.state.Digest() {
				s.failf("nodes 0 and %d are level and differ in their digests", n.index)
			}
			if n.isSuspect() {
				s.failf("node %d still goes by a ReplicaID under which a backup was restored", n.index)
			}
		}
		for _, t := range o.txs {
			if t.status == durable && !first.state.VV().Covers(t.dot) && !s.lost[t] {
				s.failf("transaction %s of node %d was durable and is gone everywhere", t.dot, t.node)
			}
		}
	}
	for _, l := range s.links {
		for _, e := range l.ends {
			if !e.session.IsLevel() {
				s.failf("node %d does not know that node %d is level", e.replica.node.index, e.peer.replica.node.index)
			}
		}
	}
}

// checkWhole checks every document of a replica, its indexes, and what readers see.
func (s *simulation) checkWhole(r *replica) {
	snap, err := r.node.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", r.node.index, err)
		return
	}
	defer snap.Close()
	o := s.oracles[r.space]
	for key := range o.docs {
		r.checkDocument(snap, key)
	}
	for doc, err := range docstore.Scan(snap, spaceNumber(r.space), docstore.Range{}) {
		if err != nil {
			s.failf("node %d: %v", r.node.index, err)
			return
		}
		s.checkReading(r, doc)
	}
	r.checkVectors()
	s.verify(r)
}

// checkReading compares what shows at paths where nothing but siblings is in dispute: the newest of them, or the
// sum of a counter's parts.
func (s *simulation) checkReading(r *replica, doc docstore.Stored) {
	if s.hurt[r.space][doc.Key] {
		return
	}
	o := s.oracles[r.space]
	shown := make(map[crdt.PathKey]crdt.Value)
	for p, v := range doc.Document.Leaves() {
		shown[p] = v
	}
	for _, id := range o.docs[doc.Key] {
		live := o.live(id, r.now.of(id).firm())
		if r.now.of(id).isVague() {
			continue
		}
		if len(live) == 0 || s.isDisputed(r, doc.Key, id) {
			continue
		}
		want, ok := o.resolve(id, live)
		if got, shows := shown[o.cells[id].path]; ok && (!shows || got != want) {
			s.failf("node %d: %s shows %v, and the oracle says %v", r.node.index, o.cells[id], got, want)
		}
	}
}

// isDisputed reports whether something is live above or below the cell.
func (s *simulation) isDisputed(r *replica, key string, id int) bool {
	o := s.oracles[r.space]
	p := o.cells[id].path
	return slices.ContainsFunc(o.docs[key], func(other int) bool {
		q := o.cells[other].path
		return other != id && (p.Contains(q) || q.Contains(p)) && (r.now.of(other).isVague() || len(o.live(other, r.now.of(other).firm())) > 0)
	})
}

// resolve returns what shows of one cell; false if counters and values are mixed.
func (o *oracle) resolve(id int, live []int) (crdt.Value, bool) {
	sum, counters := int64(0), 0
	best := live[0]
	for _, i := range live {
		if v := o.valueOf(id, i); v.Kind() == crdt.Counter {
			counters++
			sum += v.Int()
		}
		a, b := o.entryOf(id, i), o.entryOf(id, best)
		if a.Stamp > b.Stamp || a.Stamp == b.Stamp && (a.Author > b.Author || a.Author == b.Author && a.Dot.Compare(b.Dot) > 0) {
			best = i
		}
	}
	switch counters {
	case 0:
		return o.valueOf(id, best), true
	case len(live):
		return crdt.CounterValue(sum), true
	}
	return crdt.Value{}, false
}

// checkOpen: a replica that is level may be open only where a writer was lost before all its writes had got round. Or where writes were
// re-issued because their only holder, put back to an older copy without knowing, denied that it had them, and it had told of them before.
func (s *simulation) checkOpen(r *replica) {
	o := s.oracles[r.space]
	for d := range r.state.Horizon().Beyond(r.state.VV()).All() {
		i, known := o.byDot[d]
		isDenied := s.counts[RestoredSameID] > 0 && slices.ContainsFunc(o.txs, func(t *tx) bool { return slices.Contains(t.former, d) })
		if (!known || !s.lost[o.txs[i]]) && !isDenied {
			s.failf("node %d is level and open at %s, which was not lost", r.node.index, d)
		}
	}
}
