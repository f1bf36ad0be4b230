package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Space is the state of one space, newest changes included, whether they are durable already or not. What it
// knows in memory is small: vectors, digest and counters; documents stay in the store. It is for one
// goroutine at a time.
//
// Invariants: stable ≤ firm ≤ vv ≤ horizon; the log, the feed, the digest and the counters are the functions of
// the documents that Verify recomputes.
type Space struct {
	number    uint32
	vv        crdt.VersionVector
	stable    crdt.VersionVector
	horizon   crdt.VersionVector
	openAt    openEntries
	digest    crdt.Digest
	arrival   uint64 // of the document that changed last
	documents int64  // that have a live entry
	floor     uint64 // the greatest arrival of which the feed has forgotten something
	breach    uint64 // the greatest floor that is one for readers who are on their way too
	ahead     bool   // a reader who has more than vv reads the feed, see NoteReader

	conflicts  int64 // of all documents
	conflicted int64 // documents that have any
	rejoin     rejoining

	risen map[crdt.ReplicaID]struct{} // entries of the vectors to be written by Flush
	dirty bool

	prune pruneList // what became stable and is still there

	owned        Owned // never changed, but replaced
	ownedVersion uint64
	renamings    Renamings

	mergeLimit room // zero: what suits the store

	memory arena      // for keys and values
	dots   []crdt.Dot // room for those of a record
}

// Load reads the state of the space with the given number; one that was never written is empty.
func Load(r store.Snapshot, number uint32) (*Space, error) {
	s := &Space{number: number, risen: make(map[crdt.ReplicaID]struct{}), prune: newPruneList(), openAt: make(openEntries)}
	if err := s.loadMeta(r); err != nil {
		return nil, err
	}
	if err := s.loadVectors(r); err != nil {
		return nil, err
	}
	if err := s.loadRejoin(r); err != nil {
		return nil, err
	}
	if err := s.loadOwned(r); err != nil {
		return nil, err
	}
	if err := s.loadRenamings(r); err != nil {
		return nil, err
	}
	if !s.stable.LessOrEqual(s.Firm()) || !s.vv.LessOrEqual(s.horizon) {
		return nil, fmt.Errorf("%w: vectors of space %d break stable ≤ firm ≤ vv ≤ horizon", ErrCorrupt, number)
	}
	for d := range s.stable.All() {
		s.prune.add(d.Replica)
	}
	return s, nil
}

func (s *Space) loadMeta(r store.Snapshot) error {
	key := spaceKey(kindMeta, s.number, 0)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return err
	}
	b, err := unseal(key, value)
	if err != nil {
		return err
	}
	var n [metaNumbers]uint64
	if len(b) < 32 || len(b) > 16+8*len(n) || len(b)%8 != 0 {
		return fmt.Errorf("%w: meta of space %d has %d bytes", ErrCorrupt, s.number, len(b))
	}
	s.digest = crdt.DigestFromBytes([16]byte(b[:16]))
	for i := range len(b)/8 - 2 {
		n[i] = binary.BigEndian.Uint64(b[16+8*i:])
	}
	s.arrival, s.documents, s.conflicts, s.conflicted, s.floor = n[0], int64(n[1]), int64(n[2]), int64(n[3]), n[4]
	s.breach, s.ahead = n[5], n[6] > 0
	return nil
}

// metaNumbers is how many numbers follow the digest in meta. New ones come at the end; those that an older record lacks
// are zero.
const metaNumbers = 7

func (s *Space) loadVectors(r store.Snapshot) error {
	prefix := spaceKey(kindVector, s.number, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return fmt.Errorf("read the vectors of space %d: %w", s.number, err)
		}
		if err := s.loadVectorEntry(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Space) loadVectorEntry(e store.Entry) error {
	b, err := unseal(e.Key, e.Value)
	if err != nil {
		return err
	}
	if len(e.Key) != 13 || len(b) != 24 && len(b) != 32 {
		return fmt.Errorf("%w: vector entry %q", ErrCorrupt, e.Key)
	}
	r := crdt.ReplicaID(binary.BigEndian.Uint64(e.Key[5:]))
	for i, vv := range []*crdt.VersionVector{&s.vv, &s.stable, &s.horizon} {
		vv.Advance(crdt.Dot{Replica: r, Time: hlc.Time(binary.BigEndian.Uint64(b[8*i:]))})
	}
	switch {
	case s.horizon.Get(r) <= s.vv.Get(r):
	case len(b) == 32:
		s.openAt[r] = hlc.Time(binary.BigEndian.Uint64(b[24:]))
		if s.openAt[r] > s.vv.Get(r) {
			return fmt.Errorf("%w: vector entry %q has more whole than it has", ErrCorrupt, e.Key)
		}
	default: // of a build that did not know: as far as is certain
		s.openAt[r] = s.stable.Get(r)
	}
	return nil
}

// entryOf returns what the vectors of a space have of one replica, as a snapshot has it.
func entryOf(r Reader, space uint32, replica crdt.ReplicaID) (stable, horizon hlc.Time, err error) {
	key := vectorKey(space, replica)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return 0, 0, err
	}
	s := Space{openAt: make(openEntries)}
	err = s.loadVectorEntry(store.Entry{Key: key, Value: value})
	return s.stable.Get(replica), s.horizon.Get(replica), err
}

