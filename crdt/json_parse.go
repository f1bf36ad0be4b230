package crdt

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ErrJSON is wrapped by every *JSONError that is not about a limit or a value.
var ErrJSON = errors.New("invalid JSON")

// JSONError says where a JSON text is wrong. Err wraps ErrJSON, ErrLimit, ErrValue or ErrPath.
type JSONError struct {
	Line    int    // from 1
	Offset  int    // in bytes from the start of the text
	Pointer string // JSON pointer to the value, as far as it was known; elements of arrays are counted from 0
	Err     error
}

func (e *JSONError) Error() string {
	return fmt.Sprintf("line %d, byte %d, at %.120q: %v", e.Line, e.Offset, e.Pointer, e.Err)
}

func (e *JSONError) Unwrap() error { return e.Err }

// ParseJSON reads a document, which must be an object, and returns its fields sorted by path. It is exact, or it refuses:
//
//   - A number without fraction and exponent is an integer and must be within int64; -0 is 0.
//   - Any other number is the float64 nearest to it, as in every language that reads 0.1. One that is too large for a float64,
//     or not zero and so small that it would become zero, is refused. A float that is whole stays a float: 1.0 is not 1.
//   - An object {"$bytes": "<base64>"} is binary data. A member whose name is $bytes after one or more further $ loses one of them.
//   - Names that occur twice in one object, lone surrogates, text that is not UTF-8 and anything after the end are refused.
//
// MarshalJSON writes what ParseJSON reads back without loss. Errors are of type *JSONError.
func ParseJSON(b []byte) ([]Leaf, error) {
	if start := bytes.TrimLeft(b, " \t\r\n"); len(start) > 0 && start[0] != '{' {
		p := jsonParser{text: b, at: len(b) - len(start)}
		return nil, p.locate(fmt.Errorf("%w: a document must be an object, that is, begin with {", ErrJSON))
	}
	leaves, err := ParseJSONValue("", b)
	if err == nil && len(leaves) == 1 && leaves[0].Path == "" && leaves[0].Value.kind != EmptyMap {
		p := jsonParser{text: b}
		return nil, p.locate(fmt.Errorf("%w: a document must be an object, and {\"$bytes\": ...} stands for binary data", ErrJSON))
	}
	return leaves, err
}

// ParseJSONValue reads any JSON value as what is to stand at path base, and returns the fields there and below. The rules are those
// of ParseJSON.
func ParseJSONValue(base PathKey, b []byte) ([]Leaf, error) {
	p := jsonParser{text: b, path: []byte(base), levels: strings.Count(string(base), "\x00")}
	p.leaves = make([]Leaf, 0, 8)
	p.steps = make([]step, 0, p.levels+4)
	for _, e := range base.Path() {
		p.steps = append(p.steps, step{name: e})
	}
	err := p.field()
	if err == nil {
		if p.space(); p.at < len(p.text) {
			err = p.syntax("there is more after the end of the value")
		}
	}
	if err != nil {
		return nil, p.locate(err)
	}
	byPath := func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) }
	if !slices.IsSortedFunc(p.leaves, byPath) {
		slices.SortFunc(p.leaves, byPath)
	}
	return p.leaves, nil
}

// ParseJSONElement reads any JSON value as one value; an object is a map, which can stand in an array only. The rules are
// those of ParseJSON.
func ParseJSONElement(b []byte) (Value, error) {
	p := jsonParser{text: b}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.at < len(p.text) {
			err = p.syntax("there is more after the end of the value")
		}
	}
	if err != nil {
		return Value{}, p.locate(err)
	}
	return v, nil
}

// step is one level of what is being read, for error messages.
type step struct {
	name  string
	index int // of an array's element
	array bool
}

type jsonParser struct {
	text   []byte
	at     int
	path   []byte // packed path of the field that is being read
	levels int    // elements of path
	leaves []Leaf
	steps  []step
}

func (p *jsonParser) syntax(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrJSON}, args...)...)
}

// atError is an error at a place before the one where it is found.
type atError struct {
	at int
	error
}

func (e atError) Unwrap() error { return e.error }

