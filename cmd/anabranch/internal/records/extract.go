package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
)

type member struct {
	name  string
	value []byte
}

// members yields the members of the object that b is, in order. What is inside the values is not checked.
func members(b []byte) iter.Seq2[member, error] {
	return func(yield func(member, error) bool) {
		r := &Reader{s: scanBytes(b), format: Object}
		for {
			rec, err := r.Next()
			if err == io.EOF || !yield(member{rec.Key, rec.Bytes}, err) || err != nil {
				return
			}
		}
	}
}

// exportParts returns the texts of the members "key" and "doc", nil where there is none, and whether there
// is any other member (or one of the two twice, or the object is broken).
func exportParts(object []byte) (key, doc []byte, other bool) {
	for m, err := range members(object) {
		switch {
		case err == nil && m.name == "key" && key == nil:
			key = m.value
		case err == nil && m.name == "doc" && doc == nil:
			doc = m.value
		default:
			return key, doc, true
		}
	}
	return key, doc, false
}

// ErrNoKey says that a record names no key.
var ErrNoKey = errors.New(`no key: want {"key":"…","doc":{…}}, or documents that hold their key in a field named with --key`)

// Extract returns the key and the text of the document of a record that is {"key":…,"doc":…}. ok is false if
// it has another form, so that the key may be in a field of the document itself. The text shares rec's memory.
func Extract(rec Record) (key string, doc []byte, ok bool, err error) {
	if len(rec.Bytes) == 0 || rec.Bytes[0] != '{' {
		return "", nil, false, fmt.Errorf("%.40q is not an object", rec.Bytes)
	}
	rawKey, doc, other := exportParts(rec.Bytes)
	if rawKey == nil || doc == nil || other || rawKey[0] != '"' || doc[0] != '{' {
		return "", nil, false, nil
	}
	key, err = unquote(rawKey)
	return key, doc, true, err
}

var (
	errNotUTF8   = errors.New("text is not UTF-8")
	errSurrogate = errors.New(`text holds half of a surrogate pair (\ud800 to \udfff)`)
)

// unquote reads a JSON string. Unlike encoding/json it refuses what is not Unicode instead of putting a
// replacement character there: two different keys must not become one.
func unquote(quoted []byte) (string, error) {
	if !utf8.Valid(quoted) {
		return "", errNotUTF8
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", err
	}
	replacement := []byte("\uFFFD")
	written := bytes.Count(quoted, replacement) + bytes.Count(bytes.ToLower(quoted), []byte(`\ufffd`))
	if bytes.Count([]byte(s), replacement) > written {
		return "", errSurrogate
	}
	return s, nil
}
