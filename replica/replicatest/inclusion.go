package replicatest

import (
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// inclusion says what a state of one cell includes, by the oracle's account.
//
// Mostly that is a set of transactions. But what is stable is forgotten: a cell that took the place of others tells nothing of
// those any more. To whom it comes from a replica that it is below the stable vector of, by way of a third one or in a
// snapshot that never ended, the earlier transactions may or may not have happened to that cell.
type inclusion struct {
	sure  txSet
	lent  txSet // by the snapshot that is being merged: as good as sure while that lasts
	vague txSet // may or may not be included
}

func (k inclusion) union(o inclusion) inclusion {
	return inclusion{k.sure.union(o.sure), k.lent.union(o.lent), k.vague.union(o.vague)}
}

// firm is what is included as long as things stay as they are.
func (k inclusion) firm() txSet { return k.sure.union(k.lent) }

func (k inclusion) isVague() bool { return !k.firm().covers(k.vague) }

func (k inclusion) meets(s txSet) bool {
	return k.sure.meets(s) || k.lent.meets(s) || k.vague.meets(s)
}

// carried is what one gets who receives the cell: only what the cell itself says is sure.
func (k inclusion) carried() inclusion {
	return inclusion{sure: k.sure, vague: k.lent.union(k.vague)}
}

// split divides a set of transactions by their dots.
func (o *oracle) split(s txSet, in func(crdt.Dot) bool) (yes, no txSet) {
	for i, t := range o.txs {
		if !s.has(i) {
			continue
		}
		if in(t.dot) {
			yes = yes.with(i)
		} else {
			no = no.with(i)
		}
	}
	return yes, no
}

// doubt returns what may be included of a cell whose state is taken to have seen everything in a vector, beside what the account
// of it has, when it meets a state that includes other transactions. What it has seen and the account lacks was replaced before
// it came, by transactions that the horizon names: those are in the cell by their effect.
func (o *oracle) doubt(cell int, k, other inclusion, seen, horizon crdt.VersionVector) txSet {
	var vague txSet
	all := k.firm().union(k.vague)
	met := other.firm().union(other.vague)
	for _, h := range o.touching[cell] {
		if all.has(h.tx) || !horizon.Covers(o.txs[h.tx].dot) {
			continue
		}
		for _, i := range h.effect.kills {
			if met.has(i) && !k.firm().has(i) && seen.Covers(o.txs[i].dot) {
				vague = vague.with(h.tx)
			}
		}
	}
	return vague
}

// bounds returns the entries that must be live in a cell, and those that may be.
func (o *oracle) bounds(cell int, k inclusion) (must, may []int) {
	firm := k.firm()
	if firm.covers(k.vague) {
		live := o.live(cell, firm)
		return live, live
	}
	all := firm.union(k.vague)
	must = slices.DeleteFunc(o.live(cell, all), func(i int) bool { return !firm.has(i) })
	var killed []int
	for _, h := range o.touching[cell] {
		if firm.has(h.tx) {
			killed = append(killed, h.effect.kills...)
		}
	}
	for _, h := range o.touching[cell] {
		if all.has(h.tx) && h.effect.writes && !slices.Contains(killed, h.tx) {
			may = append(may, h.tx)
		}
	}
	return must, may
}