func (p *jsonParser) locate(err error) error {
	at := min(p.at, len(p.text))
	if e := (atError{}); errors.As(err, &e) {
		at, err = e.at, e.error
	}
	var pointer strings.Builder
	for _, s := range p.steps {
		if s.array {
			pointer.WriteByte('/')
			pointer.WriteString(strconv.Itoa(s.index))
		} else {
			pointer.WriteString(Path{s.name}.String())
		}
	}
	return &JSONError{Line: 1 + bytes.Count(p.text[:at], []byte("\n")), Offset: at, Pointer: pointer.String(), Err: err}
}

func (p *jsonParser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\r', '\n':
			p.at++
		default:
			return
		}
	}
}

// next returns the next byte that is not white space, without taking it; 0 at the end.
func (p *jsonParser) next() byte {
	if p.space(); p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *jsonParser) unexpected(wanted string) error {
	if p.at >= len(p.text) {
		return p.syntax("it ends where %s should stand", wanted)
	}
	r, _ := utf8.DecodeRune(p.text[p.at:])
	return p.syntax("%q stands where %s should", r, wanted)
}

// field reads the value at p.path into leaves.
func (p *jsonParser) field() error {
	if p.next() != '{' {
		return p.leaf()
	}
	start := p.at
	binary := p.isBytes()
	p.at = start
	if binary {
		return p.leaf()
	}
	members := 0
	err := p.members(func() error { members++; return p.member() })
	if err == nil && members == 0 {
		p.leaves = append(p.leaves, Leaf{PathKey(p.path), EmptyMapValue()})
	}
	return err
}

// member reads the value of the member whose name is the last step.
func (p *jsonParser) member() error {
	outer := len(p.path)
	p.path = appendElement(p.path, p.steps[len(p.steps)-1].name)
	p.levels++
	switch {
	case p.levels > MaxDepth:
		return &LimitError{What: "path", Size: p.levels, Limit: MaxDepth, Unit: "levels"}
	case len(p.path) > MaxPathBytes:
		return &LimitError{What: "path", Size: len(p.path), Limit: MaxPathBytes, Unit: "bytes"}
	}
	if err := p.field(); err != nil {
		return err
	}
	p.path = p.path[:outer]
	p.levels--
	return nil
}

func (p *jsonParser) leaf() error {
	v, err := p.value(0)
	if err != nil {
		return err
	}
	if size := v.PackedSize(); size > MaxValueBytes {
		return &LimitError{What: "value", Size: size, Limit: MaxValueBytes, Unit: "bytes"}
	}
	p.leaves = append(p.leaves, Leaf{PathKey(p.path), v})
	return nil
}

// members reads an object. It calls value for each member, with its name as the last step.
func (p *jsonParser) members(value func() error) error {
	type seen struct {
		name string
		at   int
	}
	names := make([]seen, 0, 8)
	sorted := true
	p.at++ // the brace
	p.steps = append(p.steps, step{})
	for p.next() != '}' || len(names) > 0 {
		at := p.at
		name, err := p.name()
		if err != nil {
			return err
		}
		p.steps[len(p.steps)-1].name = name
		if n := len(names); n > 0 && names[n-1].name >= name {
			sorted = false
		}
		names = append(names, seen{name, at})
		if err := value(); err != nil {
			return err
		}
		if c := p.next(); c == ',' {
			p.at++
			p.space()
		} else if c == '}' {
			break
		} else {
			return p.unexpected("a comma or }")
		}
	}
	p.at++
	if !sorted { // else there can be no duplicate
		slices.SortStableFunc(names, func(a, b seen) int { return cmp.Or(cmp.Compare(a.name, b.name), a.at-b.at) })
		for i := 1; i < len(names); i++ {
			if names[i].name == names[i-1].name {
				p.steps[len(p.steps)-1].name = names[i].name
				return atError{names[i].at, p.syntax("the name %.80q occurs twice in one object", names[i].name)}
			}
		}
	}
	p.steps = p.steps[:len(p.steps)-1]
	return nil
}

