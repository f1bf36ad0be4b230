package crdttest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Config says what may happen in a history. The zero Config allows everything.
type Config struct {
	Replicas    int  // how many; zero means 3
	NoPruning   bool // keep every stable vector empty
	NoSnapshots bool // meet by whole documents and cells only
	NoReissued  bool // let stamp and author always be those of the dot
	NoClients   bool // let replicas make transactions of their own only
}

// History is a random history of one document at several replicas, with what the definition says about it.
type History struct {
	Replicas []*Replica

	src    Source
	config Config
	now    int64 // milliseconds; the physical clocks lie around it
	made   []*transaction
	sent   []letter // states that are still under way, or were received and come again
	log    []string
}

// Replica is one copy of the document.
type Replica struct {
	ID     crdt.ReplicaID
	Fields []crdt.Field // sorted; none is empty
	// VV covers the transactions that are known whole; single cells may be known beyond it.
	VV     crdt.VersionVector
	Stable crdt.VersionVector

	clock hlc.Clock
	skew  int64
	known map[crdt.PathKey]*dotSet // the transactions whose effect on a path is known
}

// transaction is what the definition needs to know of one: which entries it wrote, and which it had seen and removed
// or replaced.
type transaction struct {
	event   crdt.Event
	written map[crdt.PathKey]crdt.Value
	killed  map[crdt.PathKey]*dotSet
	changed map[crdt.PathKey]crdt.Event // where stamp and author of what it wrote are not those of event
}

func newTransaction(ev crdt.Event) *transaction {
	return &transaction{
		event: ev, written: map[crdt.PathKey]crdt.Value{}, killed: map[crdt.PathKey]*dotSet{}, changed: map[crdt.PathKey]crdt.Event{},
	}
}

// write takes down that it wrote v at p.
func (t *transaction) write(p crdt.PathKey, v crdt.Value) {
	t.written[p] = v
	delete(t.changed, p)
}

// eventAt returns the event of what it wrote at p.
func (t *transaction) eventAt(p crdt.PathKey) crdt.Event {
	if ev, ok := t.changed[p]; ok {
		return ev
	}
	return t.event
}

// dotSet is a set of transactions, by their index in the history.
type dotSet struct{ bits []uint64 }

func (s *dotSet) add(i int) {
	for len(s.bits) <= i/64 {
		s.bits = append(s.bits, 0)
	}
	s.bits[i/64] |= 1 << (i % 64)
}

func (s *dotSet) has(i int) bool {
	return s != nil && i/64 < len(s.bits) && s.bits[i/64]>>(i%64)&1 != 0
}

func (s *dotSet) join(o *dotSet) {
	for i, w := range o.bits {
		if len(s.bits) <= i {
			s.bits = append(s.bits, 0)
		}
		s.bits[i] |= w
	}
}

func (s *dotSet) clone() *dotSet { return &dotSet{slices.Clone(s.bits)} }

// paths are where histories write: fields beside, above and below each other, and the document itself.
var paths = func() []crdt.PathKey {
	var packed []crdt.PathKey
	for _, p := range []string{"", "/a", "/a/b", "/a/b/c", "/a/d", "/e"} {
		path, err := crdt.ParsePath(p)
		if err != nil {
			panic(err)
		}
		k, err := path.Pack()
		if err != nil {
			panic(err)
		}
		packed = append(packed, k)
	}
	return packed
}()

// NewHistory begins a history in which nothing has happened.
func NewHistory(src Source, config Config) *History {
	if config.Replicas == 0 {
		config.Replicas = 3
	}
	h := &History{src: src, config: config, now: 1_790_000_000_000}
	for i := range config.Replicas {
		h.Replicas = append(h.Replicas, &Replica{
			ID: crdt.ReplicaID(i + 1), skew: int64(src.IntN(4)), known: map[crdt.PathKey]*dotSet{},
		})
	}
	return h
}

// Run lets n things happen.
func (h *History) Run(n int) {
	for range n {
		h.now += int64(h.src.IntN(3))
		r := h.Replicas[h.src.IntN(len(h.Replicas))]
		switch c := h.src.IntN(15); {
		case c < 7:
			h.transact(r)
		case c == 7:
			h.meet(r, h.other(r))
		case c == 8:
			h.post(r)
		case c == 9:
			h.meetPartly(r, h.other(r))
		case c == 10 && !h.config.NoSnapshots:
			h.takeSnapshot(r, h.other(r))
		case c == 11 && !h.config.NoPruning:
			h.stabilise(r)
		case c == 12:
			h.receive(r)
		case c > 12 && !h.config.NoClients:
			h.transactFor(r)
		}
	}
}

// MeetAll lets every replica learn everything.
func (h *History) MeetAll() {
	for range 2 {
		for i, r := range h.Replicas {
			h.meet(r, h.Replicas[(i+1)%len(h.Replicas)])
		}
		for _, r := range h.Replicas[1:] {
			h.meet(r, h.Replicas[0])
			h.meet(h.Replicas[0], r)
		}
	}
}

// Log tells what happened, a line each.
func (h *History) Log() string { return strings.Join(h.log, "\n") }

