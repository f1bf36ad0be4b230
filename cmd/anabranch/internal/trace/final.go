package trace

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
)

// maxFinalBytes bounds a file of a final state, which is read whole.
const maxFinalBytes = 1 << 30

// ReadState reads a state from a file, compressed or not: one JSON object with a member for each document.
func ReadState(path string) (State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the final state: %w", err)
	}
	defer f.Close()
	s, err := parseState(f, maxFinalBytes)
	if err != nil {
		return nil, &Error{File: filepath.Base(path), Err: err}
	}
	return s, nil
}

func parseState(in io.Reader, most int64) (State, error) {
	plain, err := decompress(in)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(plain, most+1))
	switch {
	case err != nil:
		return nil, err
	case int64(len(raw)) > most:
		return nil, fmt.Errorf("it is larger than %d bytes", most)
	case !utf8.Valid(raw):
		return nil, errNotUTF8
	}
	s := make(State)
	err = eachMember(raw, func(key string, doc json.RawMessage) error {
		if err := crdt.CheckKey(key); err != nil {
			return err
		}
		if _, ok := s[key]; ok {
			return fmt.Errorf("document %q comes twice", key)
		}
		s[key] = make(Fields)
		if len(doc) == 0 || doc[0] != '{' {
			return fmt.Errorf("document %q: want an object, not %s", key, clip(doc))
		}
		if err := s[key].flatten(nil, doc); err != nil {
			return fmt.Errorf("document %q: %w", key, err)
		}
		return nil
	})
	return s, err
}

var errDeep = errors.New("it is nested too deeply")

// flatten adds the fields of a value that stands at path.
func (f Fields) flatten(path crdt.Path, raw json.RawMessage) error {
	if len(path) > crdt.MaxDepth {
		return errDeep
	}
	if raw[0] != '{' || string(raw) == "{}" {
		at, err := path.Pack()
		if err != nil {
			return err
		}
		v, err := parseLeaf(raw)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if _, ok := f[at]; ok {
			return fmt.Errorf("%s comes twice", path)
		}
		f[at] = v
		return nil
	}
	return eachMember(raw, func(name string, value json.RawMessage) error {
		return f.flatten(append(path[:len(path):len(path)], name), value)
	})
}