// name reads a member's name and the colon.
func (p *jsonParser) name() (string, error) {
	if p.next() != '"' {
		return "", p.unexpected("a name in quotes")
	}
	at := p.at
	name, err := p.string()
	if err != nil {
		return "", err
	}
	if name == bytesName {
		return "", atError{at, p.syntax("%q must be the only member of its object and hold base64; a member of this name is written %q", bytesName, "$"+bytesName)}
	}
	if isEscapedName(name) {
		name = name[1:]
	}
	if p.next() != ':' {
		return "", p.unexpected("a colon")
	}
	p.at++
	return name, nil
}

// bytesName is the name of the one member of an object that stands for binary data.
const bytesName = "$bytes"

// isEscapedName reports whether name is $bytes after further $.
func isEscapedName(name string) bool {
	return strings.HasSuffix(name, bytesName) && strings.Trim(name[:len(name)-len(bytesName)], "$") == "" && len(name) > len(bytesName)
}

// isBytes reports whether an object that is about to be read begins with the member $bytes. It leaves p.at anywhere.
func (p *jsonParser) isBytes() bool {
	p.at++
	if p.next() != '"' {
		return false
	}
	name, err := p.string()
	return err == nil && name == bytesName
}

// bytes reads the rest of an object of which isBytes has read the name.
func (p *jsonParser) bytes() (Value, error) {
	if p.next() != ':' {
		return Value{}, p.unexpected("a colon")
	}
	p.at++
	if p.next() != '"' {
		return Value{}, p.unexpected("base64 in quotes")
	}
	at := p.at
	text, err := p.string()
	if err != nil {
		return Value{}, err
	}
	data, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || base64.StdEncoding.EncodedLen(len(data)) != len(text) {
		return Value{}, atError{at, p.syntax("%q must hold standard base64 with padding", bytesName)}
	}
	if p.next() != '}' {
		return Value{}, p.unexpected("} after the only member " + bytesName)
	}
	p.at++
	return Value{kind: Bytes, text: string(data)}, nil
}

// value reads a value that lies inside depth arrays and maps.
func (p *jsonParser) value(depth int) (Value, error) {
	switch c := p.next(); {
	case c == '"':
		s, err := p.string()
		return StringValue(s), err
	case c == '[':
		return p.array(depth + 1)
	case c == '{':
		start := p.at
		if p.isBytes() {
			return p.bytes()
		}
		p.at = start
		return p.object(depth + 1)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, w := range []struct {
		word string
		v    Value
	}{{"null", Value{}}, {"true", BoolValue(true)}, {"false", BoolValue(false)}} {
		if bytes.HasPrefix(p.text[p.at:], []byte(w.word)) {
			p.at += len(w.word)
			return w.v, nil
		}
	}
	return Value{}, p.unexpected("a value")
}

func (p *jsonParser) array(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, &LimitError{What: "value", Size: depth, Limit: MaxDepth, Unit: "levels"}
	}
	var elements []Value
	p.at++ // the bracket
	p.steps = append(p.steps, step{array: true})
	for p.next() != ']' || len(elements) > 0 {
		p.steps[len(p.steps)-1].index = len(elements)
		v, err := p.value(depth)
		if err != nil {
			return v, err
		}
		elements = append(elements, v)
		if c := p.next(); c == ',' {
			p.at++
			p.space()
		} else if c == ']' {
			break
		} else {
			return v, p.unexpected("a comma or ]")
		}
	}
	p.at++
	p.steps = p.steps[:len(p.steps)-1]
	return ArrayValue(elements...), nil
}

func (p *jsonParser) object(depth int) (Value, error) {
	if depth > MaxDepth {
		return Value{}, &LimitError{What: "value", Size: depth, Limit: MaxDepth, Unit: "levels"}
	}
	var members []Member
	err := p.members(func() error {
		v, err := p.value(depth)
		members = append(members, Member{p.steps[len(p.steps)-1].name, v})
		return err
	})
	if err != nil {
		return Value{}, err
	}
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.Key, b.Key) })
	return MapValue(members...), nil
}

