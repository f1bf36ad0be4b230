package docstore

import (
	"iter"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/replica/store"
)

// documents yields the keys of the stored documents at or after start, those of the batches included, in their order. A key
// may be of a document that is gone by now. Nothing may be written into the batch meanwhile.
func (o *Overlay) documents(space uint32, start string) iter.Seq2[string, error] {
	prefix := string(spaceKey(kindDocument, space, 0))
	var pending []string
	for _, b := range append([]*store.Batch{o.Batch}, o.InFlight...) {
		for k, op := range b.All() {
			if !op.Delete && strings.HasPrefix(k, prefix) && k[len(prefix):] >= start {
				pending = append(pending, k[len(prefix):])
			}
		}
	}
	slices.Sort(pending)
	pending = slices.Compact(pending)
	return func(yield func(string, error) bool) {
		rest := pending
		for k, err := range o.Snapshot.Keys(documentKey(space, start), after([]byte(prefix))) {
			if err != nil {
				yield("", err)
				return
			}
			key := string(k[len(prefix):])
			for len(rest) > 0 && rest[0] < key {
				if !yield(rest[0], nil) {
					return
				}
				rest = rest[1:]
			}
			if len(rest) > 0 && rest[0] == key {
				rest = rest[1:]
			}
			if !yield(key, nil) {
				return
			}
		}
		for _, key := range rest {
			if !yield(key, nil) {
				return
			}
		}
	}
}
