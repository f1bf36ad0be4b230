package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Rejoin is the mark of a replica that is being brought up by a snapshot, which takes many commits. Until it is through, vv and
// stable are what they were; each piece moves the position in the commit that holds what the piece changed. So after a
// crash or a broken connection the snapshot goes on where it stopped.
//
// Invariants: what S, the source, has at any position before Position is merged; stable vectors of all states that
// pieces came from ≤ V ≤ their vvs.
type Rejoin struct {
	Source   protocol.PeerID
	Position protocol.Position
	V        crdt.VersionVector // vv of the state that the first piece came from
	Stable   crdt.VersionVector // join of the stable vectors of the states that pieces came from
	Progress
}

// Progress is how much of a snapshot has passed, of about how much.
type Progress struct {
	Documents, Bytes           uint64
	KnownDocuments, KnownBytes uint64
}

// Add counts what has passed.
func (p *Progress) Add(documents, bytes int) {
	p.Documents += uint64(documents)
	p.Bytes += uint64(bytes)
	p.KnownDocuments = max(p.KnownDocuments, p.Documents)
	p.KnownBytes = max(p.KnownBytes, p.Bytes)
}

// rejoining is the mark of a space, and what goes with it.
//
// What a snapshot lacks is removed here without a word of who removed it, where S has forgotten that. So beside the dots that
// cells name, this replica may show effects of hidden, and says so in the horizon of its deltas. That ends when vv
// covers hidden: whoever is served from then on has it too.
type rejoining struct {
	mark   *Rejoin // nil if no snapshot is being merged
	state  *protocol.SnapshotBegin
	parts  cellParts
	hidden crdt.VersionVector
	seen   crdt.VersionVector // join(stable, V), while a delta is merged

	changed      protocol.Position // before it a range has changed since the source was told of it
	changedToEnd bool

	moved bool                        // the mark changed since the last Flush
	risen map[crdt.ReplicaID]struct{} // entries of the mark's vectors or of hidden that did
}

// Rejoining returns the mark, nil if no snapshot is being merged. It changes with the space.
func (s *Space) Rejoining() *Rejoin { return s.rejoin.mark }

// SnapshotRequest returns what to ask the source for: all that is missing of the snapshot that is being merged, else a whole one.
func (s *Space) SnapshotRequest() protocol.SnapshotRequest {
	m := s.rejoin.mark
	if m == nil {
		return protocol.SnapshotRequest{}
	}
	return protocol.SnapshotRequest{From: m.Position, V: m.V}
}

// BeginSnapshot takes note of the state that the next pieces come from: of the snapshot that is being merged, if it
// continues that, else of a new one. self and check are as for Merge. ErrGap says that the answer does not fit the mark: ask again.
func (s *Space) BeginSnapshot(source protocol.PeerID, b *protocol.SnapshotBegin, self crdt.ReplicaID, check func(hlc.Time) error) (Merged, error) {
	m := Merged{Max: max(b.VV.Max(), b.Horizon.Max())}
	if !b.Stable.LessOrEqual(b.VV) || !b.VV.LessOrEqual(b.Horizon) {
		return m, fmt.Errorf("%w: the vectors of the snapshot break stable ≤ vv ≤ horizon", ErrMalformed)
	}
	if err := check(m.Max); err != nil {
		return m, err
	}
	if err := s.checkReplicas(b.Horizon); err != nil {
		return m, err
	}
	mark := s.rejoin.mark
	switch continues := mark != nil && mark.Source == source && protocol.ContinuesFrom(mark.V, b.VV, b.Stable); {
	case continues && b.From == mark.Position:
		mark.Stable.Join(b.Stable)
	case b.From.IsZero():
		mark = &Rejoin{Source: source, V: b.VV.Clone(), Stable: b.Stable.Clone()}
		s.dropMark()
		s.rejoin.mark = mark
	default:
		return m, fmt.Errorf("%w: the snapshot goes on at %v", ErrGap, b.From)
	}
	m.New = true
	m.Foreign = s.isForeign(self, b.Horizon)
	for id := range s.owned {
		m.Own.Advance(crdt.Dot{Replica: id, Time: b.Horizon.Get(id)})
	}
	mark.KnownDocuments, mark.KnownBytes = max(b.Documents, mark.Documents), max(b.Bytes, mark.Bytes)
	s.rejoin.state = b
	s.rejoin.moved, s.dirty = true, true
	for d := range b.Horizon.All() { // V and stable are below it
		s.foresee(d)
		s.rejoin.risen[d.Replica] = struct{}{}
	}
	s.hide(b.Horizon)
	return m, nil
}

