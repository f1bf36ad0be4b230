package gateway

import (
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
)

// filter says which documents a subscription is for. The zero filter is for all.
type filter struct {
	prefix string
	keys   []string // sorted; nil: every one with the prefix
}

// newFilter returns the filter of what a client asked for. With some it is for those keys only, else for the prefix.
func newFilter(prefix string, keys []string, some bool) (filter, error) {
	if len(prefix) > crdt.MaxKeyBytes {
		return filter{}, badMessage("prefix has %d bytes, more than %d", len(prefix), crdt.MaxKeyBytes)
	}
	if !some {
		return filter{prefix: prefix}, nil
	}
	if prefix != "" {
		return filter{}, badMessage("give either prefix or keys")
	}
	if len(keys) == 0 || len(keys) > maxFollowedKeys {
		return filter{}, badMessage("keys must be 1 to %d", maxFollowedKeys)
	}
	for _, k := range keys {
		if err := crdt.CheckKey(k); err != nil {
			return filter{}, err
		}
	}
	keys = slices.Clone(keys)
	slices.Sort(keys)
	return filter{keys: slices.Compact(keys)}, nil
}

func (f *filter) all() bool { return f.prefix == "" && f.keys == nil }

func (f *filter) match(key string) bool {
	if f.keys == nil {
		return strings.HasPrefix(key, f.prefix)
	}
	_, ok := slices.BinarySearch(f.keys, key)
	return ok
}
