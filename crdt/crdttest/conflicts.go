package crdttest

import (
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// checkSettle settles the conflicts of a document that histories reach, at a path and below.
func checkSettle(src Source) error {
	h := NewHistory(src, Config{})
	h.Run(14)
	r := h.Replicas[0]
	d := r.Document()
	p := paths[src.IntN(len(paths))]
	was := show(d)
	lost, lostElsewhere := 0, 0
	for _, c := range d.Conflicts() {
		if p.Contains(c.Path) {
			lost++
		} else {
			lostElsewhere++
		}
	}
	ev, err := r.next()
	if err != nil {
		return err
	}
	n, _ := d.Settle(ev, p, func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }, 0)
	switch now := show(d); {
	case n != lost:
		return fmt.Errorf("settled %d conflicts of %d\n%s", n, lost, h.Log())
	case !slices.Equal(was, now):
		return fmt.Errorf("settling %q made %v of %v\n%s", p, now, was, h.Log())
	}
	for _, c := range d.Conflicts() {
		if p.Contains(c.Path) {
			return fmt.Errorf("%q=%v is still a conflict after settling %q\n%s", c.Path, c.Value.Any(), p, h.Log())
		}
		lostElsewhere--
	}
	if lostElsewhere < 0 {
		return fmt.Errorf("settling %q made conflicts elsewhere\n%s", p, h.Log())
	}
	for f := range d.Fields() {
		if err := f.Cell.Check(); err != nil {
			return fmt.Errorf("settling %q: %q: %w\n%s", p, f.Path, err, h.Log())
		}
	}
	return nil
}

// show lists what shows; a counter is its sum.
func show(d *crdt.Document) []string {
	var shown []string
	for p, v := range d.Leaves() {
		shown = append(shown, fmt.Sprintf("%q %d %v", string(p), v.Kind(), v.Any()))
	}
	return shown
}

// checkConflictChange lets operations and a merge change a document, and compares the change in the number of its conflicts with
// counting them.
func checkConflictChange(src Source) error {
	h := NewHistory(src, Config{})
	h.Run(14)
	r, o := h.Replicas[0], h.Replicas[1]
	d := r.Document()
	before := d.ConflictCount()
	if list := d.Conflicts(); len(list) != before {
		return fmt.Errorf("%d conflicts, and the list has %d\n%s", before, len(list), h.Log())
	}
	ev, err := r.next()
	if err != nil {
		return err
	}
	if src.IntN(3) > 0 {
		for _, f := range o.Fields {
			if src.IntN(2) == 0 {
				d.MergeField(r.Stable, f.Path, f.Cell)
			}
		}
	}
	a := &author{replica: r, history: h, tx: newTransaction(ev)}
	for range src.IntN(3) {
		h.operate(d, ev, a)
	}
	if after, change := d.ConflictCount(), d.ConflictChange(); after != before+change {
		return fmt.Errorf("%d conflicts became %d, and the change is said to be %d\n%s", before, after, change, h.Log())
	}
	return nil
}

// next returns the event of a transaction that the replica could make now.
func (r *Replica) next() (crdt.Event, error) {
	t, err := r.clock.Peek(0)
	return crdt.EventAt(crdt.Dot{Replica: r.ID, Time: t}), err
}
