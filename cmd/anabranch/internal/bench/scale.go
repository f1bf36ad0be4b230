package bench

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

var workloads = []workload{bulk, live, reconnect, conflicts, deletes, forgotten, fields, scale}

const (
	figFieldRatio = "10,000 fields to 10"
	manyFields    = 10_000
	fewFields     = 10
	fieldProbes   = 400
)

var fields = workload{
	name:  "fields",
	title: "setting one field of a document",
	figures: []figure{
		{"of 10 fields", "µs", target{}},
		{"of 10,000 fields", "µs", target{}},
		{figFieldRatio, "times", target{of: valueAtMost, bound: 3}},
		{"of 10 fields, synced", "µs", target{}},
		{"of 10,000 fields, synced", "µs", target{}},
	},
	trial: (*trial).fields,
}

// fields measures without syncs too, which would hide what the size costs.
func (t *trial) fields() error {
	for _, m := range []struct{ sync, suffix string }{{syncNever, ""}, {syncAlways, ", synced"}} {
		p, _, err := t.node(m.sync, m.sync)
		if err != nil {
			return err
		}
		var cost [2]float64
		for i, n := range []int{fewFields, manyFields} {
			r, err := call[probeResult](p, "probe", probeArgs{What: probeField, Count: fieldProbes, Fields: n})
			if err != nil {
				return err
			}
			cost[i] = float64(r.Nanos) / 1e3
		}
		t.record("of 10 fields"+m.suffix, cost[0])
		t.record("of 10,000 fields"+m.suffix, cost[1])
		if m.suffix == "" {
			t.record(figFieldRatio, cost[1]/cost[0])
		}
		if err := t.stop(p); err != nil {
			return err
		}
	}
	return nil
}

// sizes are the numbers of documents that scale compares, the first with each of the others; the last only if it is asked for.
var sizes = []size{
	{10_000, "10 k", false},
	{100_000, "100 k", false},
	{1_000_000, "1 M", true},
}

type size struct {
	docs  int
	name  string
	large bool
}

const (
	stepOpen   = "open"
	stepPage   = "scan page of 50, from anywhere"
	stepAgain  = "scan page of 50 that was read before"
	stepResume = "resume of a watch, 50 changes"
	stepOne    = "sync of one change, with the dial"
	stepMany   = "sync of 100 changes, with the dial"
)

// steps are the operations whose cost must not depend on the number of documents.
var steps = []string{stepOpen, stepPage, stepAgain, stepResume, stepOne, stepMany}

// sizeFactor is how much more than with the fewest documents a step may take with the most.
const sizeFactor = 1.3

// Figures of what has to be done once for each document.
const (
	figPruneLog = "log of all of them pruned at two members"
	figPrune    = "a tenth deleted, until no trace is left at either of two members"
	figJoin     = "a fresh node joins by a snapshot, where all is pruned"
	figBackup   = "backup"
)

var perDocument = []struct{ name, unit string }{
	{figLoad, "documents/s"},
	{figRate, "documents/s"},
	{figJoin, "documents/s"},
	{figBackup, "documents/s"},
	{figPruneLog, "documents/s"},
	{figPrune, "documents/s"},
	{figDisk, "B/document"},
}

var scale = workload{
	name:    "scale",
	title:   "what must cost the same however many documents there are, and what each of them costs",
	figures: scaleFigures(),
	trial:   (*trial).scale,
	once:    true,
}

func scaleFigures() []figure {
	var figures []figure
	for _, step := range steps {
		for _, s := range sizes {
			f := figure{atSize(step, s.name), "ms", target{}}
			if step == stepOpen {
				f.target = target{of: valueAtMost, bound: 2000}
			}
			figures = append(figures, f)
		}
		if step != stepOpen { // the store has more tables to open
			figures = append(figures, figure{sizeRatio(step), "times", target{of: valueAtMost, bound: sizeFactor}})
		}
	}
	for _, f := range perDocument {
		for _, s := range sizes {
			figures = append(figures, figure{atSize(f.name, s.name), f.unit, target{}})
		}
	}
	for _, s := range sizes {
		bound := 200.0
		if s.large {
			bound = 300
		}
		for _, name := range []string{figPeakA, figPeakB} {
			figures = append(figures, figure{atSize(name, s.name), "MB", target{of: valueAtMost, bound: bound}})
		}
		for _, name := range []string{figOwnPeakA, figOwnPeakB} {
			figures = append(figures, figure{atSize(name, s.name), "MB", target{}})
		}
	}
	return figures
}

func atSize(what, size string) string { return what + ", at " + size }

func sizeRatio(step string) string { return step + ", most to " + sizes[0].name }

func (t *trial) scale() error {
	wanted := slices.DeleteFunc(slices.Clone(sizes), func(s size) bool { return s.large && !t.o.Large })
	return t.compareSizes(wanted)
}

