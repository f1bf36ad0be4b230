// Package docstore lays out one space over an ordered store: its documents, the log, the feed, the digest
// and the vectors. It knows what a local transaction writes, what merging a delta writes and how a delta is
// built, and nothing of goroutines, clocks or the network: package replica calls it, and so does the simulator
// in replicatest.
//
// What one transaction that sets two fields of a small document puts into a batch:
//
//	d space "todo/1"                        the record: checksum, arrival 7, all cells of the document
//	l space replica time "todo/1"           the log: what to send to a peer that lacks this dot
//	f space 7 → "todo/1"                    the feed: what to tell a watcher that has seen 6
//	(and deletes the log entries of dots that the record no longer refers to, and the old feed entry)
//	m space                                 digest, last arrival, number of live documents
//	v space replica                         that replica's times in vv, stable and horizon
//
// The log and the feed are functions of the documents: Verify recomputes and, if asked, rebuilds them. A document of
// more than 4 KiB has its cells in chunks of at most 2 KiB, each with log entries of its own, so that
// setting a field of a large document costs little more than of a small one, and so does sending it.
//
// A Space holds the newest state in memory, what is not durable yet included; an Overlay lets transactions build on
// batches that are still being committed. After a failed commit both are to be thrown away and loaded again.
package docstore
