package replicatest

import (
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// oracle keeps every transaction of one space with what it did to each cell, and computes from the definition
// what is live: an entry is live iff it was written and no transaction that had seen it removed or replaced it. It
// knows nothing of vectors, contexts or merging.
type oracle struct {
	txs      []*tx
	byDot    map[crdt.Dot]int
	cellIDs  map[cellName]int
	cells    []cellName
	docs     map[string][]int // the cells of each document, in the order in which they came up
	touching [][]touch        // for each cell, the transactions that changed it
	gone     txSet            // those that vanished
}

type cellName struct {
	key  string
	path crdt.PathKey
}

func (n cellName) String() string {
	return fmt.Sprintf("document %q path %q", n.key, n.path.Path().String())
}

// tx is one transaction.
type tx struct {
	index   int
	dot     crdt.Dot
	former  []crdt.Dot // that it had before it was re-issued
	stamp   hlc.Time
	author  crdt.ReplicaID
	node    int
	effects []effect
	status  txStatus

	of         *client // that it was made for; nil for a replica's own
	seq        uint64  // its number of it
	rolledBack bool    // its node was put back to before it
}

type txStatus uint8

const (
	volatile txStatus = iota // committed in memory
	durable                  // and persisted: the caller was told
	vanished                 // gone in a crash before it was durable: nobody may ever hear of it
)

// effect is what one transaction did to one cell.
type effect struct {
	cell   int
	kills  []int // the transactions whose entries it removed or replaced, having seen them
	writes bool
	value  crdt.Value
	event  crdt.Event // stamp and author of what it writes, where they are not the transaction's; no dot
}

type touch struct {
	tx     int
	effect *effect
}

func newOracle() *oracle {
	return &oracle{byDot: make(map[crdt.Dot]int), cellIDs: make(map[cellName]int), docs: make(map[string][]int)}
}

// cell returns the number of a cell, a new one if it has none.
func (o *oracle) cell(key string, path crdt.PathKey) int {
	name := cellName{key, path}
	id, ok := o.cellIDs[name]
	if !ok {
		id = len(o.cells)
		o.cellIDs[name] = id
		o.cells = append(o.cells, name)
		o.docs[key] = append(o.docs[key], id)
		o.touching = append(o.touching, nil)
	}
	return id
}

func (o *oracle) add(t *tx) {
	t.index = len(o.txs)
	o.txs = append(o.txs, t)
	o.byDot[t.dot] = t.index
	for i := range t.effects {
		e := &t.effects[i]
		o.killOlder(t, e)
		o.touching[e.cell] = append(o.touching[e.cell], touch{t.index, e})
	}
}

// killOlder adds what the author itself wrote in the cell before. All that is dead, also where its removal is not known, by what a snapshot said.
func (o *oracle) killOlder(t *tx, e *effect) {
	e.kills = slices.Clip(e.kills)
	for _, h := range o.touching[e.cell] {
		if h.effect.writes && o.txs[h.tx].dot.Replica == t.dot.Replica && !slices.Contains(e.kills, h.tx) {
			e.kills = append(e.kills, h.tx)
		}
	}
}

// vanish forgets a transaction that was lost in a crash. Its dot may be used again.
func (o *oracle) vanish(t *tx) {
	t.status = vanished
	o.gone = o.gone.with(t.index)
	delete(o.byDot, t.dot)
	for _, e := range t.effects {
		o.touching[e.cell] = slices.DeleteFunc(o.touching[e.cell], func(h touch) bool { return h.tx == t.index })
	}
}

// live returns the transactions whose entries in the cell are live after those in known, in the order of
// their indices.
func (o *oracle) live(cell int, known txSet) []int {
	return o.liveIf(cell, known.has)
}

// liveAt is live for the transactions that a version vector covers.
func (o *oracle) liveAt(cell int, vv crdt.VersionVector) []int {
	return o.liveIf(cell, func(i int) bool { return vv.Covers(o.txs[i].dot) })
}

func (o *oracle) liveIf(cell int, known func(int) bool) []int {
	var live, killed []int
	for _, h := range o.touching[cell] {
		if known(h.tx) {
			killed = append(killed, h.effect.kills...)
			if h.effect.writes {
				live = append(live, h.tx)
			}
		}
	}
	return slices.DeleteFunc(live, func(i int) bool { return slices.Contains(killed, i) })
}

// valueOf returns what a transaction wrote into a cell.
func (o *oracle) valueOf(cell, index int) crdt.Value {
	for _, h := range o.touching[cell] {
		if h.tx == index {
			return h.effect.value
		}
	}
	return crdt.Value{}
}

// knowledge says for each cell which transactions a state of it includes.
type knowledge []inclusion

func (k knowledge) of(cell int) inclusion {
	if cell < len(k) {
		return k[cell]
	}
	return inclusion{}
}

func (k *knowledge) set(cell int, s inclusion) {
	for cell >= len(*k) {
		*k = append(*k, inclusion{})
	}
	(*k)[cell] = s
}

// known is the knowledge of one cell. A delta carries a list of these for the cells that it holds.
type known struct {
	cell int
	inclusion
}