func (t *trial) compareSizes(sizes []size) error {
	var all []*sized
	defer func() {
		for _, s := range all {
			for _, p := range s.running {
				p.kill()
			}
		}
	}()
	for _, size := range sizes {
		t.o.Progress(fmt.Sprintf("scale, %s documents", size.name))
		s := t.sized(size)
		all = append(all, s)
		if err := s.begin(); err != nil {
			return err
		}
	}
	for i := range scaleRounds {
		t.o.Progress(fmt.Sprintf("scale, round %d of %d", i+1, scaleRounds))
		for _, s := range all {
			if err := s.round(i); err != nil {
				return err
			}
		}
	}
	for _, s := range all {
		t.o.Progress(fmt.Sprintf("scale, pruning of %s documents", s.name))
		if err := s.end(); err != nil {
			return err
		}
		for name, value := range s.values {
			t.record(atSize(name, s.name), value)
		}
	}
	for _, step := range steps {
		t.record(sizeRatio(step), timesTheFirst(all[len(all)-1].took[step], all[0].took[step]))
	}
	return nil
}

// timesTheFirst returns the median of the ratios within rounds.
func timesTheFirst(most, fewest []float64) float64 {
	ratios := make([]float64, len(most))
	for i := range most {
		ratios[i] = most[i] / fewest[i]
	}
	return *middle(ratios)
}

const (
	scaleRounds = 11 // in each the sizes take turns, so that what else the machine does meets all of them
	scaleProbes = 100
	manyChanges = 100
)

// sized is what scale measures with one number of documents: two equal nodes, of which the second is away most of the time.
type sized struct {
	trial
	size
	a     *process
	aOpen openResult
	took  map[string][]float64 // ms, of each step in each round
}

func (t *trial) sized(of size) *sized {
	s := &sized{trial: *t, size: of, took: make(map[string][]float64)}
	s.dir, s.running, s.values = fmt.Sprintf("%s/%d", t.dir, of.docs), nil, make(map[string]float64)
	return s
}

func (s *sized) begin() (err error) {
	if _, err := s.bulkOf(s.docs); err != nil {
		return err
	}
	s.a, s.aOpen, err = s.node("a", syncAlways)
	return err
}

func (s *sized) note(step string, ms float64) { s.took[step] = append(s.took[step], ms) }

// round measures each step once at the second node.
func (s *sized) round(i int) error {
	b, err := s.meetAgain(i, 1, stepOne)
	if err != nil {
		return err
	}
	// The same pages both times: then the store's cache has them at every size.
	for _, probe := range []struct{ step, what string }{{stepPage, probePage}, {stepAgain, probePage}, {stepResume, probeResume}} {
		r, err := call[probeResult](b, "probe", probeArgs{What: probe.what, Count: scaleProbes, Docs: s.docs})
		if err != nil {
			return err
		}
		s.note(probe.step, float64(r.Nanos)/1e6)
	}
	if err := s.stop(b); err != nil {
		return err
	}
	if b, err = s.meetAgain(i, manyChanges, stepMany); err != nil {
		return err
	}
	return s.stop(b)
}

// meetAgain changes so many documents at a while b is away, and measures how long b takes to come level.
func (s *sized) meetAgain(round, changes int, step string) (*process, error) {
	w, err := call[writeResult](s.a, "write", writeArgs{
		What: setField, Field: "note", First: round * (s.docs - changes) / scaleRounds, Count: changes, Revision: 2 + changes, Writers: loadWriters,
	})
	if err != nil {
		return nil, err
	}
	b, opened, err := s.node("b", syncAlways)
	if err != nil {
		return nil, err
	}
	s.note(stepOpen, float64(opened.Nanos)/1e6)
	tr, err := s.catchUp("meet", s.a, s.aOpen, b, w.Last)
	s.note(step, float64(tr.took)/float64(time.Millisecond))
	return b, err
}

// end measures what has to be done once for each document.
func (s *sized) end() error {
	for step, took := range s.took {
		s.record(step, *middle(took))
	}
	r, err := call[probeResult](s.a, "probe", probeArgs{What: probeBackup})
	if err != nil {
		return err
	}
	s.record(figBackup, float64(s.docs)/time.Duration(r.Nanos).Seconds())
	return errors.Join(s.stop(s.a), s.prune())
}

// prune lets both nodes forget what they still have in their logs; then it deletes a tenth of the documents at a while b is connected, and waits
// until both have forgotten them, and a fresh node joins.
func (s *sized) prune() error {
	a, aOpen, err := s.prompt("a")
	if err != nil {
		return err
	}
	b, _, err := s.prompt("b")
	if err != nil {
		return err
	}
	began, err := call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer})
	if err != nil {
		return err
	}
	end, err := untilForgotten(a, b)
	if err != nil {
		return err
	}
	s.record(figPruneLog, float64(s.docs)/time.Duration(end.At-began.At).Seconds())
	w, err := call[writeResult](a, "write", writeArgs{What: deleteDocument, Count: s.docs / 10, Writers: loadWriters})
	if err != nil {
		return err
	}
	if end, err = untilForgotten(a, b); err != nil {
		return err
	}
	s.record(figPrune, float64(s.docs/10)/time.Duration(end.At-w.Began).Seconds())
	left := s.docs - s.docs/10
	tr, err := s.join("join", "c", a, aOpen, w.Last, left)
	if err != nil {
		return err
	}
	s.record(figJoin, float64(left)/tr.took.Seconds())
	return errors.Join(s.expectDocuments(b, left), s.stop(b), s.stop(a))
}
