package replicatest

import (
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
)

// settleConflicts settles the conflicts of a document at a path and below: by keeping what shows, which must then show as before, or by a
// random rule. What it writes and removes depends on what shows, so the oracle takes it as the transaction's intent.
func (w *write) settleConflicts(key string, p crdt.PathKey) error {
	s := w.sim
	doc, err := w.tx.View(key, "")
	if err != nil {
		return err
	}
	shown := tellLeaves(doc)
	keep := s.chance(0.5)
	rule := func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }
	if !keep {
		rule = s.verdict
	}
	settled, _, err := w.tx.Settle(key, p, rule, 0)
	if err != nil {
		return err
	}
	s.counts[ConflictsSettled] += int64(settled)
	if doc, err = w.tx.View(key, ""); err != nil {
		return err
	}
	w.draft.replace(key, w.event.Dot, doc)
	if !keep {
		return nil
	}
	if now := tellLeaves(doc); now != shown {
		return fmt.Errorf("settle: the document shows %s, and before that %s", now, shown)
	}
	for _, c := range doc.Conflicts() {
		if p.Contains(c.Path) {
			return fmt.Errorf("settle: %v at %s is still a conflict", c.Value, c.Path)
		}
	}
	return nil
}

// verdict is a rule that decides at random.
func (s *simulation) verdict(c crdt.Contest) crdt.Verdict {
	switch s.rng.IntN(4) {
	case 0:
		return crdt.LeaveOpen()
	case 1:
		return crdt.WriteValue(s.value())
	}
	return crdt.TakeLost(s.rng.IntN(len(c.Lost)))
}

func tellLeaves(doc *crdt.Document) string {
	text := ""
	for p, v := range doc.Leaves() {
		text += fmt.Sprintf("%q=%v ", string(p), v)
	}
	return text
}