// Flush writes what changed of the meta data since the last Flush. It belongs into the same batch as the
// changes themselves, so that a crash leaves all or none.
func (s *Space) Flush(b *store.Batch) {
	if !s.dirty {
		return
	}
	s.settleHidden()
	s.dirty = false
	key := spaceKey(kindMeta, s.number, 0)
	d := s.digest.Bytes()
	v := append(make([]byte, 4, 4+16+8*metaNumbers), d[:]...)
	ahead := uint64(0)
	if s.ahead {
		ahead = 1
	}
	for _, n := range [metaNumbers]uint64{s.arrival, uint64(s.documents), uint64(s.conflicts), uint64(s.conflicted), s.floor, s.breach, ahead} {
		v = binary.BigEndian.AppendUint64(v, n)
	}
	for len(v) > 4+32 && binary.BigEndian.Uint64(v[len(v)-8:]) == 0 {
		v = v[:len(v)-8]
	}
	b.Put(key, seal(key, v))
	for r := range s.risen {
		key := vectorKey(s.number, r)
		if s.horizon.Get(r) == 0 { // all that it wrote was re-issued under another
			b.Delete(key)
			continue
		}
		times := []hlc.Time{s.vv.Get(r), s.stable.Get(r), s.horizon.Get(r)}
		if firm, ok := s.openAt[r]; ok {
			times = append(times, firm)
		}
		v := make([]byte, 4, 36)
		for _, t := range times {
			v = binary.BigEndian.AppendUint64(v, uint64(t))
		}
		b.Put(key, seal(key, v))
	}
	clear(s.risen)
	s.flushRejoin(b)
}

// incorporate says that all transactions of d.Replica up to d.Time are in.
func (s *Space) incorporate(d crdt.Dot) {
	if s.vv.Advance(d) {
		s.risen[d.Replica] = struct{}{}
		s.dirty = true
	}
	s.foresee(d)
	if s.horizon.Get(d.Replica) <= s.vv.Get(d.Replica) {
		delete(s.openAt, d.Replica)
	}
}

// foresee says that effects of d may be in.
func (s *Space) foresee(d crdt.Dot) {
	if !s.horizon.Advance(d) {
		return
	}
	if have := s.vv.Get(d.Replica); d.Time > have {
		if _, isOpen := s.openAt[d.Replica]; !isOpen {
			s.openAt[d.Replica] = have
		}
	}
	s.risen[d.Replica] = struct{}{}
	s.dirty = true
}

// checkReplicas reports whether the vectors of the space have room for the replicas in vvs. Each vector has to fit into
// the frames that open a session.
func (s *Space) checkReplicas(vvs ...crdt.VersionVector) error {
	most := s.horizon.Len()
	for _, vv := range vvs {
		most += vv.Len()
	}
	if most <= codec.MaxVectorEntries {
		return nil
	}
	all := s.horizon.Clone() // the vector of all replicas: stable ≤ vv ≤ horizon
	for _, vv := range vvs {
		all.Join(vv)
	}
	if all.Len() > max(codec.MaxVectorEntries, s.horizon.Len()) {
		return &crdt.LimitError{What: "the version vector of the space", Size: all.Len(), Limit: codec.MaxVectorEntries, Unit: "replicas"}
	}
	return nil
}

// Number returns the number under which the space is stored.
func (s *Space) Number() uint32 { return s.number }

// VV, Stable and Horizon return the vectors as they are now. They change with the space: clone what is kept.
func (s *Space) VV() crdt.VersionVector { return s.vv }

// Stable returns the vector at which cells are pruned.
func (s *Space) Stable() crdt.VersionVector { return s.stable }

// Horizon returns the join of the vv and of the horizons of all that was merged.
func (s *Space) Horizon() crdt.VersionVector { return s.horizon }

// IsClosed reports whether no effect of a transaction beyond vv can show.
func (s *Space) IsClosed() bool { return s.horizon.LessOrEqual(s.vv) }

// Digest returns the digest of the live state.
func (s *Space) Digest() crdt.Digest { return s.digest }

// Arrival returns the number that the document that changed last has in the feed.
func (s *Space) Arrival() uint64 { return s.arrival }

// Floor returns the greatest arrival number of which the feed has forgotten something: a document that was deleted, and
// pruned, leaves no entry behind. Who has read the feed up to less may have missed that.
func (s *Space) Floor() uint64 { return s.floor }

// Breach returns the greatest floor that holds for readers who are on their way too.
func (s *Space) Breach() uint64 { return s.breach }

// NoteReader takes note that a reader who has what vv covers, by another node's word, reads the feed from now on; it reports whether that is to
// be written. If the reader has more than this replica, and that is then brought up by a snapshot, the feed cannot tell what was deleted meanwhile:
// what the replica never had. So the end of a snapshot becomes the floor of the feed, also for those who are reading it.
func (s *Space) NoteReader(vv crdt.VersionVector) bool {
	if s.ahead || vv.LessOrEqual(s.vv) {
		return false
	}
	s.ahead, s.dirty = true, true
	return true
}

// breakFeed lets all begin anew that read the feed.
func (s *Space) breakFeed() {
	s.arrival++
	s.floor, s.breach, s.ahead, s.dirty = s.arrival, s.arrival, false, true
}

// Documents returns the number of documents that have a live entry.
func (s *Space) Documents() int64 { return s.documents }

// Conflicts returns the number of conflicts of all documents, and of the documents that have any.
func (s *Space) Conflicts() (conflicts, documents int64) { return s.conflicts, s.conflicted }
