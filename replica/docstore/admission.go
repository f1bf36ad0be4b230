package docstore

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Admission says what may be told to a peer.
type Admission struct {
	// Limit is the greatest time that a delta may hold: what lies beyond, peers would refuse.
	Limit hlc.Time
	// Own are this store's own IDs, and up to where each may be told of.
	Own map[crdt.ReplicaID]hlc.Time
}

// Verdict says whether a delta may be sent.
type Verdict uint8

// The verdicts, the worst last.
const (
	Admitted Verdict = iota
	// OwnBeyond: it names own dots beyond what Own allows.
	OwnBeyond
	// TooFar: it holds a time beyond Limit.
	TooFar
)

func (a *Admission) judge(d crdt.Dot) Verdict {
	switch own, ok := a.Own[d.Replica]; {
	case d.Time > a.Limit:
		return TooFar
	case ok && d.Time > own:
		return OwnBeyond
	}
	return Admitted
}

func (a *Admission) judgeVector(vv crdt.VersionVector) Verdict {
	worst := Admitted
	for d := range vv.All() {
		worst = max(worst, a.judge(d))
	}
	return worst
}

// BuildAdmitted is Build for what may be told to a peer. What others wrote can be tangled up with what may not: the delta then
// ends before the first transaction of which that holds. The verdict is Admitted if there is a delta; named are the own dots in it.
func BuildAdmitted(r store.Snapshot, space uint32, origin crdt.ReplicaID, from, to, pruned hlc.Time, a *Admission) (d *crdt.Delta, named crdt.VersionVector, verdict Verdict, err error) {
	for {
		d, err = Build(r, space, origin, from, to, pruned)
		if err != nil {
			return nil, named, Admitted, err
		}
		worst := max(a.judgeVector(d.Horizon), a.judge(crdt.Dot{Replica: origin, Time: d.To}))
		if worst != Admitted { // a shorter one would have the same horizon
			return nil, named, worst, nil
		}
		all, bad, worst, err := a.judgeDocuments(d.Documents)
		if err != nil {
			return nil, named, Admitted, err
		}
		if worst == Admitted {
			all.Join(d.Horizon)
			return d, a.ownOf(all), Admitted, nil
		}
		if to, err = before(r, space, origin, from, d.To, bad); err != nil || to == from {
			return nil, named, worst, err
		}
	}
}

// judgeDocuments returns all dots named in documents, and the keys of those that may not be told.
func (a *Admission) judgeDocuments(docs []crdt.DocumentDelta) (all crdt.VersionVector, bad map[string]bool, worst Verdict, err error) {
	bad = make(map[string]bool)
	var dots []crdt.Dot
	for _, doc := range docs {
		if dots, err = codec.AppendDots(dots[:0], doc.Cells); err != nil {
			return all, nil, Admitted, err
		}
		for _, d := range dots {
			all.Advance(d)
			if v := a.judge(d); v != Admitted {
				bad[doc.Key], worst = true, max(worst, v)
			}
		}
	}
	return all, bad, worst, nil
}

func (a *Admission) ownOf(vv crdt.VersionVector) (own crdt.VersionVector) {
	for r := range a.Own {
		own.Advance(crdt.Dot{Replica: r, Time: vv.Get(r)})
	}
	return own
}

// before returns the time of the last transaction of origin in (from, to] before the first one that changed one of the documents,
// from if there is none.
func before(r store.Snapshot, space uint32, origin crdt.ReplicaID, from, to hlc.Time, documents map[string]bool) (hlc.Time, error) {
	end, last := from, from
	for k, err := range r.Keys(logPrefix(space, origin, from+1), after(logPrefix(space, origin, to))) {
		if err != nil {
			return from, err
		}
		p, err := parseLogKey(k)
		if err != nil {
			return from, err
		}
		if p.dot.Time != last {
			end, last = last, p.dot.Time
		}
		if documents[p.key] {
			return end, nil
		}
	}
	return from, nil
}
