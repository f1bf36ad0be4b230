package trace

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"iter"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

const hashBytes = 16 // hex digits of a state hash

func isHash(s string) bool {
	if len(s) != hashBytes {
		return false
	}
	for i := range len(s) {
		if (s[i] < '0' || s[i] > '9') && (s[i] < 'a' || s[i] > 'f') {
			return false
		}
	}
	return true
}

// HashDocument returns the hash of what a document shows: SHA-256 in hex over a line for each field, sorted bytewise, with
// the JSON pointer of its path, a tab and its value as JSON.
func HashDocument(fields iter.Seq2[crdt.PathKey, crdt.Value]) string {
	var lines []string
	var b []byte
	for p, v := range fields {
		b = append(append(b[:0], p.String()...), '\t')
		b = append(v.AppendJSON(b), '\n')
		lines = append(lines, string(b))
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, l := range lines {
		h.Write([]byte(l))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Hash computes the hash of a state from its documents: SHA-256 over a line for each, with its key, a tab and its
// HashDocument; the first 16 hex digits. Documents have to be added in the bytewise order of their keys.
type Hash struct{ h hash.Hash }

// NewHash returns the hash of the empty state.
func NewHash() Hash { return Hash{sha256.New()} }

// Add adds a document.
func (s Hash) Add(key, document string) {
	s.h.Write([]byte(key + "\t" + document + "\n"))
}

// String returns the hash of what was added.
func (s Hash) String() string { return hex.EncodeToString(s.h.Sum(nil))[:hashBytes] }

// State is what documents show: the value of each field of each.
type State map[string]Fields

// Fields is what one document shows.
type Fields map[crdt.PathKey]crdt.Value

// Hash returns the hash of the state.
func (s State) Hash() string {
	h := NewHash()
	for _, key := range slices.Sorted(maps.Keys(s)) {
		h.Add(key, HashDocument(maps.All(s[key])))
	}
	return h.String()
}
