// Package replica is the engine that programs embed: a full local copy of each space, transactions with
// no network, and the exchange of deltas with any peer that can be reached.
//
//	r, err := replica.Open(replica.Config{Dir: dir})
//	notes, err := r.Space("notes")
//	receipt, err := notes.Update(ctx, func(tx *replica.Tx) error {
//		doc := tx.Doc("todo/1")
//		doc.Set(crdt.Path{"title"}, "milk")
//		doc.Increment(crdt.Path{"views"}, 1)
//		return nil // an error rolls all of it back
//	})
//	doc, err := notes.Get(ctx, "todo/1")
//	err = notes.WaitSynced(ctx, receipt, 2) // two other nodes hold it durably
//
// # What happens in what order
//
// Everything that changes a space goes through one lock and one committer. A transaction, or a delta from a peer, is
// applied to the newest state in memory and put into a group; the committer commits one group after the
// other, so that all that waits together shares one sync of the disk. When a group is durable, and not before,
// it is sent to peers and acknowledged to them, and then watchers are told: persist, send, notify.
//
// Each session with a peer has two goroutines. One reads frames, merges them and goes on without waiting for the disk; the
// other asks the state machine of package protocol what to say next whenever the connection can take more. A
// slow peer therefore holds no queue: what it lacks stays in the log on disk, and the newest deltas, encoded once,
// in a bounded cache that all sessions share.
//
// # What it does not do
//
// It encrypts nothing at rest, checks no content, and decides no conflict: concurrent values of a field all stay readable
// (crdt.Document.Conflicts) until somebody who has seen them writes the field again. It knows no addresses but those
// it is given, and leaves the proof of identities to the Transport (net/quicnet).
//
// Read next: package crdt for the data model, docstore for what is on disk, protocol for what peers say.
package replica
