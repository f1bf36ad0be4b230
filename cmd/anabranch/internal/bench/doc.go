// Package bench measures two nodes, each a process of its own, that exchange documents over QUIC on the loopback interface,
// beside an ideal that does the same work for store and network and nothing else.
//
//	       bench (driver)
//	      /  JSON lines  \
//	node A  ~~~ QUIC ~~~  node B       ours:  package replica
//	node A' ~~~ QUIC ~~~  node B'      ideal: Badger, a QUIC stream and a small codec
//
// Figures of one machine drift by up to two times with what else it does. So ours and the ideal run alternately, pair by
// pair, and what is judged is the median of the ratios within pairs, except where performance is promised in
// absolute terms (bytes, memory, milliseconds).
//
// A worked example: W1 with 100,000 documents. Node A is loaded, a fresh node B dials it, and the clock runs from the dial
// until A knows that B holds the last document durably. Meanwhile both processes count their CPU time and the bytes of
// the connection; in the end both stores are closed and their files measured.
//
// The ideal has no CRDT meaning: a document is replaced whole by whatever comes, there is one log for each node, and no
// digest. It gets the document before each write, writes document, log and feed entries, walks the log to send, and
// syncs as ours does. It is not a replication engine, and nothing but this package uses it.
package bench
