package docstore

import (
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

// RaiseStable makes stable the join of what it is and of to, as far as vv covers that, and reports whether it rose.
// Any stable at or below vv is safe: it decides which peers need a snapshot, never what converges. What became stable is
// forgotten by Prune, step by step; meanwhile the space is in the state of one that prunes later.
//
// Where the space is open, it rises no further than OpenEntries says. Beyond, a write may be missing that a later one of its
// replica has taken over, and that is not here yet; when another replica sends the cell, stable would make the entry dead, and
// nothing in the cell would name the write that replaced it: who gets the cell from here could not know that it is open.
func (s *Space) RaiseStable(to crdt.VersionVector) bool {
	rose := false
	for d := range to.All() {
		d.Time = min(d.Time, s.firmAt(d.Replica))
		if s.advanceStable(d) {
			rose = true
		}
	}
	return rose
}

func (s *Space) advanceStable(d crdt.Dot) bool {
	if !s.stable.Advance(d) {
		return false
	}
	if firm, isOpen := s.openAt[d.Replica]; isOpen && firm < d.Time {
		s.openAt[d.Replica] = d.Time
	}
	s.risen[d.Replica] = struct{}{}
	s.prune.add(d.Replica)
	s.dirty = true
	return true
}

// WaitsForPruning reports whether there may be something for Prune to do.
func (s *Space) WaitsForPruning() bool { return len(s.prune.todo) > 0 }

// Pruned tells what a step of Prune did.
type Pruned struct {
	LogKeys   int // deleted
	Records   int // rewritten with fewer cells or contexts, or deleted
	Documents int // of which nothing is left
	Finished  int // replicas of which nothing more is stable
	// More: there is more to prune, now or once what waits is committed.
	More bool
}

// pruneList is the replicas whose stable entry has risen beyond what is pruned, and how far each is. It is in memory only:
// after opening everything up to stable is looked through once more.
type pruneList struct {
	todo map[crdt.ReplicaID]struct{}
	done map[crdt.ReplicaID]hlc.Time // no log key at or below is left; not looked for again, for Badger walks over deleted keys
	at   []byte                      // where the last step stopped among the keys of a replica; nil if at their end
}

func newPruneList() pruneList {
	return pruneList{todo: make(map[crdt.ReplicaID]struct{}), done: make(map[crdt.ReplicaID]hlc.Time)}
}

func (l *pruneList) add(r crdt.ReplicaID) { l.todo[r] = struct{}{} }

// maxPruneBytes bounds what one step rewrites, beside the record that exceeds it.
const maxPruneBytes = 256 << 10

// Prune forgets a part of what has become stable: it looks at up to limit log keys, and at what they lead to. The log keys
// at or below stable are the list of what is to be done, so the cost follows what is forgotten and not what is kept. Each
// leads to a record, whose cells lose their contexts where all their dots are stable, and vanish if nothing else is in
// them; so does the document, with its place in the feed. After an error nothing was written.
//
// Invariant: a cell that can be pruned is in a record to which a log key at or below stable leads. For a record is pruned
// whenever it is written, and before any of its log keys is deleted here.
func (s *Space) Prune(over *Overlay, limit int) (Pruned, error) {
	p := &pruneStep{space: s, over: over, left: limit, docs: make(map[string]*pruneDoc)}
	for _, r := range slices.Sorted(maps.Keys(s.prune.todo)) {
		if err := p.replica(r); err != nil {
			return Pruned{}, fmt.Errorf("prune: %w", err)
		}
		if p.at != nil {
			break
		}
	}
	if err := p.apply(); err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	p.pruned.More = len(s.prune.todo) > 0
	return p.pruned, nil
}

// pruneStep collects what one step does, so that nothing is done if it fails.
type pruneStep struct {
	space  *Space
	over   *Overlay
	left   int // keys that may still be looked at
	bytes  int // of records to be rewritten
	keys   [][]byte
	docs   map[string]*pruneDoc
	passed []crdt.Dot // up to where replicas are done
	at     []byte     // the key before which the step stopped; nil if it came to the end
	pruned Pruned
}

// pruneDoc is a document that the step opened, and its parts that are to be rewritten.
type pruneDoc struct {
	*openDoc
	dirty []int
}

// replica looks at the log keys of one replica. The bound is stable as the snapshot has it: what was logged at or below that is
// in the snapshot too, and none comes later.
func (p *pruneStep) replica(r crdt.ReplicaID) error {
	s := p.space
	bound, _, err := entryOf(p.over.Snapshot, s.number, r)
	if err != nil {
		return err
	}
	start := logPrefix(s.number, r, s.prune.done[r]+1)
	if at := s.prune.at; len(at) > len(start) && slices.Equal(at[:13], start[:13]) {
		start = at
	}
	if p.left--; p.left < 0 { // looking for keys costs, whether there are any or not
		p.at = start
		return nil
	}
	for k, err := range p.over.Snapshot.Keys(start, after(logPrefix(s.number, r, bound))) {
		if err != nil {
			return err
		}
		if p.left <= 0 || p.bytes > maxPruneBytes {
			p.at = slices.Clone(k)
			return nil
		}
		p.left--
		if err := p.key(slices.Clone(k)); err != nil {
			return err
		}
	}
	p.passed = append(p.passed, crdt.Dot{Replica: r, Time: bound})
	return nil
}

// key looks at the record to which one log key leads.
func (p *pruneStep) key(k []byte) error {
	at, err := parseLogKey(k)
	if err != nil {
		return err
	}
	d := p.docs[at.key]
	if d == nil {
		opened, err := p.space.open(p.over, at.key)
		if err != nil {
			return err
		}
		d = &pruneDoc{openDoc: opened}
		p.docs[at.key] = d
	}
	p.keys = append(p.keys, k)
	i := d.partOf(at.start)
	if d.parts[i].start != at.start || slices.Contains(d.dirty, i) {
		return nil // it was joined with another or emptied, and pruned then; or it will be
	}
	if err := d.load(i); err != nil {
		return err
	}
	if !d.isPrunable(i) {
		return nil
	}
	cost := d.costOfPart(i)
	if !(room{mergeBytes, mergeEntries}).holds(cost) {
		p.keys = p.keys[:len(p.keys)-1] // more than one commit takes: it stays as it is
		return nil
	}
	d.dirty = append(d.dirty, i)
	p.bytes += cost.bytes
	p.pruned.Records++
	return nil
}

func (p *pruneStep) apply() error {
	var outcomes []*outcome
	for _, key := range slices.Sorted(maps.Keys(p.docs)) {
		d := p.docs[key]
		if len(d.dirty) == 0 {
			continue
		}
		o, err := d.forget()
		if err != nil {
			return err
		}
		outcomes = append(outcomes, o)
	}
	if err := checkSize(outcomes); err != nil {
		return err
	}
	for _, o := range outcomes {
		o.apply(p.over.Batch)
		if o.gone {
			p.pruned.Documents++
		}
	}
	for _, k := range p.keys {
		p.over.Batch.Delete(k)
	}
	p.pruned.LogKeys = len(p.keys)
	list := &p.space.prune
	for _, d := range p.passed {
		list.done[d.Replica] = d.Time
		if d.Time >= p.space.stable.Get(d.Replica) { // else it has risen in what is not committed yet
			delete(list.todo, d.Replica)
			p.pruned.Finished++
		}
	}
	list.at = p.at
	return nil
}

// forget works out what pruning the dirty parts comes to.
func (d *pruneDoc) forget() (*outcome, error) {
	o := &outcome{doc: d.openDoc, live: d.live, silent: true}
	if !d.chunked {
		return o, o.writeInline()
	}
	slices.Sort(d.dirty)
	return o, o.writeChunks(d.dirty)
}

// isPrunable reports whether some cell of the i-th part, which is loaded, can be pruned.
func (d *openDoc) isPrunable(i int) bool {
	return slices.ContainsFunc(d.fieldsOf(i), func(f crdt.Field) bool {
		had := f.Cell.Observed.Len() > 0
		f.Cell.Prune(d.space.stable)
		return had && f.Cell.Observed.Len() == 0
	})
}

// pruned prunes the cells of a record that is about to be written, in place, and returns those that are left.
func (s *Space) pruned(fields []crdt.Field) []crdt.Field {
	if s.stable.Len() == 0 {
		return fields
	}
	for i := range fields {
		fields[i].Cell.Prune(s.stable)
	}
	return slices.DeleteFunc(fields, func(f crdt.Field) bool { return f.Cell.IsEmpty() })
}

// dropChunk deletes a chunk that has become empty. Paths in it belong to the one before from now on.
func (o *outcome) dropChunk(p part) error {
	key := chunkKey(o.doc.space.number, o.doc.key, p.start)
	o.delete(key)
	for i := range p.segments {
		o.delete(segmentKey(key, i))
	}
	return o.writeLog(p.start, p.dots, nil)
}

// dropIfEmpty deletes all of a document of whose chunks only the first is left, if that is empty too.
func (o *outcome) dropIfEmpty() (bool, error) {
	d := o.doc
	if err := d.load(0); err != nil {
		return false, err
	}
	if len(d.space.pruned(d.fieldsOf(0))) > 0 {
		return false, nil
	}
	o.gone = true
	o.delete(directoryKey(d.space.number, d.key))
	o.dropPieces(0)
	return true, o.dropChunk(d.parts[0])
}

// vanish notes that nothing is left of a document. Its feed entry was all that told watchers of its deletion.
func (s *Space) vanish(d *openDoc) {
	switch {
	case !d.found:
	case d.live > 0: // watchers were never told
		s.arrival++
		s.floor = s.arrival
	default:
		s.floor = max(s.floor, d.arrival)
	}
}

// Oldest returns the time of the oldest change in the log that lies beyond from and at or below to; ok is false if there is none. It looks
// at no more than limit replicas.
func Oldest(r store.Snapshot, space uint32, from, to crdt.VersionVector, limit int) (oldest hlc.Time, ok bool, err error) {
	for d := range to.Beyond(from).All() {
		if limit--; limit < 0 {
			break
		}
		for k, err := range r.Keys(logPrefix(space, d.Replica, from.Get(d.Replica)+1), after(logPrefix(space, d.Replica, d.Time))) {
			if err != nil {
				return 0, false, fmt.Errorf("read the log: %w", err)
			}
			p, err := parseLogKey(k)
			if err != nil {
				return 0, false, err
			}
			if !ok || p.dot.Time < oldest {
				oldest, ok = p.dot.Time, true
			}
			break
		}
	}
	return oldest, ok, nil
}

// Unpruned counts the log keys that wait for Prune, at most limit of them.
func (s *Space) Unpruned(r store.Snapshot, limit int64) (int64, error) {
	n := int64(0)
	for id := range s.prune.todo {
		from := crdt.Dot{Replica: id, Time: s.prune.done[id]}
		more, err := CountLog(r, s.number, from, crdt.Dot{Replica: id, Time: s.stable.Get(id)}, limit-n)
		if n += more; err != nil || n >= limit {
			return n, err
		}
	}
	return n, nil
}
