// Package replay runs an edit history (package trace) through real replicas and checks what comes out.
//
// Each replica of the trace becomes a replica.Replica with a store and a transport of its own, and each line becomes
//
//	for each parent that the replica lacks: dial whoever holds its state, wait until it is here, hang up
//	one transaction with the ops, at the time of the line
//	compare what the documents show with the hash that the line names
//
// A sync goes both ways, and brings everything that the other side has at that moment, so who holds the state of a parent must have that
// state and no other. Three kinds of replicas hold one:
//
//   - the replica that wrote the parent, while it has not moved on;
//   - a keeper: before a replica moves on from a commit that a later line still needs, a fresh replica receives its state by
//     a sync, and serves it when the time comes;
//   - a courier: where the two sides of a merge have both moved, the sync would give the holder what it must not
//     have; so a fresh replica fetches the state from the holder, hands it over, and is closed.
//
// In the end all replicas of the trace meet, and must agree in their vectors, digests and documents.
//
// The clock of all replicas stands at the time of the line that is being run. Since that is above everything its
// replica has seen, the dot of the transaction has exactly that time. ReplicaIDs are given in the order of the names in the trace, so that
// of two values with one time the same one shows as in the trace.
//
// Of Badger stores only a few are open at a time. The others are closed, and opened again when they are needed.
package replay
