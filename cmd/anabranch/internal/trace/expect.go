package trace

import (
	"fmt"
	"io"
	"math/big"

	"github.com/anabranch-db/anabranch/crdt"
)

// put is a value that some line wrote.
type put struct {
	line  int
	value crdt.Value
}

// Expect returns what documents show after the i-th line, by the definition: a value is there if the line itself or an
// ancestor wrote it, and none of these has replaced or removed it having seen it; of several at one field the one with the
// greatest (time, replica) shows. It reads the trace again up to that line. Cost: a bit for each pair of lines up
// to there, and every op of them; it is for saying what went wrong.
func Expect(path string, x *Index, i int) (State, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	seen := x.ancestry(i)
	cells := make(map[string]map[crdt.PathKey][]put)
	for at := 0; at <= i; at++ {
		l, err := r.Next()
		if err == io.EOF || err == nil && l.Commit != x.Lines[at].Commit {
			return nil, fmt.Errorf("%s has changed while it was read", x.File)
		}
		if err != nil {
			return nil, err
		}
		if seen[i].Bit(at) == 0 {
			continue
		}
		for k := range l.Ops {
			apply(cells, &l.Ops[k], at, &seen[at])
		}
	}
	return x.show(cells), nil
}

// ancestry returns for each line up to the i-th the lines that it has seen, itself included, as bits.
func (x *Index) ancestry(i int) []big.Int {
	seen := make([]big.Int, i+1)
	for at := range seen {
		seen[at].SetBit(&seen[at], at, 1)
		for _, p := range x.Lines[at].Parents {
			seen[at].Or(&seen[at], &seen[p])
		}
	}
	return seen
}

// apply makes one op of a line that has seen the lines in seen.
func apply(cells map[string]map[crdt.PathKey][]put, o *Op, line int, seen *big.Int) {
	fields := cells[o.Key]
	if fields == nil {
		fields = make(map[crdt.PathKey][]put)
		cells[o.Key] = fields
	}
	if o.Kind == Put {
		fields[o.At] = append(unseen(fields[o.At], seen), put{line, o.Value})
		return
	}
	for p, live := range fields { // of a Delete, At is the document
		if o.At.Contains(p) {
			fields[p] = unseen(live, seen)
		}
	}
}

func unseen(live []put, seen *big.Int) []put {
	var rest []put
	for _, v := range live {
		if seen.Bit(v.line) == 0 {
			rest = append(rest, v)
		}
	}
	return rest
}

func (x *Index) show(cells map[string]map[crdt.PathKey][]put) State {
	s := make(State)
	for key, fields := range cells {
		shown := make(Fields)
		for p, live := range fields {
			if len(live) > 0 {
				shown[p] = x.newest(live).value
			}
		}
		if len(shown) > 0 {
			s[key] = shown
		}
	}
	return s
}

func (x *Index) newest(live []put) put {
	best := live[0]
	for _, v := range live[1:] {
		a, b := &x.Lines[best.line], &x.Lines[v.line]
		if b.Time > a.Time || b.Time == a.Time && b.Replica > a.Replica {
			best = v
		}
	}
	return best
}
