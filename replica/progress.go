package replica

import (
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// SnapshotStatus tells how far a snapshot is.
type SnapshotStatus struct {
	Peer PeerID // from which it is taken, or to which it is given
	// Documents and Bytes have passed, of about KnownDocuments and KnownBytes. What is taken counts from the beginning, also
	// if it was broken off; what is given, since the peer asked last, and then of an unknown amount if it went on.
	Documents, Bytes           uint64
	KnownDocuments, KnownBytes uint64
	// Active: it is passing. One that is taken and not active goes on when the peer is there again.
	Active bool
}

func snapshotStatus(p PeerID, n docstore.Progress, active bool) *SnapshotStatus {
	return &SnapshotStatus{
		Peer: p, Documents: n.Documents, Bytes: n.Bytes,
		KnownDocuments: n.KnownDocuments, KnownBytes: n.KnownBytes, Active: active,
	}
}

// taking returns how far the snapshot is that the space takes, as far as it is durable; nil if it takes none.
func (s *Space) taking() *SnapshotStatus {
	s.mu.Lock()
	mark := s.durable.taking
	var from *session
	if mark != nil {
		from = s.sessionWith(mark.source)
	}
	s.mu.Unlock()
	if mark == nil {
		return nil
	}
	return snapshotStatus(mark.source, mark.Progress, from != nil && from.isFetching())
}

// takenSoFar is the part of a mark that a status shows.
type takenSoFar struct {
	source PeerID
	docstore.Progress
}

func takenOf(m *docstore.Rejoin) *takenSoFar {
	if m == nil {
		return nil
	}
	return &takenSoFar{m.Source, m.Progress}
}

// noteGiven keeps the books of a snapshot that is given to a peer.
func (s *Space) noteGiven(p PeerID, change func(*docstore.Progress)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.giving[p]
	change(&n)
	s.giving[p] = n
}

func (s *Space) noteGivenAll(p PeerID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.giving, p)
}

func pieceSize(p *protocol.SnapshotPiece) (bytes int) {
	for i := range p.Documents {
		bytes += len(p.Documents[i].Key) + len(p.Documents[i].Cells)
	}
	return bytes
}

// logProgress tells an operator how far the snapshots are that are being taken.
func (r *Replica) logProgress() {
	for _, s := range r.allSpaces() {
		if st := s.taking(); st != nil && st.Active {
			r.log.Info("taking a snapshot", "space", s.name, "peer", st.Peer, "documents", st.Documents, "of", st.KnownDocuments, "bytes", st.Bytes)
		}
	}
}
