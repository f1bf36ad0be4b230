// Package store is the contract between the engine and what keeps its bytes: an ordered map with atomic
// batches and consistent snapshots. badgerstore keeps it on disk, memstore in memory, and storetest is the suite
// that both pass. What the keys and values mean is the engine's affair (see docstore).
package store
