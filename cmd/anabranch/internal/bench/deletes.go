package bench

import "errors"

const (
	figDeleteTime = "catch-up of a fresh node, not yet stable: time"
	figDeleteWire = "catch-up of a fresh node, not yet stable: wire"
	figDeleteLeft = "left on disk of the fresh node, closed"
	figDeleteA    = "left on disk of the deleting node, closed"
)

var deletes = workload{
	name:  "w5",
	title: "half as many documents were made and all but one deleted, and not pruned yet",
	ideal: true,
	figures: []figure{
		{figDeleteTime, "ms", target{of: valueAtMost, bound: 1000, scaled: true}},
		{figDeleteWire, "KB", target{of: valueAtMost, bound: 3000, scaled: true}},
		{figDeleteLeft, "KB", target{}},
		{figDeleteA, "KB", target{}},
	},
	trial: (*trial).deletes,
}

func (t *trial) deletes() error {
	n := t.o.Docs / 2
	a, aOpen, err := t.node("a", syncAlways)
	if err != nil {
		return err
	}
	if _, err := t.load(a, n); err != nil {
		return err
	}
	w, err := call[writeResult](a, "write", writeArgs{What: deleteDocument, Count: n - 1, Writers: loadWriters})
	if err != nil {
		return err
	}
	b, _, err := t.node("b", syncAlways)
	if err != nil {
		return err
	}
	tr, err := t.catchUp("catchup", a, aOpen, b, w.Last)
	if err != nil {
		return err
	}
	t.record(figDeleteTime, float64(tr.took.Microseconds())/1e3)
	t.record(figDeleteWire, tr.wire/1e3)
	if err := t.expectDocuments(b, 1); err != nil {
		return err
	}
	if err := errors.Join(t.stop(b), t.stop(a)); err != nil {
		return err
	}
	left, err := t.disk("b")
	t.record(figDeleteLeft, left/1e3)
	if err == nil {
		left, err = t.disk("a")
		t.record(figDeleteA, left/1e3)
	}
	return err
}
