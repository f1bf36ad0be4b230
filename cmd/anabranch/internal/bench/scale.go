package bench

import (
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

// sizes are the numbers of documents that scale compares; the last only if it is asked for.
var sizes = []struct {
	docs  int
	name  string
	large bool
}{
	{1_000, "1 k", false},
	{100_000, "100 k", false},
	{1_000_000, "1 M", true},
}

// steps are the operations whose cost must not depend on the number of documents.
var steps = []string{"open", "scan page of 50", "resume of a watch, 50 changes", "sync of one change, with the dial"}

var scale = workload{
	name:    "scale",
	title:   "what must cost the same however many documents there are",
	figures: scaleFigures(),
	trial:   (*trial).scale,
	once:    true,
}

func scaleFigures() []figure {
	var figures []figure
	for _, step := range steps {
		for _, s := range sizes {
			f := figure{step + ", at " + s.name, "ms", target{}}
			if step == "open" {
				f.target = target{of: valueAtMost, bound: 2000}
			}
			figures = append(figures, f)
		}
		if step != "open" {
			// The same, but for the noise of a machine that does other things too and for one more level of tables.
			figures = append(figures, figure{step + ", most to least", "times", target{of: valueAtMost, bound: 2}})
		}
	}
	for _, s := range sizes {
		bound := 200.0
		if s.large {
			bound = 300
		}
		figures = append(figures,
			figure{"catch-up of a fresh node, at " + s.name, "documents/s", target{}},
			figure{figPeakA + ", at " + s.name, "MB", target{of: valueAtMost, bound: bound}},
			figure{figPeakB + ", at " + s.name, "MB", target{of: valueAtMost, bound: bound}},
			figure{figDisk + ", at " + s.name, "B/document", target{}},
		)
	}
	return figures
}

func (t *trial) scale() error {
	costs := make(map[string][]float64)
	for _, s := range sizes {
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
		for _, step := range steps {
			costs[step] = append(costs[step], sub.values[step])
			t.record(step+", at "+s.name, sub.values[step])
		}
		for _, name := range []string{figPeakA, figPeakB, figDisk} {
			t.record(name+", at "+s.name, sub.values[name])
		}
		t.record("catch-up of a fresh node, at "+s.name, sub.values[figRate])
	}
	for step, c := range costs {
		if step != "open" {
			t.record(step+", most to least", slices.Max(c)/slices.Min(c))
		}
	}
	return nil
}

const (
	scaleProbes  = 200
	scaleReopens = 11 // a compaction that goes on after the catch-up must not decide the median
)

// scaleOf makes two equal nodes of n documents and measures the steps at the second.
func (t *trial) scaleOf(n int) error {
	if _, err := t.bulkOf(n); err != nil {
		return err
	}
	a, aOpen, err := t.node("a", syncAlways)
	if err != nil {
		return err
	}
	var opens, syncs []float64
	for i := range scaleReopens {
		w, err := call[writeResult](a, "write", writeArgs{What: setField, Field: "note", First: i * n / scaleReopens, Count: 1, Revision: 3, Writers: 1})
		if err != nil {
			return err
		}
		b, opened, err := t.node("b", syncAlways)
		if err != nil {
			return err
		}
		opens = append(opens, float64(opened.Nanos)/1e6)
		tr, err := t.catchUp("one", a, aOpen, b, w.Last)
		if err != nil {
			return err
		}
		syncs = append(syncs, float64(tr.took)/float64(time.Millisecond))
		if i == scaleReopens-1 {
			if err := t.probes(b, n); err != nil {
				return err
			}
		}
		if err := t.stop(b); err != nil {
			return err
		}
	}
	t.record(steps[0], *middle(opens))
	t.record(steps[3], *middle(syncs))
	return t.stop(a)
}

func (t *trial) probes(p *process, n int) error {
	for i, what := range []string{probePage, probeResume} {
		r, err := call[probeResult](p, "probe", probeArgs{What: what, Count: scaleProbes, Docs: n})
		if err != nil {
			return err
		}
		t.record(steps[1+i], float64(r.Nanos)/1e6)
	}
	return nil
}
