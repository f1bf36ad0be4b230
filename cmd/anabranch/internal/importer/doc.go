// Package importer moves records from a file or pipe into a space, in transactions of its own making.
//
// One goroutine reads and parses while the other commits what has been parsed so far; between them stand at most queueRecords records of queueText together. A
// transaction holds up to Options.Documents documents and maxTransactionText of text. One that turns out to be over a limit of the
// store is halved until it fits or a single document is at fault.
//
// After each transaction the place in the input is kept in a checkpoint, so that the same import, begun again after an
// interruption, goes on there. A checkpoint knows its input by the bytes and not by a name: the hash of the beginning finds it, and
// the hash of everything up to the place must match again, whether the input is a file or comes through a pipe. It is
// written after the transaction is durable and not synced itself: at worst some records are imported twice, which
// changes nothing.
package importer
