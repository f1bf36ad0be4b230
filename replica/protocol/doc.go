// Package protocol is the sync state machine: what two replicas of a space tell each other, and when. It is
// pure. Messages go in, messages and instructions come out; clocks, disks and connections belong to the host, which is
// package replica, and package replicatest in simulations.
//
// Both sides run a Session for each connection and space. Each direction is independent: the sender brings the
// receiver up to itself. A exchange between A, which has written up to a:3, and B, which has a:1 and has itself written b:2:
//
//	A → B  Vectors {a:3}            B → A  Vectors {a:1 b:2}
//	A → B  Delta a (1, 3]           B → A  Delta b (0, 2]
//	        B commits                       A commits
//	B → A  Ack {a:3}                A → B  Ack {b:2}
//	A → B  Level                    B → A  Level      the digests are compared
//	        A writes a:4
//	A → B  Delta a (3, 4]           B → A  Ack {a:4}
//
// What the host must do, in this order:
//
//  1. Call NewSession with what is durable, for each connection anew.
//  2. Call Next and send what it returns, whenever the connection can take more, until it returns nil. So there is no queue
//     that grows with a slow peer: what was not asked for stays in the log.
//  3. Pass each message to Receive, and do what the Step says: merge, then persist, then Advance on all sessions of the
//     space. Never Advance by what is not durable: peers forget nothing that they were told.
//  4. If a delta cannot be merged call Refuse. A delta that was taken and then lost, because the commit failed, cannot be
//     refused any more: the peer takes it for received, so end the session.
//  5. Call RetryHeld every few seconds while Held is not empty.
//  6. Call Tick before Next, and no later than at Due: some things are better said a moment later, or not at all.
//
// A frame that is lost, repeated or comes out of order does no harm beyond a refusal and a repetition, for a receiver takes a
// delta only if it has everything that comes before, and merging one twice changes nothing.
//
// The package does not check what a delta contains, nor whether the peer may send it; docstore and the host do. It does
// not serve a peer that is below the stable vector: that takes a snapshot, as does one that has nothing of a large space.
package protocol
