package docstore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Keys of the store as a whole that are about spaces which are gone.
const (
	kindDropped  = 'D' // name → nothing: the space was removed here, and is not kept again because a peer offers it
	kindRemoving = 'R' // number → nothing: what is left of a removed space is being deleted
)

// storeKinds are the kinds of keys that belong to the store as a whole. Every other kind is followed by the number of a space, and goes with it.
var storeKinds = []byte{kindSpaceName, kindIdentity, kindPeer, kindDropped, kindRemoving}

// BeginRemoval takes a space out of the table of spaces. What it holds is deleted by RemoveStep, also after a crash. drop says that
// the name is to be remembered as Dropped.
func BeginRemoval(b *store.Batch, name string, number uint32, drop bool) {
	b.Delete(append([]byte{kindSpaceName}, name...))
	if drop {
		b.Put(append([]byte{kindDropped}, name...), nil)
	}
	b.Put(removingKey(number), nil)
}

func removingKey(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{kindRemoving}, number)
}

// ForgetDropped lets a space of that name be kept again.
func ForgetDropped(b *store.Batch, name string) { b.Delete(append([]byte{kindDropped}, name...)) }

// Dropped returns the names of spaces that were removed and are not to be kept again.
func Dropped(r store.Snapshot) (map[string]struct{}, error) {
	names := make(map[string]struct{})
	for k, err := range r.Keys([]byte{kindDropped}, after([]byte{kindDropped})) {
		if err != nil {
			return nil, fmt.Errorf("read the names of removed spaces: %w", err)
		}
		names[string(k[1:])] = struct{}{}
	}
	return names, nil
}

// Removing returns the numbers of the spaces whose removal was begun and not ended.
func Removing(r store.Snapshot) ([]uint32, error) {
	var numbers []uint32
	for k, err := range r.Keys([]byte{kindRemoving}, after([]byte{kindRemoving})) {
		if err != nil {
			return nil, fmt.Errorf("read the removals in progress: %w", err)
		}
		if len(k) != 5 {
			return nil, fmt.Errorf("%w: removal %q", ErrCorrupt, k)
		}
		numbers = append(numbers, binary.BigEndian.Uint32(k[1:]))
	}
	return numbers, nil
}

// RemoveStep adds to b the deletion of at most limit keys of a space whose removal was begun, and reports whether that was all: then
// the removal has ended with b.
func RemoveStep(r store.Snapshot, b *store.Batch, number uint32, limit int) (done bool, err error) {
	done = true
	err = keysOf(r, number, func(k []byte) bool {
		if limit == 0 {
			done = false
			return false
		}
		limit--
		b.Delete(k)
		return true
	})
	if err != nil {
		return false, fmt.Errorf("remove space %d: %w", number, err)
	}
	if done {
		b.Delete(removingKey(number))
	}
	return done, nil
}

// UnusedNumber returns the first number, from the given one on, under which nothing is stored: a write that was on its way when its space was
// removed may have left something.
func UnusedNumber(r store.Snapshot, number uint32) (uint32, error) {
	for ; ; number++ {
		used := false
		err := keysOf(r, number, func([]byte) bool { used = true; return false })
		if err != nil {
			return 0, fmt.Errorf("look for a number of a space: %w", err)
		}
		if !used {
			return number, nil
		}
	}
}

// keysOf calls each with the keys of a space, in their order, until that returns false.
func keysOf(r store.Snapshot, number uint32, each func(key []byte) bool) error {
	for kind := range 256 {
		if slices.Contains(storeKinds, byte(kind)) {
			continue
		}
		prefix := spaceKey(byte(kind), number, 0)
		for k, err := range r.Keys(prefix, after(prefix)) {
			if err != nil {
				return err
			}
			if !each(k) {
				return nil
			}
		}
	}
	return nil
}
