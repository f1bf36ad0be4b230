package bench

import (
	"errors"
	"fmt"
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
var sizes = []struct {
	docs  int
	name  string
	large bool
}{
	{10_000, "10 k", false},
	{100_000, "100 k", false},
	{1_000_000, "1 M", true},
}

const (
	stepOpen   = "open"
	stepPage   = "scan page of 50"
	stepResume = "resume of a watch, 50 changes"
	stepOne    = "sync of one change, with the dial"
	stepMany   = "sync of 100 changes, with the dial"
)

// steps are the operations whose cost must not depend on the number of documents.
var steps = []string{stepOpen, stepPage, stepResume, stepOne, stepMany}

// sizeFactor is how much more than with the fewest documents a step may take with the most.
const sizeFactor = 1.3

// Figures of what has to be done once for each document.
const (
	figPrune  = "a tenth deleted, until no trace is left at either of two members"
	figBackup = "backup"
)

var perDocument = []struct{ name, unit string }{
	{figLoad, "documents/s"},
	{figRate, "documents/s"},
	{figBackup, "documents/s"},
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
	first := make(map[string]float64)
	for i, s := range sizes {
		if s.large && !t.o.Large {
			continue
		}
		t.o.Progress(fmt.Sprintf("scale, %s documents", s.name))
		sub := *t
		sub.dir = fmt.Sprintf("%s/%d", t.dir, s.docs)
		sub.values = map[string]float64{}
		if err := sub.scaleOf(s.docs); err != nil {
			return err
		}
		for name, value := range sub.values {
			t.record(atSize(name, s.name), value)
			if i == 0 {
				first[name] = value
			}
		}
		for _, step := range steps {
			t.record(sizeRatio(step), sub.values[step]/first[step])
		}
	}
	return nil
}

const (
	scaleProbes  = 200
	scaleReopens = 11 // a compaction that goes on after the catch-up must not decide the median
	manyChanges  = 100
)

// scaleOf makes two equal nodes of n documents and measures the steps at the second; then what each document costs.
func (t *trial) scaleOf(n int) error {
	if _, err := t.bulkOf(n); err != nil {
		return err
	}
	a, aOpen, err := t.node("a", syncAlways)
	if err != nil {
		return err
	}
	var opens []float64
	for _, m := range []struct {
		changes int
		step    string
	}{{1, stepOne}, {manyChanges, stepMany}} {
		took, err := t.meetAgain(a, aOpen, n, m.changes, m.step)
		if err != nil {
			return err
		}
		opens = append(opens, took...)
	}
	t.record(stepOpen, *middle(opens))
	if err := t.probes(n); err != nil {
		return err
	}
	if err := t.backup(a, n); err != nil {
		return err
	}
	if err := t.stop(a); err != nil {
		return err
	}
	return t.pruneTenth(n)
}

// meetAgain changes so many documents at a while b is away, and measures how long b takes to come level. It returns how long it took to open,
// each time.
func (t *trial) meetAgain(a *process, aOpen openResult, n, changes int, step string) (opens []float64, err error) {
	var syncs []float64
	for i := range scaleReopens {
		w, err := call[writeResult](a, "write", writeArgs{
			What: setField, Field: "note", First: i * (n - changes) / scaleReopens, Count: changes, Revision: 2 + changes, Writers: loadWriters,
		})
		if err != nil {
			return nil, err
		}
		b, opened, err := t.node("b", syncAlways)
		if err != nil {
			return nil, err
		}
		opens = append(opens, float64(opened.Nanos)/1e6)
		tr, err := t.catchUp("meet", a, aOpen, b, w.Last)
		if err != nil {
			return nil, err
		}
		syncs = append(syncs, float64(tr.took)/float64(time.Millisecond))
		if err := t.stop(b); err != nil {
			return nil, err
		}
	}
	t.record(step, *middle(syncs))
	return opens, nil
}

// probes measures small operations at node b.
func (t *trial) probes(n int) error {
	b, _, err := t.node("b", syncAlways)
	if err != nil {
		return err
	}
	for step, what := range map[string]string{stepPage: probePage, stepResume: probeResume} {
		r, err := call[probeResult](b, "probe", probeArgs{What: what, Count: scaleProbes, Docs: n})
		if err != nil {
			return err
		}
		t.record(step, float64(r.Nanos)/1e6)
	}
	return t.stop(b)
}

func (t *trial) backup(p *process, n int) error {
	r, err := call[probeResult](p, "probe", probeArgs{What: probeBackup})
	t.record(figBackup, float64(n)/time.Duration(r.Nanos).Seconds())
	return err
}

// pruneTenth deletes a tenth of the documents at a while b is connected, and waits until both have forgotten them.
func (t *trial) pruneTenth(n int) error {
	a, aOpen, err := t.prompt("a")
	if err != nil {
		return err
	}
	b, _, err := t.prompt("b")
	if err != nil {
		return err
	}
	if _, err := call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer}); err != nil {
		return err
	}
	w, err := call[writeResult](a, "write", writeArgs{What: deleteDocument, Count: n / 10, Writers: loadWriters})
	if err != nil {
		return err
	}
	end, err := untilForgotten(a, b)
	if err != nil {
		return err
	}
	t.record(figPrune, float64(n/10)/time.Duration(end.At-w.Began).Seconds())
	return errors.Join(t.expectDocuments(b, n-n/10), t.stop(b), t.stop(a))
}
