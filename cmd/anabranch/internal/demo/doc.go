// Package demo shows in a few seconds what Anabranch does: three real nodes with stores on disk and QUIC between them, a
// network that fails, edits meanwhile, and what becomes of them.
//
//	oslo ── lima          each writes alone          oslo ── lima
//	   \   /       cut    oslo    lima      heal        \   /
//	  nairobi                and nairobi           with nairobi
//
// The nodes are those of package replica with default settings: each commit is synced to disk, each node has an
// identity of its own and admits the other two by their peer IDs. What is special is their socket (cable), which loses
// every packet while it is cut, as a pulled plug does: nobody is told, and the connections are not closed.
//
// Run does it, one Stage after the other, and fills in a Report; a Printer shows a stage of it to people. RunWeb is another demonstration:
// two of the nodes with a gateway each, for browsers.
package demo