func (h *History) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

func (h *History) other(r *Replica) *Replica {
	i := h.src.IntN(len(h.Replicas) - 1)
	if h.Replicas[i] == r {
		i = len(h.Replicas) - 1
	}
	return h.Replicas[i]
}

// Document returns the replica's document, loaded anew.
func (r *Replica) Document() *crdt.Document { return crdt.NewDocument(r.Fields) }

func (r *Replica) knows(p crdt.PathKey) *dotSet {
	s := r.known[p]
	if s == nil {
		s = &dotSet{}
		r.known[p] = s
	}
	return s
}

// Packed returns the replica's cells as they travel.
func (r *Replica) Packed() []byte { return codec.AppendCells(nil, r.Fields) }

// unpack parses cells that come from a replica. That they do not parse is a defect that the definition need not explain.
func unpack(b []byte) []crdt.Field {
	fields, err := codec.ParseCells(b)
	if err != nil {
		panic(fmt.Sprintf("cells %x of a replica do not parse: %v", b, err))
	}
	return fields
}

// letter is a replica's state at some moment, which may be received late, repeatedly and by several.
type letter struct {
	from   *Replica // a copy
	packed []byte
}

func (r *Replica) write() letter {
	c := &Replica{ID: r.ID, VV: r.VV.Clone(), Stable: r.Stable.Clone(), clock: r.clock, known: map[crdt.PathKey]*dotSet{}}
	for p, s := range r.known {
		c.known[p] = s.clone()
	}
	return letter{c, r.Packed()}
}

// meet brings to up to from: all cells of from, merged as those of a frame are. It is allowed only if from has pruned
// nothing that to may lack.
func (h *History) meet(to, from *Replica) {
	h.deliver(to, from.write())
}

func (h *History) deliver(to *Replica, l letter) {
	if !l.from.Stable.LessOrEqual(to.VV) {
		return
	}
	h.note("%d receives all cells of %d as of %v", to.ID, l.from.ID, l.from.VV)
	to.merge(unpack(l.packed))
	to.learn(l.from)
}

// post sends the state of from on its way.
func (h *History) post(from *Replica) {
	h.sent = append(h.sent, from.write())
}

// receive lets to receive a state that is under way. It stays there, to be received again.
func (h *History) receive(to *Replica) {
	if len(h.sent) > 0 {
		h.deliver(to, h.sent[h.src.IntN(len(h.sent))])
	}
}

// learn notes that to knows what from knows.
func (r *Replica) learn(from *Replica) {
	r.VV.Join(from.VV)
	for p, s := range from.known {
		r.knows(p).join(s)
	}
	r.clock.Observe(from.clock.Last())
}

// meetPartly brings to some cells of from. Each is complete in itself, but to does not get to know whole transactions.
func (h *History) meetPartly(to, from *Replica) {
	if len(from.Fields) == 0 || !from.Stable.LessOrEqual(to.VV) {
		return
	}
	var some []crdt.Field
	for _, f := range from.Fields {
		if h.src.IntN(2) == 0 {
			some = append(some, f)
			to.knows(f.Path).join(from.knows(f.Path))
		}
	}
	h.note("%d receives %d cells of %d", to.ID, len(some), from.ID)
	to.merge(unpack(codec.AppendCells(nil, some)))
	to.clock.Observe(from.clock.Last())
}

func (r *Replica) merge(fields []crdt.Field) {
	d := r.Document()
	for _, f := range fields {
		d.MergeField(r.Stable, f.Path, f.Cell)
	}
	r.Fields = slices.Collect(d.Fields())
}

// takeSnapshot brings to up to from by complete states: what one has seen and does not have, was removed. It is the way of a
// replica that has been away for longer than others remember removals.
func (h *History) takeSnapshot(to, from *Replica) {
	h.note("%d takes a snapshot of %d", to.ID, from.ID)
	theirs := crdt.NewDocument(unpack(from.Packed()))
	own := to.Document()
	var merged []crdt.Field
	stable := to.Stable.Clone()
	stable.Join(from.Stable)
	for _, p := range paths {
		c := crdt.MergeComplete(own.Cell(p), to.VV, theirs.Cell(p), from.VV)
		c.Prune(stable)
		if !c.IsEmpty() {
			merged = append(merged, crdt.Field{Path: p, Cell: c})
		}
	}
	to.Fields, to.Stable = merged, stable
	to.learn(from)
}

// stabilise raises r's stable vector to what every replica has, and prunes.
func (h *History) stabilise(r *Replica) {
	var least crdt.VersionVector
	for d := range r.VV.All() {
		for _, o := range h.Replicas {
			d.Time = min(d.Time, o.VV.Get(d.Replica))
		}
		least.Advance(d)
	}
	r.Stable.Join(least)
	h.note("%d prunes at %v", r.ID, r.Stable)
	var kept []crdt.Field
	for _, f := range r.Fields {
		f.Cell.Prune(r.Stable)
		if !f.Cell.IsEmpty() {
			kept = append(kept, f)
		}
	}
	r.Fields = kept
}
