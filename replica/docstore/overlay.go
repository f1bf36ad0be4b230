package docstore

import "github.com/anabranch-db/anabranch/replica/store"

// Reader gives the newest value of a key.
type Reader interface {
	Get(key []byte) (value []byte, ok bool, err error)
}

// Overlay reads through batches that are not committed yet to a snapshot, and writes into the newest of the
// batches. So transactions can build on each other before the first is durable, and be committed together.
type Overlay struct {
	Batch    *store.Batch   // takes the writes
	InFlight []*store.Batch // being committed, newest first
	Snapshot store.Snapshot
}

// Get returns what the newest batch that knows the key says of it, else what the snapshot does.
func (o *Overlay) Get(key []byte) ([]byte, bool, error) {
	if v, ok, known := o.Batch.Get(key); known {
		return v, ok, nil
	}
	for _, b := range o.InFlight {
		if v, ok, known := b.Get(key); known {
			return v, ok, nil
		}
	}
	return o.Snapshot.Get(key)
}