// hide notes that effects of transactions may show here that no cell names: of what the source of a snapshot has forgotten, and of
// what is open here. An entry that is known to be dead only because vv covers it names nothing.
func (s *Space) hide(vv crdt.VersionVector) {
	for d := range vv.All() {
		if s.rejoin.hidden.Advance(d) {
			s.rejoin.risen[d.Replica] = struct{}{}
			s.rejoin.moved, s.dirty = true, true
		}
	}
}

// AbandonSnapshot drops the mark. What was merged stays, as cells with dots beyond vv: the next snapshot begins anew.
func (s *Space) AbandonSnapshot() {
	s.dropMark()
	s.settleHidden()
}

func (s *Space) dropMark() {
	m := s.rejoin.mark
	s.rejoin.changed, s.rejoin.changedToEnd = protocol.Position{}, false
	if m == nil {
		return
	}
	s.rejoin.mark, s.rejoin.state, s.rejoin.moved, s.dirty = nil, nil, true, true
	for d := range m.V.All() {
		s.rejoin.risen[d.Replica] = struct{}{}
	}
}

// completeSnapshot is the end: everything of V is here now, and what S had forgotten of is known to be dead. It returns what vv rose by.
func (s *Space) completeSnapshot() crdt.VersionVector {
	m := s.rejoin.mark
	risen := m.V.Beyond(s.vv)
	for d := range risen.All() {
		s.incorporate(d)
	}
	for d := range m.Stable.All() { // also where the space is open: what S had forgotten of is here, whole
		s.advanceStable(d)
	}
	s.dropMark()
	s.settleHidden()
	if s.ahead {
		s.breakFeed()
	}
	return risen
}

// settleHidden forgets hidden once vv covers it.
func (s *Space) settleHidden() {
	if s.rejoin.mark != nil || s.rejoin.hidden.Len() == 0 || !s.rejoin.hidden.LessOrEqual(s.vv) {
		return
	}
	for d := range s.rejoin.hidden.All() {
		s.rejoin.risen[d.Replica] = struct{}{}
	}
	s.rejoin.hidden, s.rejoin.moved, s.dirty = crdt.VersionVector{}, true, true
}

// isMarked reports whether the snapshot that is being merged has reached the document.
func (s *Space) isMarked(key string) bool {
	m := s.rejoin.mark
	return m != nil && (protocol.Position{Key: key}).Compare(m.Position) < 0
}

// markSeen prepares merging a delta beside a snapshot.
func (s *Space) markSeen() {
	if m := s.rejoin.mark; m != nil {
		s.rejoin.seen = s.stable.Clone()
		s.rejoin.seen.Join(m.V)
	}
}

// mergeField merges a cell of a delta. Where the snapshot was merged already, all of V has been seen: otherwise a dot
// that S had removed and forgotten would stay, if somebody sends it now. Stable alone decides what is pruned, as ever, for this
// replica still serves those that lack parts of V.
func (d *openDoc) mergeField(f crdt.Field) bool {
	s := d.space
	if m := s.rejoin.mark; m != nil && (protocol.Position{Key: d.key, Path: f.Path}).Compare(m.Position) < 0 {
		return d.doc.MergeComplete(f.Path, s.rejoin.seen, f.Cell, crdt.VersionVector{}, s.stable)
	}
	return d.doc.MergeField(s.stable, f.Path, f.Cell)
}

// The mark is stored under the key of its space; the entries of its vectors, which hardly change, under a key for each replica.

