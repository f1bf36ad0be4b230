package crdt

import (
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Contest is one place of a document where values that were written concurrently compete: what shows, and what lost
// to it.
type Contest struct {
	Path   PathKey // of what shows
	Shown  Value   // EmptyMapValue for a map whose fields show
	Author ReplicaID
	Time   hlc.Time   // when the author wrote it; of a map, its newest field
	Lost   []Conflict // at Path, or below if what shows hides a map; sorted as Conflicts does
}

// Contests returns what Conflicts lists, by the place where they were lost, in the order of the paths.
func (d *Document) Contests() []Contest { return contests(d.Conflicts()) }

func contests(conflicts []Conflict) []Contest {
	slices.SortStableFunc(conflicts, func(a, b Conflict) int { return strings.Compare(string(a.ShownAt), string(b.ShownAt)) })
	var all []Contest
	for _, c := range conflicts {
		if n := len(all); n == 0 || all[n-1].Path != c.ShownAt {
			all = append(all, Contest{Path: c.ShownAt, Shown: c.Shown, Author: c.ShownAuthor, Time: c.ShownTime})
		}
		last := &all[len(all)-1]
		last.Lost = append(last.Lost, c)
	}
	return all
}

// Verdict says how a contest is settled. The zero Verdict leaves it open.
type Verdict struct {
	kind  verdictKind
	index int
	value Value
}

type verdictKind uint8

const (
	verdictLeave verdictKind = iota
	verdictKeep
	verdictTake
	verdictWrite
)

// LeaveOpen settles nothing.
func LeaveOpen() Verdict { return Verdict{} }

// KeepShown lets what shows stay, and drops what lost.
func KeepShown() Verdict { return Verdict{kind: verdictKeep} }

// TakeLost lets the i-th value that lost show instead. One that lay hidden in a map brings back the map.
func TakeLost(i int) Verdict { return Verdict{kind: verdictTake, index: i} }

// WriteValue writes a value of its own at the path of the contest.
func WriteValue(v Value) Verdict { return Verdict{kind: verdictWrite, value: v} }

// Rule decides contests.
type Rule func(Contest) Verdict

// Settle asks the rule about the conflicts at p and below, and does what it says in the name of ev. At most limit contests
// are settled (0: all), so that a transaction stays small; more says whether that cut it short. It returns the number of conflicts that the
// settled ones had. The document must be complete.
//
// Settling is writing again what is to show, having seen the rest: a write that ev's author has not seen stays a conflict.
// A counter that stays keeps counting what others add meanwhile.
func (d *Document) Settle(ev Event, p PathKey, rule Rule, limit int) (settled int, more bool) {
	left := limit
	for {
		again := false
		skip, skipping := PathKey(""), false
		for _, c := range d.contestsAt(p) {
			if skipping && skip.Contains(c.Path) {
				continue // what competes there is another question now: ask in the next round
			}
			v := rule(c)
			if v.kind == verdictLeave || v.kind == verdictTake && (v.index < 0 || v.index >= len(c.Lost)) {
				continue
			}
			if limit > 0 && left == 0 {
				return settled, true
			}
			left--
			settled += len(c.Lost)
			d.execute(ev, p, c, v)
			if v.kind != verdictKeep {
				skip, skipping, again = c.Path, true, true
			}
		}
		if !again {
			return settled, false
		}
	}
}

// contestsAt returns the contests with what was lost at p and below.
func (d *Document) contestsAt(p PathKey) []Contest {
	conflicts := d.Conflicts()
	if p != "" {
		conflicts = slices.DeleteFunc(conflicts, func(c Conflict) bool { return !p.Contains(c.Path) })
	}
	return contests(conflicts)
}

func (d *Document) execute(ev Event, p PathKey, c Contest, v Verdict) {
	switch v.kind {
	case verdictWrite:
		d.Set(ev, c.Path, v.value)
	case verdictTake:
		lost := c.Lost[v.index]
		if i, ok := d.search(lost.Path); ok && lost.Value.kind == Counter {
			d.keepCounter(ev, i)
			return
		}
		d.Set(ev, lost.Path, lost.Value)
	case verdictKeep:
		if p.Contains(c.Path) {
			d.keep(ev, c.Path)
			return
		}
		for _, lost := range c.Lost { // what shows lies above p, and has lost nothing else that was asked about
			if i, ok := d.search(lost.Path); ok {
				d.removeAt(i, ev, nil)
			}
		}
	}
}

// keep drops what lost to what shows at p.
func (d *Document) keep(ev Event, p PathKey) {
	i, ok := d.search(p)
	if !ok || len(d.fields[i].Cell.Live) == 0 {
		return
	}
	r := resolver{fields: d.fields}
	g := r.group(i, r.isNested(i))
	switch winner := g.winner(); {
	case g.fields != nil && winner == g.fields:
		d.keepMap(ev, i)
	case winner == g.counter:
		d.keepCounter(ev, i)
	default:
		d.Set(ev, p, g.value.Value)
	}
}

// keepMap drops what competes with the fields below the i-th one. An empty map that was written there stays, by the time and author that it has:
// if it is the newest of the fields, it may be what lets a map further up show.
func (d *Document) keepMap(ev Event, i int) {
	var marker *Entry
	for k := range d.fields[i].Cell.Live {
		if e := &d.fields[i].Cell.Live[k]; e.Value.kind == EmptyMap {
			marker = newer(marker, e)
		}
	}
	if marker == nil {
		d.removeAt(i, ev, nil)
		return
	}
	f := d.touchAt(i)
	f.Cell.Write(Event{Dot: ev.Dot, Stamp: marker.Stamp, Author: marker.Author}, EmptyMapValue())
}

// keepCounter drops what competes with the counter in the i-th field. The parts of all writers stay as they are: if their sum were written
// as one, what others add meanwhile would count twice. Adding nothing gives the removal its own dot.
func (d *Document) keepCounter(ev Event, i int) {
	p := d.fields[i].Path
	d.removeAbove(ev, p)
	for j := d.endOf(i); j > i; j-- {
		d.removeAt(j, ev, nil)
	}
	f := d.touchAt(i)
	f.Cell.removePlain()
	if f.Cell.Increment(ev, 0) != nil {
		panic("crdt: adding zero leaves the range of int64")
	}
}
