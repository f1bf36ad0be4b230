// Package store is the contract between the engine and what keeps its bytes: an ordered map of byte strings
// with atomic batches and consistent snapshots. badgerstore keeps it on disk, memstore in memory, and storetest is
// the suite that both pass.
//
// One writer, any number of readers:
//
//	var b store.Batch
//	b.Put([]byte("doc/finch"), []byte("v1"))
//	b.Delete([]byte("doc/wren"))
//	if err := s.Commit(&b); err != nil { … }    // both or neither, also after a power cut
//
//	snap, err := s.Snapshot()                   // sees what was committed by now, and stays so
//	defer snap.Close()
//	for e, err := range snap.Scan([]byte("doc/"), []byte("doc0")) { … }
//
// A batch names each key once, by what was said of it last: Put, then Delete, of one key is a Delete. A
// snapshot that is opened while a batch is being committed shows the state before it or, if it was opened after
// Commit returned, the state after it; never a part.
//
// What is not here: range deletes, transactions that read and write (the one writer reads a snapshot or its own
// batch), and what keys and values mean, which is the engine's affair.
package store
