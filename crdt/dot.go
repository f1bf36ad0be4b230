package crdt

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// ReplicaID names one boot of one replica on one undisturbed store. It is random; zero is no replica.
type ReplicaID uint64

// String returns the ID as 16 hex digits.
func (r ReplicaID) String() string { return fmt.Sprintf("%016x", uint64(r)) }

// ParseReplicaID reads the form that String returns.
func ParseReplicaID(s string) (ReplicaID, error) {
	n, err := strconv.ParseUint(s, 16, 64)
	if err != nil || len(s) != 16 {
		return 0, fmt.Errorf("replica ID %q: want 16 hex digits", s)
	}
	return ReplicaID(n), nil
}

// Dot names one transaction of one replica. In each cell a dot names at most one entry.
type Dot struct {
	Replica ReplicaID
	Time    hlc.Time
}

// IsZero reports whether d names nothing.
func (d Dot) IsZero() bool { return d.Replica == 0 && d.Time == 0 }

// Compare orders dots by replica, then by time. It is an order for sorting; it says nothing of causality.
func (d Dot) Compare(o Dot) int {
	return cmp.Or(cmp.Compare(d.Replica, o.Replica), cmp.Compare(d.Time, o.Time))
}

func (d Dot) String() string { return d.Replica.String() + "@" + d.Time.String() }

// Event is what a local change is made in the name of: the dot of its transaction, and the stamp and
// author that decide which sibling shows. Stamp and Author equal the dot except for a write that is
// re-issued on somebody's behalf.
type Event struct {
	Dot    Dot
	Stamp  hlc.Time
	Author ReplicaID
}

// EventAt returns the event of an ordinary transaction: stamp and author are those of the dot.
func EventAt(d Dot) Event { return Event{Dot: d, Stamp: d.Time, Author: d.Replica} }
