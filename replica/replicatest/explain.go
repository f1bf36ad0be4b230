package replicatest

import "fmt"

// explain writes what the replicas know of a cell, by the account and in fact: for each transaction that touched it, at each node, s
// for sure, l for lent and v for vague; + if the node's vv covers it, and ! if its stable vector does.
func (s *simulation) explain(space, id int) {
	o := s.oracles[space]
	for _, h := range o.touching[id] {
		dot := o.txs[h.tx].dot
		line := fmt.Sprintf("  tx %d %s writes %v kills %v:", h.tx, dot, h.effect.writes, h.effect.kills)
		for _, n := range s.nodes {
			r := n.replicas[space]
			k := r.now.of(id)
			line += fmt.Sprintf(" %d:", n.index)
			for _, m := range []struct {
				is   bool
				mark string
			}{
				{k.sure.has(h.tx), "s"}, {k.lent.has(h.tx), "l"}, {k.vague.has(h.tx), "v"},
				{r.state.VV().Covers(dot), "+"}, {r.state.Stable().Covers(dot), "!"},
			} {
				if m.is {
					line += m.mark
				}
			}
		}
		s.tracef("%s", line)
	}
	for _, n := range s.nodes {
		over := n.overlay()
		s.tracef("  node %d has %v live; its mark is %+v", n.index, n.replicas[space].liveNow(over, id), n.replicas[space].state.Rejoining())
		over.Snapshot.Close()
	}
}