func (s *Space) flushRejoin(b *store.Batch) {
	m := s.rejoin.mark
	if s.rejoin.moved {
		s.rejoin.moved = false
		key := spaceKey(kindRejoin, s.number, 0)
		switch {
		case m != nil:
			b.Put(key, seal(key, m.pack()))
		case s.rejoin.hidden.Len() > 0: // no mark, but entries of hidden
			b.Put(key, seal(key, make([]byte, 4)))
		default:
			b.Delete(key)
		}
	}
	for r := range s.rejoin.risen {
		key := rejoinKey(s.number, r)
		times := [3]hlc.Time{2: s.rejoin.hidden.Get(r)}
		if m != nil {
			times[0], times[1] = m.V.Get(r), m.Stable.Get(r)
		}
		if times == [3]hlc.Time{} {
			b.Delete(key)
			continue
		}
		v := make([]byte, 4, 28)
		for _, t := range times {
			v = binary.BigEndian.AppendUint64(v, uint64(t))
		}
		b.Put(key, seal(key, v))
	}
	clear(s.rejoin.risen)
}

func (m *Rejoin) pack() []byte {
	v := append(make([]byte, 4, 4+32+64), m.Source[:]...)
	for _, n := range []uint64{m.Documents, m.Bytes, m.KnownDocuments, m.KnownBytes} {
		v = binary.AppendUvarint(v, n)
	}
	v = binary.AppendUvarint(v, uint64(len(m.Position.Key)))
	v = append(v, m.Position.Key...)
	return append(v, m.Position.Path...)
}

func parseRejoin(b []byte) (*Rejoin, bool) {
	m := new(Rejoin)
	if len(b) < len(m.Source) {
		return nil, false
	}
	rest := string(b[copy(m.Source[:], b):])
	var size uint64
	for _, n := range []*uint64{&m.Documents, &m.Bytes, &m.KnownDocuments, &m.KnownBytes, &size} {
		var ok bool
		if *n, rest, ok = cutUvarint(rest); !ok {
			return nil, false
		}
	}
	if size > uint64(len(rest)) {
		return nil, false
	}
	m.Position = protocol.Position{Key: rest[:size], Path: crdt.PathKey(rest[size:])}
	return m, true
}

func (s *Space) loadRejoin(r store.Snapshot) error {
	s.rejoin.risen = make(map[crdt.ReplicaID]struct{})
	prefix := spaceKey(kindRejoin, s.number, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("read the mark of a snapshot: %w", err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return err
		}
		if !s.loadRejoinEntry(e.Key, b) {
			return fmt.Errorf("%w: mark of a snapshot %q", ErrCorrupt, e.Key)
		}
	}
	return nil
}

func (s *Space) loadRejoinEntry(key, b []byte) bool {
	if len(key) == 5 { // it sorts first
		if len(b) == 0 {
			return true
		}
		var ok bool
		s.rejoin.mark, ok = parseRejoin(b)
		return ok
	}
	if len(key) != 13 || len(b) != 24 {
		return false
	}
	vectors := [3]*crdt.VersionVector{2: &s.rejoin.hidden}
	if m := s.rejoin.mark; m != nil {
		vectors[0], vectors[1] = &m.V, &m.Stable
	}
	for i, vv := range vectors {
		d := crdt.Dot{Replica: crdt.ReplicaID(binary.BigEndian.Uint64(key[5:])), Time: hlc.Time(binary.BigEndian.Uint64(b[8*i:]))}
		if vv != nil {
			vv.Advance(d)
		} else if d.Time != 0 {
			return false
		}
	}
	return true
}

// hiddenIn returns the hidden vector as a snapshot of the store has it. It is empty nearly always, and then costs one look.
func hiddenIn(r store.Snapshot, space uint32) (crdt.VersionVector, error) {
	_, ok, err := r.Get(spaceKey(kindRejoin, space, 0))
	if err != nil || !ok {
		return crdt.VersionVector{}, err
	}
	s := &Space{number: space}
	err = s.loadRejoin(r)
	return s.rejoin.hidden, err
}
