// Package memnet is a network of nodes in one process, for tests. Its transports keep the promises that net/quicnet keeps
// (net/nettest holds both to them) and marshal by net/wire, but touch no socket, and timers only when told to delay or to
// cut: so it runs inside a testing/synctest bubble, in virtual time.
//
//	network := memnet.New(1)
//	a, b := network.Node("a"), network.Node("b")      // replica.Transports, at "mem:a" and "mem:b"
//	conn, err := a.Dial(ctx, "mem:b", b.Self())       // b.Accept returns the other end
//	network.Cut(a.Self(), b.Self())                   // packets vanish: nothing is delivered, Dial times out
//	network.Heal()                                    // what was under way arrives, unless IdleTimeout passed
//	network.Break(a.Self(), b.Self())                 // connections end at once, with all that was under way
//
// Faults make connections break after a random number of frames and delay what they carry. The draws depend on the seed, the two
// nodes and the number of the connection between them, not on the order in which goroutines run; which frames were
// under way does depend on it.
//
// It proves no identity: a node is who its test says it is.
package memnet
