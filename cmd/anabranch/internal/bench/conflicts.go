package bench

import (
	"errors"
	"fmt"
	"time"
)

// The two sides of W4 set their fields to those of these revisions of the generated documents.
const (
	revisionA = 1
	revisionB = 2
)

// meetings are the two halves of W4.
var meetings = []struct{ name, fieldA, fieldB string }{
	{"different fields", "city", "note"},
	{"the same field", "note", "note"},
}

var conflicts = workload{
	name:    "w4",
	title:   "one document in ten was edited on both sides (of 100,000: 10,000)",
	ideal:   true,
	figures: conflictFigures(),
	trial:   (*trial).conflicts,
}

func conflictFigures() []figure {
	var figures []figure
	for _, m := range meetings {
		figures = append(figures,
			figure{m.name + ": time", "ms", target{of: valueAtMost, bound: 800, scaled: true}},
			figure{m.name + ": wire", "KB", target{}},
			figure{m.name + ": edits lost", "", target{of: valueAtMost, bound: 0}},
			figure{m.name + ": edits readable as conflicts, both nodes", "", target{}},
		)
	}
	return figures
}

func (t *trial) conflicts() error {
	for i, m := range meetings {
		sub := *t
		sub.dir = fmt.Sprintf("%s/%d", t.dir, i)
		err := sub.meet(m.name, m.fieldA, m.fieldB)
		t.running = sub.running
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// meet lets two equal nodes edit the same documents while apart, and then meet.
func (t *trial) meet(name, fieldA, fieldB string) error {
	n := t.o.Docs / 10
	a, aOpen, err := t.equalNodes(n)
	if err != nil {
		return err
	}
	b, _, err := t.node("b", syncAlways)
	if err != nil {
		return err
	}
	edit := func(p *process, field string, revision int) (writeResult, error) {
		return call[writeResult](p, "write", writeArgs{What: setField, Field: field, Count: n, Revision: revision, Writers: loadWriters})
	}
	wa, err := edit(a, fieldA, revisionA)
	if err != nil {
		return err
	}
	wb, err := edit(b, fieldB, revisionB)
	if err != nil {
		return err
	}
	var level [2]at
	var wire float64
	err = t.profiled(map[bool]string{true: "same", false: "different"}[fieldA == fieldB], []*process{a, b}, func() error {
		dialled, err := call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer})
		if err != nil {
			return err
		}
		// Both wait at the same time.
		err = errors.Join(a.begin("acked", ackedArgs{Mark: wa.Last}), b.begin("acked", ackedArgs{Mark: wb.Last}))
		if err != nil {
			return err
		}
		if err := errors.Join(a.end("acked", &level[0]), b.end("acked", &level[1])); err != nil {
			return err
		}
		used, err := call[usage](b, "usage", nil)
		wire = float64(used.Sent + used.Received)
		t.record(name+": time", float64(time.Duration(max(level[0].At, level[1].At)-dialled.At).Microseconds())/1e3)
		t.record(name+": wire", wire/1e3)
		return err
	})
	if err != nil {
		return err
	}
	if t.engine == engineOurs {
		if err := t.inspectBoth(name, []*process{a, b}, inspectArgs{Count: n, FieldA: fieldA, FieldB: fieldB}); err != nil {
			return err
		}
	}
	return errors.Join(t.stop(b), t.stop(a))
}

// inspectBoth looks for every edit on both nodes: it shows, or it can be read as a conflict, or it is lost.
func (t *trial) inspectBoth(name string, nodes []*process, args inspectArgs) error {
	lost, conflicted := 0, 0
	for _, p := range nodes {
		r, err := call[inspectResult](p, "inspect", args)
		if err != nil {
			return err
		}
		lost += r.Lost
		conflicted += r.Conflicted
	}
	t.record(name+": edits lost", float64(lost))
	t.record(name+": edits readable as conflicts, both nodes", float64(conflicted))
	return nil
}
