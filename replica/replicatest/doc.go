// Package replicatest drives whole replicas through random histories and compares them with an oracle at each
// step. A run is deterministic: one goroutine, a simulated clock and network, stores in memory, and every choice
// drawn from the seed, so a seed that fails once fails each time.
//
// What is real in a run is package docstore (transactions, merging, building deltas, the log, the feed, the digest) and
// package protocol (sessions). Its nodes stand in for package replica, in its shape but in steps: transactions and merged deltas
// wait in a group; the group is committed as one batch, later; only then do sessions learn of it and peers get
// acknowledgements. A random step is one of:
//
//	a transaction, a group handed to the disk, a commit that ends, a frame sent, a frame delivered;
//	a link made or broken, a partition; a frame lost, repeated, out of order, or from an earlier session;
//	a crash before a commit has ended, or after it and before anybody was told; a commit that fails;
//	an old backup restored; a clock set wrong; a node that joins late;
//	members told of, or one evicted; stable raised; a step of pruning;
//	a client that reads at its home, writes into its queue, gives that to its home, hears of it or not, or moves;
//	a client that follows its home by the vector that it had elsewhere, or by the feed of a home that has less.
//
// The oracle keeps, for each transaction, what it wrote and exactly which entries its author had seen and removed or
// replaced, by its own reading of the rules: an entry is live iff it was written and no transaction that had seen
// it removed or replaced it. Beside every replica it keeps for each cell the set of transactions which that
// state includes; it knows because it goes along with every delta, cell by cell. So at each step, closed or not, a
// replica is compared with what the definition says of its very state:
//
//	node A  Set name=x     (t1)                    A: name has t1, shows x
//	node B  Remove name    (t2, having seen t1)    B: name has t1 t2, shows nothing
//	node C  Set name=y     (t3, having seen t1)    C: name has t1 t3, shows y
//	B's delta reaches C                            C: name has t1 t2 t3, shows y: t2 had not seen t3
//
// A client's transaction has seen what the client had read when it wrote it, which is listed with its dots and known to the oracle by the
// transactions themselves. Its home makes it once, under the first lane that will do.
//
// Also checked: stable ≤ vv ≤ horizon; a closed replica equals the oracle restricted to the transactions in its vv; nothing is
// said or sent that is not on disk; what is acknowledged is on the acknowledging disk; nothing that was
// lost from memory turns up elsewhere; no ReplicaID is written under after a backup was restored under it; and, once healed,
// that everybody is level and equal, that Verify finds no fault, and that no durable transaction is gone, unless the only
// store that had it was put back to an older backup.
//
// When all are level, replicas tell each other of members until everything is stable for all, and prune: then no removed field, no
// deleted document and no log key may be left.
//
// Not simulated: joining by snapshot, the bytes of the wire, goroutines. The tests of packages
// replica and net run those.
package replicatest
