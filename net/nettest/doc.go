// Package nettest holds what tests of transports share.
//
// Run is the suite that every replica.Transport passes: net/memnet and net/quicnet run it, and the engine relies on no behaviour that
// is not in it. Bench measures one. LossyPacketConn makes a bad network of a good one below net/quicnet: packets are
// lost, repeated, reordered and late, from a seed. Journal is a log that a test waits for.
//
//	func TestTransport(t *testing.T) {
//		nettest.Run(t, func(t testing.TB, n int, o nettest.Options) *nettest.Net { … })
//	}
package nettest
