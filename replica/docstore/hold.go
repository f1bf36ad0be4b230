package docstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Hold is what one ReplicaID of this store wrote with a clock that was ahead, and nobody else has as far as is known: its
// transactions in (After, UpTo].
type Hold struct {
	Replica     crdt.ReplicaID
	After, UpTo hlc.Time
	Root        crdt.ReplicaID
	Next        crdt.ReplicaID // under which they are re-issued; zero until that begins
	// Pruned: some of it was stable, and needs Relog first.
	Pruned bool
	// Elsewhere are IDs under which another life of this store has re-issued some of them: this store was restored from a backup
	// that was taken before. What came back from peers under these is not to be re-issued once more.
	Elsewhere []crdt.ReplicaID
}

// Blocker says what a hold waits for.
type Blocker struct {
	Peer protocol.PeerID
	// Restart: the peer was sent something in the session in progress. What it has of it, it says when the next one begins.
	// Otherwise it has not opened a session since this host began to run.
	Restart bool
	// Fetch: a snapshot is on its way, or what another life of this store has re-issued.
	Fetch bool
}

// Holds returns what of the IDs of this store lies beyond a limit and may be re-issued, once nothing blocks it. A rebase that a crash broke off takes
// all that is left, also what has become sound since: a cell does not say which writes of one ID a later one of that ID has replaced, and so who has
// what is named anew already would miss them, and not know that there is more.
func (s *Space) Holds(r store.Snapshot, x *Exposure, limit hlc.Time) ([]Hold, error) {
	var holds []Hold
	for _, id := range slices.Sorted(maps.Keys(s.owned)) {
		own, last := s.owned[id], s.vv.Get(id)
		floor := x.received(id)
		if s.horizon.Get(id) > last { // somebody has more of it
			floor = last
		}
		if last <= max(limit, floor) && own.Next == 0 || last <= floor {
			continue
		}
		sound := limit
		if own.Next != 0 {
			first, err := s.firstRenamed(r, id)
			if err != nil {
				return nil, err
			}
			sound = min(sound, first-1)
		}
		after, err := lastLogged(r, s.number, id, floor, sound)
		if err != nil {
			return nil, err
		}
		h := Hold{Replica: id, After: after, UpTo: last, Root: own.Root, Next: own.Next, Pruned: s.stable.Get(id) > after}
		if s.vv.Get(h.Next) > limit { // a rebase that a crash broke off, and this is what the store wrote under since: times must grow
			h.Next = 0
		}
		for d := range s.reissuedElsewhere(x, own.Root).All() {
			h.Elsewhere = append(h.Elsewhere, d.Replica)
		}
		holds = append(holds, h)
	}
	return holds, nil
}

// lastLogged returns the time of the last transaction of id in (after, limit], after if there is none.
func lastLogged(r store.Snapshot, space uint32, id crdt.ReplicaID, from, limit hlc.Time) (hlc.Time, error) {
	last := from
	if limit <= from {
		return last, nil
	}
	for k, err := range r.Keys(logPrefix(space, id, from+1), after(logPrefix(space, id, limit))) {
		if err != nil {
			return 0, err
		}
		p, err := parseLogKey(k)
		if err != nil {
			return 0, err
		}
		last = p.dot.Time
	}
	return last, nil
}

// firstRenamed returns the time of the first transaction of id that has another name; hlc.Max if there is none.
func (s *Space) firstRenamed(r store.Snapshot, id crdt.ReplicaID) (hlc.Time, error) {
	prefix := ownKey(kindRenamed, s.number, id)
	for k, err := range r.Keys(prefix, after(prefix)) {
		if err != nil {
			return 0, fmt.Errorf("read the names of %s: %w", id, err)
		}
		return hlc.Time(binary.BigEndian.Uint64(k[len(prefix):])), nil
	}
	return hlc.Max, nil
}

