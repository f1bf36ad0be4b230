package crdt

import "github.com/anabranch-db/anabranch/crdt/hlc"

// Delta carries what the transactions of one replica in (From, To] did, as whole cells: every cell of the
// encoder's state that refers to a dot of Origin in that range. Merged into a state that has everything of
// Origin up to From, it brings that state to To. It may be merged any number of times, in any order with
// others (delta states: Almeida, Shoker, Baquero, arXiv:1603.01529).
type Delta struct {
	Origin ReplicaID
	From   hlc.Time
	To     hlc.Time
	// Horizon is the encoder's horizon for Origin, and names writes that are left out of the cells: what the cells may
	// already show the effects of, beside the dots that they name themselves.
	Horizon VersionVector
	// Stable is the encoder's stable vector at Origin. Of what Origin removed up to then, the cells need not say that it was
	// removed, so the receiver must have that whole.
	Stable    hlc.Time
	Documents []DocumentDelta // sorted by key, one for each document
}

// DocumentDelta is the part of a Delta in one document.
type DocumentDelta struct {
	Key string
	// Cells is the packed form of the cells (see package codec). It stays packed so that a state can be sent,
	// relayed and stored without taking it apart.
	Cells []byte
}

// Size returns the number of bytes that the documents take: keys and packed cells.
func (d *Delta) Size() int {
	n := 0
	for i := range d.Documents {
		n += len(d.Documents[i].Key) + len(d.Documents[i].Cells)
	}
	return n
}
