package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
)

// Values travel to and from clients as the JSON of package crdt, with one addition: many readers of JSON hold integers in a float64, which is
// exact up to 2^53, so an integer beyond that is written
//
//	{"$int":"9007199254740993"}
//
// and a member whose name is $int, after any number of further $, gets one more, as crdt does with $bytes.

// maxExact is the greatest integer up to which every integer has a float64 of its own.
const maxExact = 1<<53 - 1

const (
	intName   = "$int"
	bytesName = "$bytes"
)

// isOrEscapes reports whether name is the special one after any number of further $.
func isOrEscapes(name, special string) bool {
	rest, ok := strings.CutSuffix(name, special)
	return ok && strings.Trim(rest, "$") == ""
}

// appendValue appends a value in the clients' form.
func appendValue(dst []byte, v crdt.Value) []byte {
	switch v.Kind() {
	case crdt.Int, crdt.Counter:
		if n := v.Int(); n > maxExact || n < -maxExact {
			dst = append(dst, `{"`+intName+`":"`...)
			return append(strconv.AppendInt(dst, n, 10), `"}`...)
		}
	case crdt.Array:
		dst = append(dst, '[')
		for i, e := range v.Elements() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(dst, e)
		}
		return append(dst, ']')
	case crdt.Map:
		dst = append(dst, '{')
		for i, m := range v.Members() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendValue(appendName(dst, m.Key), m.Value)
		}
		return append(dst, '}')
	}
	return v.AppendJSON(dst)
}

// appendName appends a member's name and the colon.
func appendName(dst []byte, name string) []byte {
	if isOrEscapes(name, intName) || isOrEscapes(name, bytesName) {
		name = "$" + name
	}
	return append(appendString(dst, name), ':')
}

func appendString(dst []byte, s string) []byte { return crdt.StringValue(s).AppendJSON(dst) }

// appendObject appends the object that the leaves of a document make, which must be in the order of their paths.
func appendObject(dst []byte, leaves iter.Seq2[crdt.PathKey, crdt.Value]) []byte {
	began := false
	var parent crdt.PathKey // of the last leaf: the objects that are open
	var open crdt.Path      // the same
	for p, v := range leaves {
		if p == "" {
			if v.Kind() == crdt.EmptyMap {
				break
			}
			return append(appendValue(append(dst, `{"":`...), v), '}') // a document is an object, as crdt.Document.Value has it
		}
		if !began {
			dst = append(dst, '{')
		}
		if up := p.Parent(); up != parent {
			path, shared := up.Path(), 0
			for shared < min(len(open), len(path)) && open[shared] == path[shared] {
				shared++
			}
			dst = appendClosing(dst, len(open)-shared)
			if began {
				dst = append(dst, ',')
			}
			for _, name := range path[shared:] {
				dst = append(appendName(dst, name), '{')
			}
			parent, open = up, path
		} else if began {
			dst = append(dst, ',')
		}
		dst = appendValue(appendName(dst, p.Last()), v)
		began = true
	}
	if !began {
		return append(dst, "{}"...)
	}
	return appendClosing(dst, len(open)+1)
}

func appendClosing(dst []byte, n int) []byte {
	for range n {
		dst = append(dst, '}')
	}
	return dst
}

// parseValue reads a value in the clients' form as what is to stand at path base. The leaves are sorted by path; the error is that of crdt's
// parser, or errInt.
func parseValue(base crdt.PathKey, text []byte) ([]crdt.Leaf, error) {
	text, err := plainInts(text)
	if err != nil {
		return nil, err
	}
	return crdt.ParseJSONValue(base, text)
}

var errInt = errors.New(`"` + intName + `" must be the only member of its object, and hold the digits of an integer of 64 bits, as they are usually written`)

// plainInts turns the clients' form of JSON into that of package crdt. What is wrong otherwise passes through, for crdt's parser
// to find.
func plainInts(text []byte) ([]byte, error) {
	if !bytes.Contains(text, []byte(intName)) && !bytes.Contains(text, []byte(`\u`)) {
		return text, nil
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		if text[0] != '"' {
			out = append(out, text[0])
			text = text[1:]
			continue
		}
		token := stringToken(text)
		rest := skipSpace(text[len(token):])
		text = text[len(token):]
		if len(rest) == 0 || rest[0] != ':' { // not a name
			out = append(out, token...)
			continue
		}
		v, err := crdt.ParseJSONElement(token)
		name := v.Text()
		switch {
		case err != nil || !isOrEscapes(name, intName):
			out = append(out, token...)
		case name != intName:
			out = appendString(out, name[1:])
		default: // the object that began before it is the integer
			digits, after, err := intDigits(skipSpace(rest[1:]))
			brace := len(bytes.TrimRight(out, " \t\r\n")) - 1
			if err != nil || brace < 0 || out[brace] != '{' {
				return nil, errInt
			}
			out = append(out[:brace], digits...)
			text = after
		}
	}
	return out, nil
}

// intDigits reads the rest of an object after "$int": .
func intDigits(text []byte) (digits string, after []byte, err error) {
	if len(text) == 0 || text[0] != '"' {
		return "", nil, errInt
	}
	token := stringToken(text)
	after = skipSpace(text[len(token):])
	if len(token) < 3 || len(after) == 0 || after[0] != '}' {
		return "", nil, errInt
	}
	digits = string(token[1 : len(token)-1])
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != digits {
		return "", nil, errInt
	}
	return digits, after[1:], nil
}

// stringToken returns the string that text begins with, quotes included; all of text if it has no end.
func stringToken(text []byte) []byte {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i+1]
		}
	}
	return text
}

func skipSpace(text []byte) []byte { return bytes.TrimLeft(text, " \t\r\n") }

// parsePointer reads a JSON pointer.
func parsePointer(text string) (crdt.PathKey, error) {
	p, err := crdt.ParsePath(text)
	if err != nil {
		return "", err
	}
	key, err := p.Pack()
	if err != nil {
		return "", fmt.Errorf("path %.80q: %w", text, err)
	}
	return key, nil
}