// Blockers returns what a hold waits for. known are the peers of the space, and life is the present one of the store: of what
// was written in another one, also by a process that was killed, it is not certain to whom it was handed, so all of them are asked.
func (s *Space) Blockers(x *Exposure, h Hold, known []protocol.PeerID, life uint64) []Blocker {
	own := s.owned[h.Replica]
	asked := make(map[protocol.PeerID]struct{})
	for p := range own.Handed {
		asked[p] = struct{}{}
	}
	for p := range x.peers {
		asked[p] = struct{}{}
	}
	if own.Life != life {
		for _, p := range known {
			asked[p] = struct{}{}
		}
	}
	var blockers []Blocker
	for _, p := range slices.SortedFunc(maps.Keys(asked), func(a, b protocol.PeerID) int { return bytes.Compare(a[:], b[:]) }) {
		e := x.peers[p]
		switch {
		case e != nil && e.handed.Get(h.Replica) > h.After:
			blockers = append(blockers, Blocker{Peer: p, Restart: true})
		case e == nil && (own.Life != life || own.Handed[p] > h.After):
			blockers = append(blockers, Blocker{Peer: p})
		}
	}
	if elsewhere := s.reissuedElsewhere(x, h.Root); s.Rejoining() != nil || !elsewhere.LessOrEqual(s.vv) {
		blockers = append(blockers, Blocker{Fetch: true})
	}
	return blockers
}

// reissuedElsewhere returns how far peers hold what re-issues writes of root and this store knows nothing of.
func (s *Space) reissuedElsewhere(x *Exposure, root crdt.ReplicaID) (elsewhere crdt.VersionVector) {
	for _, e := range x.peers {
		for d := range e.vv.All() {
			if Reissues(d.Replica, root) && !s.isReissueOfOurs(d.Replica) {
				elsewhere.Advance(d)
			}
		}
	}
	return elsewhere
}

func (s *Space) isReissueOfOurs(id crdt.ReplicaID) bool {
	if _, ok := s.owned[id]; ok {
		return true
	}
	return slices.ContainsFunc(s.renamings, func(n Renaming) bool { return n.Now.Replica == id })
}

// NextID makes the ID under which writes of root are re-issued of a random one. Its first half is a hash of root, so that the
// store, restored from an old backup, knows it for what it is when a peer tells of it.
func NextID(root, random crdt.ReplicaID) crdt.ReplicaID {
	return crdt.ReplicaID(rootTag(root))<<32 | random&0xffffffff
}

// NameHolds gives each hold that has none yet the ID under which it is re-issued, the same one in all spaces of the store, and returns that of each
// ID held. A rebase that a crash broke off goes on in each space under the ID with which it began there; in those where it had not begun
// too, unless the store has written under that since and holds it as well: its times would not grow.
func NameHolds(spaces [][]Hold, random func() crdt.ReplicaID) map[crdt.ReplicaID]crdt.ReplicaID {
	next := make(map[crdt.ReplicaID]crdt.ReplicaID)
	held := make(map[crdt.ReplicaID]struct{})
	for _, holds := range spaces {
		for _, h := range holds {
			held[h.Replica] = struct{}{}
			if h.Next != 0 {
				next[h.Replica] = h.Next
			}
		}
	}
	for _, holds := range spaces {
		for i := range holds {
			h := &holds[i]
			if h.Next != 0 {
				continue
			}
			n, named := next[h.Replica]
			if _, isHeld := held[n]; !named || isHeld {
				n = NextID(h.Root, random())
				next[h.Replica] = n
			}
			h.Next = n
		}
	}
	return next
}

// Reissues reports whether id was made by NextID of root. One of 2^32 other IDs passes for one.
func Reissues(id, root crdt.ReplicaID) bool { return id>>32 == crdt.ReplicaID(rootTag(root)) }

func rootTag(root crdt.ReplicaID) uint32 {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(root))
	return uint32(xxh3.Hash(b[:]))
}
