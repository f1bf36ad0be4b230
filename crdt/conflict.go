package crdt

import (
	"cmp"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Conflict is a value that was written concurrently with what shows and does not show itself. It stays readable until
// somebody who has seen it writes or removes the field again.
type Conflict struct {
	Path   PathKey
	Value  Value // of a counter, the sum
	Author ReplicaID
	Time   hlc.Time // when the author wrote it
	Dot    Dot      // of the transaction that brought it in; of a counter, the newest

	// ShownAt is the path of what shows in its place: Path, or one above it, whose value hides a whole map. Shown is
	// the value there; EmptyMapValue stands for a map whose fields show.
	ShownAt     PathKey
	Shown       Value
	ShownAuthor ReplicaID // of what shows; of a map, or a counter, the author of its newest entry
	ShownTime   hlc.Time
}

// Conflicts returns the values that do not show, sorted by path, at one path the newest first. What equals the value
// that shows is no conflict. A counter that does not show is one conflict; of a map that does not show each field is one. The
// document must be complete. Cost: linear, apart from sorting what is returned.
func (d *Document) Conflicts() []Conflict {
	var found []Conflict
	r := resolver{
		fields: d.fields,
		show:   func(PathKey, Value) bool { return true },
		lose:   func(c Conflict) { found = append(found, c) },
	}
	r.resolve()
	slices.SortStableFunc(found, func(a, b Conflict) int {
		return cmp.Or(
			strings.Compare(string(a.Path), string(b.Path)),
			cmp.Compare(b.Time, a.Time),
			cmp.Compare(b.Author, a.Author),
			b.Dot.Compare(a.Dot),
		)
	})
	return found
}

// losers reports what does not show at the i-th field, and below it if a value hides that.
func (r *resolver) losers(i int, g *groups) {
	if r.lose == nil {
		return
	}
	p := r.fields[i].Path
	shown, ok := g.shown()
	if !ok {
		shown = EmptyMapValue()
	}
	winner := g.winner()
	report := func(p PathKey, e *Entry, v Value) {
		r.lose(Conflict{Path: p, Value: v, Author: e.Author, Time: e.Stamp, Dot: e.Dot, ShownAt: r.fields[i].Path, Shown: shown, ShownAuthor: winner.Author, ShownTime: winner.Stamp})
	}
	for k := range g.cell.Live {
		e := &g.cell.Live[k]
		switch {
		case e.Value.kind == Counter: // below, as one
		case g.joinsFields(e):
			if winner != g.fields {
				report(p, e, e.Value)
			}
		case winner != g.value || e.Value != shown:
			report(p, e, e.Value)
		}
	}
	if g.counter != nil && winner != g.counter {
		report(p, g.counter, counterSum(g.cell))
	}
	if g.fields == nil || winner == g.fields {
		return
	}
	end := r.last(i)
	for j := i + 1; j <= end; j++ {
		reportCell(&r.fields[j], report)
	}
}

// reportCell reports everything live in a field that is hidden by one above it.
func reportCell(f *tracked, report func(PathKey, *Entry, Value)) {
	var counter *Entry
	for k := range f.Cell.Live {
		e := &f.Cell.Live[k]
		if e.Value.kind == Counter {
			counter = newer(counter, e)
			continue
		}
		report(f.Path, e, e.Value)
	}
	if counter != nil {
		report(f.Path, counter, counterSum(&f.Cell))
	}
}
