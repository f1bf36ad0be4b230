package crdttest

import (
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// Law is one law of merging. Check runs a history of its own and reports how the law is broken.
type Law struct {
	Name  string
	Check func(src Source) error
}

// Laws returns all laws.
func Laws() []Law {
	never := crdt.VersionVector{}
	return []Law{
		{"merging is commutative", func(src Source) error {
			return forCells(src, Config{NoPruning: true, NoSnapshots: true}, func(a, b, _ crdt.Cell) error {
				return same(crdt.Merge(a, never, b, never), crdt.Merge(b, never, a, never))
			})
		}},
		{"merging is associative", func(src Source) error {
			return forCells(src, Config{NoPruning: true, NoSnapshots: true}, func(a, b, c crdt.Cell) error {
				left := crdt.Merge(crdt.Merge(a, never, b, never), never, c, never)
				return same(left, crdt.Merge(a, never, crdt.Merge(b, never, c, never), never))
			})
		}},
		{"merging is idempotent", func(src Source) error {
			return forCells(src, Config{NoPruning: true, NoSnapshots: true}, func(a, b, _ crdt.Cell) error {
				if err := same(crdt.Merge(a, never, a, never), a); err != nil {
					return err
				}
				once := crdt.Merge(a, never, b, never)
				return same(crdt.Merge(once, never, b, never), once)
			})
		}},
		{"merging complete states is commutative", func(src Source) error {
			return forReplicas(src, Config{}, func(h *History, a, b *Replica) error {
				for _, p := range paths {
					ca, cb := a.Document().Cell(p), b.Document().Cell(p)
					if err := same(crdt.MergeComplete(ca, a.VV, cb, b.VV), crdt.MergeComplete(cb, b.VV, ca, a.VV)); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"merging does not change its arguments", func(src Source) error {
			return forCells(src, Config{}, func(a, b, _ crdt.Cell) error {
				a1, b1 := deepCopy(a), deepCopy(b)
				m := crdt.Merge(a, never, b, never)
				ev := crdt.EventAt(crdt.Dot{Replica: 99, Time: 1 << 62})
				m.Write(ev, crdt.IntValue(1))
				m.Remove(ev)
				if err := same(a1, a); err != nil {
					return err
				}
				return same(b1, b)
			})
		}},
		{"the order of meetings does not matter", checkOrderFree},
		{"every replica shows what the definition says", func(src Source) error {
			h := NewHistory(src, Config{Replicas: 2 + src.IntN(3)})
			for range 3 {
				h.Run(8)
				if err := h.Check(); err != nil {
					return err
				}
			}
			return h.CheckConverged()
		}},
		{"without pruning a snapshot is a merge of all cells", func(src Source) error {
			return forReplicas(src, Config{NoPruning: true}, func(h *History, a, b *Replica) error {
				for _, p := range paths {
					ca, cb := a.Document().Cell(p), b.Document().Cell(p)
					if x, y := crdt.Merge(ca, never, cb, never), crdt.MergeComplete(ca, a.VV, cb, b.VV); !slices.Equal(x.Live, y.Live) {
						return fmt.Errorf("%v as cells, %v as complete states\n%s", x, y, h.Log())
					}
				}
				return nil
			})
		}},
		{"a document that is streamed shows the same", func(src Source) error {
			return forReplicas(src, Config{}, func(_ *History, a, b *Replica) error {
				for _, r := range []*Replica{a, b} {
					if err := checkStream(r.Document()); err != nil {
						return err
					}
				}
				return nil
			})
		}},
		{"replacing makes shown what is wanted", checkReplace},
		{"settling keeps what shows and leaves no conflict", checkSettle},
		{"the number of conflicts follows the changes", checkConflictChange},
	}
}

// forCells runs a history and passes the states of one path at three replicas.
func forCells(src Source, config Config, law func(a, b, c crdt.Cell) error) error {
	h := NewHistory(src, config)
	h.Run(14)
	for _, p := range paths {
		cells := make([]crdt.Cell, 3)
		for i := range cells {
			cells[i] = h.Replicas[i].Document().Cell(p)
		}
		if err := law(cells[0], cells[1], cells[2]); err != nil {
			return fmt.Errorf("at %q, states %v: %w\n%s", p, cells, err, h.Log())
		}
	}
	return nil
}

func forReplicas(src Source, config Config, law func(h *History, a, b *Replica) error) error {
	h := NewHistory(src, config)
	h.Run(16)
	if err := law(h, h.Replicas[0], h.Replicas[1]); err != nil {
		return fmt.Errorf("%w\n%s", err, h.Log())
	}
	return nil
}

func same(a, b crdt.Cell) error {
	if !a.Equal(b) {
		return fmt.Errorf("%v is not %v", a, b)
	}
	return nil
}

func deepCopy(c crdt.Cell) crdt.Cell {
	return crdt.Cell{Live: slices.Clone(c.Live), Observed: c.Observed.Clone()}
}

// checkOrderFree gives the states of all replicas to one that has nothing, in two orders, some of them twice.
func checkOrderFree(src Source) error {
	h := NewHistory(src, Config{Replicas: 4, NoPruning: true})
	h.Run(16)
	var states [2]*crdt.Document
	for k := range states {
		states[k] = &crdt.Document{}
		left := append(slices.Clone(h.Replicas), h.Replicas[src.IntN(4)])
		for len(left) > 0 {
			i := src.IntN(len(left))
			for _, f := range left[i].Fields {
				states[k].MergeField(crdt.VersionVector{}, f.Path, f.Cell)
			}
			left = slices.Delete(left, i, i+1)
		}
	}
	for _, p := range paths {
		if err := same(states[0].Cell(p), states[1].Cell(p)); err != nil {
			return fmt.Errorf("at %q: %w\n%s", p, err, h.Log())
		}
	}
	return nil
}

// checkReplace replaces a document that histories reach, with all its conflicts.
func checkReplace(src Source) error {
	h := NewHistory(src, Config{})
	h.Run(14)
	r := h.Replicas[0]
	leaves := h.leaves("")
	d := r.Document()
	shown := map[crdt.PathKey]crdt.Value{}
	for p, v := range d.Leaves() {
		shown[p] = v
	}
	t, err := r.clock.Peek(0)
	if err != nil {
		return err
	}
	d.Replace(crdt.Event{Dot: crdt.Dot{Replica: r.ID, Time: t}, Stamp: t - 5, Author: 1000}, leaves)
	rest := leaves
	for p, v := range d.Leaves() {
		if len(rest) == 0 || rest[0].Path != p || v != rest[0].Value && (v.Kind() != crdt.Counter || v.Int() != rest[0].Value.Int()) {
			return fmt.Errorf("%q=%v shows, wanted %s\n%s", p, v.Any(), tell(leaves), h.Log())
		}
		rest = rest[1:]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%s does not show\n%s", tell(rest), h.Log())
	}
	for c := range d.Changes() {
		for _, l := range leaves {
			if v, ok := shown[c.Path]; ok && l.Path == c.Path && v == l.Value {
				return fmt.Errorf("%q changed although it already showed %v\n%s", c.Path, v.Any(), h.Log())
			}
		}
	}
	return nil
}

func checkStream(d *crdt.Document) error {
	var whole, streamed []crdt.Leaf
	for p, v := range d.Leaves() {
		whole = append(whole, crdt.Leaf{Path: p, Value: v})
	}
	fields := func(yield func(crdt.Field, error) bool) {
		for f := range d.Fields() {
			if !yield(f, nil) {
				return
			}
		}
	}
	for l, err := range crdt.StreamLeaves(fields) {
		if err != nil {
			return err
		}
		streamed = append(streamed, l)
	}
	if !slices.Equal(whole, streamed) {
		return fmt.Errorf("whole it shows %s, streamed %s", tell(whole), tell(streamed))
	}
	return nil
}
