// Package crdttest makes histories that replicas can really have, and checks merging against its definition.
//
// The laws of merging hold for states that histories reach, not for arbitrary ones, so tests do not invent cells. They
// run a History: some replicas write, remove and count in one document, and meet in every way that replicas can: whole
// documents, single cells, snapshots, always packed and parsed on the way; and what is stable is pruned.
//
//	h := crdttest.NewHistory(crdttest.Rapid(t), crdttest.Config{})
//	h.Run(20)
//	if err := h.Check(); err != nil { ... } // each replica shows what the definition says
//
// The definition does not merge at all. A History keeps each transaction with the exact entries that it wrote and that it
// removed or replaced, having seen them. An entry is live at a replica, by definition, if its transaction is known there
// and no known transaction removed or replaced it. Suppose that A writes x (transaction 1), B sees it and removes it (2), and A, which
// has not seen that, writes y (3): when they have met, 1, 2 and 3 are known, 2 removed the entry of 1, 3 replaced it, and nobody
// removed that of 3. So y is live and nothing else, whatever Merge may say.
//
// Laws are the algebraic laws by name, for the states of a history. TestLaws runs them all. Package replicatest does the same
// for whole replicas with a real protocol between them; this one has no keys, frames, logs or storage.
package crdttest
