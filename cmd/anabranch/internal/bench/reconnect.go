package bench

import "fmt"

// changes are how many documents change while the nodes are apart: one in so many, and one for the cost of meeting at all.
var changes = []struct {
	name  string
	oneIn int // 0: a single document
	maxMS float64
	maxKB float64
}{
	{"1 changed", 0, 0, 0},
	{"1 in 1000 changed", 1000, 25, 30},
	{"1 in 10 changed", 10, 350, 1200},
}

var reconnect = workload{
	name:    "w3",
	title:   "two nodes that were equal meet again, from the dial to level (1 in 1000 of 100,000 is 100)",
	ideal:   true,
	figures: reconnectFigures(),
	trial:   (*trial).reconnect,
}

func reconnectFigures() []figure {
	var figures []figure
	for _, c := range changes {
		ms, kb := target{}, target{}
		if c.maxMS > 0 {
			ms = target{of: valueAtMost, bound: c.maxMS, scaled: true}
			kb = target{of: valueAtMost, bound: c.maxKB, scaled: true}
		}
		figures = append(figures, figure{c.name + ": time", "ms", ms}, figure{c.name + ": wire", "KB", kb})
	}
	return figures
}

func (t *trial) reconnect() error {
	n := t.o.Docs
	a, aOpen, err := t.equalNodes(n)
	if err != nil {
		return err
	}
	for i, c := range changes {
		changed := 1
		if c.oneIn > 0 {
			changed = n / c.oneIn
		}
		w, err := call[writeResult](a, "write", writeArgs{
			What: setField, Field: "note", First: i * changed, Count: changed, Revision: 3 + i, Writers: loadWriters,
		})
		if err != nil {
			return err
		}
		b, _, err := t.node("b", syncAlways)
		if err != nil {
			return err
		}
		tr, err := t.catchUp(fmt.Sprintf("%dchanged", changed), a, aOpen, b, w.Last)
		if err != nil {
			return err
		}
		t.record(c.name+": time", float64(tr.took.Microseconds())/1e3)
		t.record(c.name+": wire", tr.wire/1e3)
		if err := t.stop(b); err != nil {
			return err
		}
	}
	return t.stop(a)
}

// equalNodes loads node a, brings node b up to it, and ends b.
func (t *trial) equalNodes(n int) (*process, openResult, error) {
	a, aOpen, err := t.node("a", syncAlways)
	if err != nil {
		return nil, aOpen, err
	}
	loaded, err := t.load(a, n)
	if err != nil {
		return nil, aOpen, err
	}
	b, bOpen, err := t.node("b", syncAlways)
	if err != nil {
		return nil, bOpen, err
	}
	if _, err := call[at](b, "dial", dialArgs{aOpen.Addr, aOpen.Peer}); err != nil {
		return nil, aOpen, err
	}
	if _, err := call[at](a, "acked", ackedArgs{Mark: loaded.Last}); err != nil {
		return nil, aOpen, err
	}
	return a, aOpen, t.stop(b)
}
