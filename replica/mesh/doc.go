// Package mesh decides which of the nodes that it has heard of a node should be connected with, so that all are connected over few
// connections each. It is pure: what happens and what time it is come as arguments, what to do is returned.
//
// A Book holds where nodes can be reached, by whom that was said, and when it last worked. Addresses are claims: who answers at one
// is proven when it is dialled, so a lie costs a dial. Books are exchanged: News says what a peer should hear of.
//
// Plan chooses. Think of all peer IDs on a circle. Each node keeps connected
//
//   - with its nearest neighbours on the circle among the nodes known to be alive, on both sides; and
//   - with some others, chosen at random, until it has Degree connections.
//
// The first makes the graph connected: a closed circle is. Say that A, C and F are connected through a common node B, which
// they were started with:
//
//	A -- B -- C        B has told all of all. A's neighbours on the circle are B and F, so A dials F; C's are B and F, so C
//	     |             dials F too. Now B may go away: A's neighbours are then C and F, and the circle A-C-F closes.
//	     F
//
// The second makes ways short: a random graph of that degree has a diameter of about log n, where a circle alone has n/2.
//
// A node that has more than Max connections gives some up, and only such as are not needed: neither neighbours on the circle, nor ones
// that it was told to keep, nor with nodes that have few others. So a star whose leaves cannot reach each other stays a star.
//
// What it does not do: dial, wait, or judge who may know of whom. Package replica does.
package mesh
