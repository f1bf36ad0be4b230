package docstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// kindRenamed leads to the present name of one re-issued transaction. A client may have seen it under the former one.
const kindRenamed = 'N' // space, replica, time → replica, time

// ClientOpKind is what one change of a client's transaction does.
type ClientOpKind uint8

// The kinds. To delete a document is to remove the empty path.
const (
	ClientSet ClientOpKind = 1 + iota
	ClientRemove
	ClientIncrement
)

// ClientOp is one change of a client's transaction.
type ClientOp struct {
	Kind ClientOpKind
	Key  string
	Path crdt.PathKey // "" is the document
	// Leaves, of ClientSet, replace the subtree at Path: at Path or below, sorted by path, none above another; at least one.
	Leaves []crdt.Leaf
	By     int64 // of ClientIncrement
	// Seen are the live entries that the client had read at Path, below, and, for ClientSet, above; in any order. What is live in those
	// cells and is not listed survives as a sibling, but for what the client itself wrote.
	Seen []crdt.SeenDot
}

// ClientWrite is a transaction of a client, to be made by this replica: it kills what the client had seen and nothing else.
type ClientWrite struct {
	Client crdt.ReplicaID
	Stamp  hlc.Time // not later than Time
	Self   crdt.ReplicaID
	Time   hlc.Time // of its dot
	Force  bool     // ignore listed dots that are not known here
	Ops    []ClientOp
}

var (
	// ErrBehind says that a client has seen what has not arrived here.
	ErrBehind = errors.New("the client has seen writes that are not here yet")
	// ErrTooManySiblings says that a cell holds an entry of each lane that the client has not seen.
	ErrTooManySiblings = fmt.Errorf("more than %d writes that the client has not seen compete in one field: read the document and write again", crdt.MaxLanes-1)
)

// CommitClient makes a client's transaction and writes it into b, under the first lane of Self whose entries in the cells that it
// changes the client has all seen. It returns the delta that tells peers of it; nil if nothing changed, in which case the
// dot stays unused. After an error nothing was written.
func (s *Space) CommitClient(r Reader, b *store.Batch, w *ClientWrite) (*crdt.Delta, error) {
	seen, err := s.presentSeen(r, w)
	if err != nil {
		return nil, err
	}
	sight := crdt.NewSight(w.Client, w.Stamp)
	for i := range crdt.MaxLanes {
		dot := crdt.Dot{Replica: w.Self.Lane(i), Time: w.Time}
		if sight.Keeps(dot.Replica) {
			continue
		}
		t := s.Begin(r, crdt.Event{Dot: dot, Stamp: w.Stamp, Author: w.Client})
		for k := range w.Ops {
			if err := t.applyFor(w, &w.Ops[k], seen[k], sight); err != nil {
				return nil, err
			}
		}
		if !sight.Keeps(dot.Replica) {
			return t.Commit(b)
		}
	}
	return nil, ErrTooManySiblings
}

func (t *Transaction) applyFor(w *ClientWrite, o *ClientOp, seen []crdt.SeenDot, sight *crdt.Sight) error {
	d, err := t.open(o.Key)
	if err != nil {
		return err
	}
	switch o.Kind {
	case ClientSet:
		if err = t.take(o.Leaves); err == nil {
			err = d.loadAround(o.Path)
		}
	case ClientRemove:
		err = d.loadSubtree(o.Path)
	default:
		err = d.loadPath(o.Path)
	}
	if err == nil {
		err = d.checkSeen(w, seen)
	}
	if err != nil {
		return err
	}
	sight.See(seen)
	switch o.Kind {
	case ClientSet:
		d.doc.SetLeavesSeen(t.event, sight, o.Path, o.Leaves)
	case ClientRemove:
		d.doc.RemoveSeen(t.event, sight, o.Path)
	default:
		return d.doc.IncrementSeen(t.event, sight, o.Path, o.By)
	}
	return nil
}

// checkSeen reports listed dots of which this replica does not know whether they are live. A cell may know more than vv covers.
func (d *openDoc) checkSeen(w *ClientWrite, seen []crdt.SeenDot) error {
	for _, x := range seen {
		if w.Force || d.space.vv.Covers(x.Dot) || x.Dot.IsZero() {
			continue
		}
		if c := d.doc.Cell(x.Path); c.Refers(x.Dot.Replica, x.Dot.Time-1, hlc.Max) {
			continue // it is live there, or known to be dead
		}
		return fmt.Errorf("%w: %s in document %q", ErrBehind, x.Dot, d.key)
	}
	return nil
}

// presentSeen returns what the client had seen at each operation, by its present names.
func (s *Space) presentSeen(r Reader, w *ClientWrite) ([][]crdt.SeenDot, error) {
	all := make([][]crdt.SeenDot, len(w.Ops))
	total := 0
	for i := range w.Ops {
		given := w.Ops[i].Seen
		if total += len(given); total > crdt.MaxTransactionFields {
			return nil, &crdt.LimitError{What: "what the client lists as seen", Size: total, Limit: crdt.MaxTransactionFields, Unit: "entries"}
		}
		all[i] = make([]crdt.SeenDot, len(given))
		for k, x := range given {
			now, err := s.PresentDot(r, x.Dot)
			if err != nil {
				return nil, err
			}
			all[i][k] = crdt.SeenDot{Path: x.Path, Dot: now}
		}
	}
	return all, nil
}

// PresentDot returns the dot that a transaction of this store has now, for one that it had before it was re-issued; the zero Dot if nothing
// was left of it then. It knows those too that the first parts of a rebase have re-issued, of which the rest is to come.
func (s *Space) PresentDot(r Reader, d crdt.Dot) (crdt.Dot, error) {
	for range len(s.renamings) + len(s.owned) { // each follows at most one step of a chain
		isGivenUp := s.renamings.Present(d) != d
		if !isGivenUp && s.owned[d.Replica].Next == 0 {
			return d, nil
		}
		key := renamedKey(s.number, d)
		value, ok, err := r.Get(key)
		switch {
		case err != nil:
			return crdt.Dot{}, err
		case !ok && isGivenUp:
			return crdt.Dot{}, nil
		case !ok:
			return d, nil
		}
		v, err := unseal(key, value)
		if err != nil {
			return d, err
		}
		if len(v) != 16 {
			return d, fmt.Errorf("%w: the present name of %s has %d bytes", ErrCorrupt, d, len(v))
		}
		d = crdt.Dot{Replica: crdt.ReplicaID(binary.BigEndian.Uint64(v)), Time: hlc.Time(binary.BigEndian.Uint64(v[8:]))}
	}
	return d, nil
}

func renamedKey(space uint32, d crdt.Dot) []byte {
	return binary.BigEndian.AppendUint64(ownKey(kindRenamed, space, d.Replica), uint64(d.Time))
}

func (s *Space) putRenamed(b *store.Batch, former, present crdt.Dot) {
	key := renamedKey(s.number, former)
	v := binary.BigEndian.AppendUint64(make([]byte, 4, 20), uint64(present.Replica))
	b.Put(key, seal(key, binary.BigEndian.AppendUint64(v, uint64(present.Time))))
}
