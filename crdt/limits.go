package crdt

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// The limits hold at every door: the local API, import, and each decoder.
const (
	// MaxKeyBytes bounds a document key, so that keys of the store stay small.
	MaxKeyBytes = 1024
	// MaxPathBytes bounds the packed form of a path (its elements, and one byte after each).
	MaxPathBytes = 4096
	// MaxDepth bounds the elements of a path, and the nesting of a value.
	MaxDepth = 64
	// MaxValueBytes bounds the packed form of one value, so that records stay in the LSM tree.
	MaxValueBytes = 512 << 10
	// MaxTransactionBytes bounds the packed form of what one transaction changes; it fits in a frame.
	MaxTransactionBytes = 4 << 20
	// MaxTransactionDocuments bounds the documents of one transaction, so that rewriting their
	// records fits in one commit of the store.
	MaxTransactionDocuments = 4 << 10
	// MaxTransactionFields bounds the fields that one transaction writes or removes: a field may take two bytes packed, and
	// a hundred in memory.
	MaxTransactionFields = 128 << 10
	// MaxDeltaFields bounds the fields of one delta, which may hold many transactions.
	MaxDeltaFields = 512 << 10
)

// ErrLimit is wrapped by every *LimitError.
var ErrLimit = errors.New("limit exceeded")

// LimitError says which limit was exceeded, by what.
type LimitError struct {
	What  string // for example "document key"
	Size  int    // as found
	Limit int    // as allowed
	Unit  string // "bytes", "levels", "documents"
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%s of %d %s is over the limit of %d", e.What, e.Size, e.Unit, e.Limit)
}

func (e *LimitError) Unwrap() error { return ErrLimit }

// ErrKey is wrapped by the errors of CheckKey that are not of size.
var ErrKey = errors.New("invalid document key")

// CheckKey reports whether key may name a document: 1 to MaxKeyBytes bytes of UTF-8.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrKey)
	case len(key) > MaxKeyBytes:
		return &LimitError{What: "document key", Size: len(key), Limit: MaxKeyBytes, Unit: "bytes"}
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: %q is not UTF-8", ErrKey, key)
	}
	return nil
}
