package replica

import (
	"sync"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// maxSnapshots bounds the snapshots that a replica sends at once, to all peers: each keeps old data of the store alive, and a piece of
// about a megabyte in memory. Others wait.
const maxSnapshots = 4

// serving counts the snapshots being sent.
type serving struct {
	mu sync.Mutex
	n  int
}

func (r *Replica) beginServing() bool {
	r.serving.mu.Lock()
	defer r.serving.mu.Unlock()
	if r.serving.n >= maxSnapshots {
		return false
	}
	r.serving.n++
	return true
}

func (s *serving) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
}

// endServing lets those that wait have their turn.
func (r *Replica) endServing() {
	r.serving.end()
	for _, ses := range r.allSessions() {
		ses.poke()
	}
}

// Begin implements protocol.SnapshotSource.
func (f *source) Begin(q *protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) {
	f.closeSnapshot()
	r := f.space.r
	if !r.beginServing() {
		return nil, protocol.ErrBusy
	}
	begin, err := f.open(q)
	if err != nil {
		r.serving.end() // nobody has waited for this one, so nobody is told: least of all this session
		return nil, err
	}
	f.space.noteGiven(f.peer, func(p *docstore.Progress) {
		*p = docstore.Progress{}
		if begin.From.IsZero() {
			p.KnownDocuments, p.KnownBytes = begin.Documents, begin.Bytes
		}
	})
	return begin, nil
}

func (f *source) open(q *protocol.SnapshotRequest) (*protocol.SnapshotBegin, error) {
	snap, err := f.space.r.store.Snapshot()
	if err != nil {
		return nil, err
	}
	reader, begin, err := docstore.OpenSnapshot(snap, f.space.number, q)
	if err != nil {
		return nil, err
	}
	if err := f.mayHandOut(begin.VV); err != nil {
		reader.Close()
		return nil, err
	}
	f.snapshot, f.frame = reader, nil
	return begin, nil
}

// mayHandOut returns nil if the peer may be told of a state, and notes that it is.
func (f *source) mayHandOut(vv crdt.VersionVector) error {
	if !vv.LessOrEqual(f.space.durableNow().VV) {
		return protocol.ErrWait // it is about to be published: until then nobody has looked at what may leave
	}
	err := f.space.mayHandOut(f.peer)
	f.wantsNote = f.wantsNote || err != nil
	return err
}

// Piece implements protocol.SnapshotSource.
func (f *source) Piece() (*protocol.SnapshotPiece, error) {
	p, err := f.snapshot.Next()
	if err != nil {
		f.closeSnapshot()
		return nil, f.space.unreadable(err)
	}
	f.space.noteGiven(f.peer, func(n *docstore.Progress) { n.Add(len(p.Documents), pieceSize(p)) })
	if f.frame = nil; f.snapshot.IsLast(p) {
		f.closeSnapshot()
	}
	return p, nil
}

func (f *source) closeSnapshot() {
	if f.snapshot == nil {
		return
	}
	f.snapshot.Close()
	f.snapshot = nil
	f.space.noteGivenAll(f.peer)
	f.space.r.endServing()
}
