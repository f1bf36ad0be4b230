package crdttest

import (
	"fmt"
	"iter"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// live yields the transactions whose entry at p is live at r by the definition, with their index.
func (h *History) live(r *Replica, p crdt.PathKey) iter.Seq2[int, crdt.Event] {
	return func(yield func(int, crdt.Event) bool) {
		known := r.known[p]
		var dead dotSet
		for i, t := range h.made {
			if known.has(i) && t.killed[p] != nil {
				dead.join(t.killed[p])
			}
		}
		for i, t := range h.made {
			if _, wrote := t.written[p]; wrote && known.has(i) && !dead.has(i) && !yield(i, t.eventAt(p)) {
				return
			}
		}
	}
}

// Expected returns the entries that are live at path p of r by the definition, sorted by writer.
func (h *History) Expected(r *Replica, p crdt.PathKey) []crdt.Entry {
	var entries []crdt.Entry
	for i, ev := range h.live(r, p) {
		entries = append(entries, crdt.Entry{Dot: ev.Dot, Stamp: ev.Stamp, Author: ev.Author, Value: h.made[i].written[p]})
	}
	slices.SortFunc(entries, func(a, b crdt.Entry) int { return a.Dot.Compare(b.Dot) })
	return entries
}

// Check compares every replica with the definition, and its cells with their invariants.
func (h *History) Check() error {
	for _, r := range h.Replicas {
		if err := h.checkReplica(r); err != nil {
			return fmt.Errorf("replica %d: %w\n%s", r.ID, err, h.Log())
		}
	}
	return nil
}

func (h *History) checkReplica(r *Replica) error {
	if !r.Stable.LessOrEqual(r.VV) {
		return fmt.Errorf("stable %v exceeds vv %v", r.Stable, r.VV)
	}
	d := r.Document()
	for _, p := range paths {
		if got, want := d.Cell(p).Live, h.Expected(r, p); !slices.Equal(got, want) {
			return fmt.Errorf("at %q %v is live, by the definition %v", p, got, want)
		}
	}
	for i, f := range r.Fields {
		switch {
		case i > 0 && r.Fields[i-1].Path >= f.Path:
			return fmt.Errorf("fields are out of order at %q", f.Path)
		case f.Cell.IsEmpty():
			return fmt.Errorf("an empty cell is kept at %q", f.Path)
		case f.Cell.Observed.Len() > 0 && isStable(f.Cell, r.Stable):
			return fmt.Errorf("%v at %q is stable at %v and not pruned", f.Cell, f.Path, r.Stable)
		}
		if err := f.Cell.Check(); err != nil {
			return fmt.Errorf("at %q: %w", f.Path, err)
		}
	}
	return nil
}

func isStable(c crdt.Cell, stable crdt.VersionVector) bool {
	return c.Observed.LessOrEqual(stable) &&
		!slices.ContainsFunc(c.Live, func(e crdt.Entry) bool { return !stable.Covers(e.Dot) })
}

// CheckConverged lets all replicas meet and reports any that differs from the others or from the definition.
func (h *History) CheckConverged() error {
	h.MeetAll()
	if err := h.Check(); err != nil {
		return err
	}
	first := h.Replicas[0]
	for _, r := range h.Replicas[1:] {
		if !r.VV.Equal(first.VV) {
			return fmt.Errorf("replica %d knows %v, replica %d %v\n%s", first.ID, first.VV, r.ID, r.VV, h.Log())
		}
		for _, p := range paths {
			if a, b := first.Document().Cell(p), r.Document().Cell(p); !slices.Equal(a.Live, b.Live) {
				return fmt.Errorf("replicas %d and %d differ at %q: %v and %v\n%s", first.ID, r.ID, p, a, b, h.Log())
			}
		}
	}
	return nil
}