func (p *jsonParser) number() (Value, error) {
	start := p.at
	whole := true
	if p.peek() == '-' {
		p.at++
	}
	switch c := p.peek(); {
	case c == '0':
		p.at++
		if c := p.peek(); c >= '0' && c <= '9' {
			return Value{}, p.syntax("a number begins with 0")
		}
	case !p.digits():
		return Value{}, p.unexpected("a digit")
	}
	if p.peek() == '.' {
		p.at++
		if whole = false; !p.digits() {
			return Value{}, p.unexpected("a digit")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if whole = false; !p.digits() {
			return Value{}, p.unexpected("a digit")
		}
	}
	v, err := parseNumber(string(p.text[start:p.at]), whole)
	if err != nil {
		err = atError{start, err}
	}
	return v, err
}

func (p *jsonParser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *jsonParser) digits() bool {
	start := p.at
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.at++
	}
	return p.at > start
}

// parseNumber returns the value of a JSON number; whole says that it has neither fraction nor exponent.
func parseNumber(s string, whole bool) (Value, error) {
	if whole {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return Value{}, fmt.Errorf("%w: integer %.40s is beyond 64 bits (%d to %d): write it as a string, or with a fraction to store the nearest float",
				ErrValue, s, math.MinInt64, math.MaxInt64)
		}
		return IntValue(n), nil
	}
	f, err := strconv.ParseFloat(s, 64)
	mantissa, _, _ := strings.Cut(strings.ToLower(s), "e")
	if err != nil || f == 0 && strings.Trim(mantissa, "-0.") != "" {
		return Value{}, fmt.Errorf("%w: number %.40s is beyond the range of a 64-bit float: write it as a string", ErrValue, s)
	}
	return FloatValue(f), nil
}

// string reads a string at its opening quote.
func (p *jsonParser) string() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.text) { // most strings have no escapes
		switch c := p.text[p.at]; {
		case c == '"':
			s := string(p.text[start:p.at])
			if !utf8.ValidString(s) {
				return "", atError{start, p.syntax("a string is not UTF-8")}
			}
			p.at++
			return s, nil
		case c == '\\':
			return p.escapedString(start)
		case c < 0x20:
			return "", p.syntax("the control character %#02x stands in a string: escape it", c)
		}
		p.at++
	}
	return "", p.syntax("a string has no end")
}

func (p *jsonParser) escapedString(start int) (string, error) {
	b := append([]byte(nil), p.text[start:p.at]...)
	for p.at < len(p.text) {
		c := p.text[p.at]
		switch {
		case c == '"':
			if !utf8.Valid(b) {
				return "", atError{start, p.syntax("a string is not UTF-8")}
			}
			p.at++
			return string(b), nil
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
			continue
		case c < 0x20:
			return "", p.syntax("the control character %#02x stands in a string: escape it", c)
		}
		b = append(b, c)
		p.at++
	}
	return "", p.syntax("a string has no end")
}

func (p *jsonParser) escape() (rune, error) {
	p.at++
	c := p.peek()
	if i := strings.IndexByte(`"\/bfnrt`, c); c != 0 && i >= 0 {
		p.at++
		return rune("\"\\/\b\f\n\r\t"[i]), nil
	}
	if c != 'u' {
		return 0, p.syntax("unknown escape in a string")
	}
	at := p.at - 1
	r, err := p.hex()
	if err != nil || !utf16.IsSurrogate(r) {
		return r, err
	}
	if p.peek() == '\\' && p.at+1 < len(p.text) && p.text[p.at+1] == 'u' {
		p.at++
		low, err := p.hex()
		if err != nil {
			return 0, err
		}
		if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
			return pair, nil
		}
	}
	return 0, atError{at, p.syntax("lone surrogate \\u%04x: it is half a character", r)}
}

// hex reads the four digits after \u, from the u on.
func (p *jsonParser) hex() (rune, error) {
	p.at++
	if len(p.text)-p.at < 4 {
		return 0, p.syntax("\\u is cut short")
	}
	var r rune
	for range 4 {
		c := p.text[p.at]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, p.syntax("%q is no hex digit", c)
		}
		r = r<<4 | rune(c)
		p.at++
	}
	return r, nil
}
