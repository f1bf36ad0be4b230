package crdt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Kind says what a Value is. The numbers are part of the packed form.
type Kind uint8

// The kinds. Map is a non-empty map and occurs only inside arrays: at a path, a map is not a value but the
// fields below. EmptyMap marks a map without members. Counter is one writer's sum.
const (
	Null Kind = iota
	False
	True
	Int
	Float
	String
	Bytes
	Array
	EmptyMap
	Counter
	Map

	numKinds
)

var kindNames = [numKinds]string{"null", "boolean", "boolean", "integer", "float", "string", "bytes", "array", "empty map", "counter", "map"}

func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Value is what one field holds: a scalar, an opaque array, the marker of an empty map, or a writer's
// part of a counter. It is immutable and comparable with ==: equal values have one form (a float keeps its
// bits, so 0.0 and -0.0 differ; there is no NaN or infinity). The zero Value is null.
type Value struct {
	kind Kind
	num  uint64 // Int and Counter: the bits of an int64; Float: IEEE 754 bits
	text string // String and Bytes: the content; Array and Map: the packed elements
}

// Constructors of the scalar kinds. StringValue's text must be UTF-8 and FloatValue's number finite; the
// doors (ValueOf, FromJSON and the parsers) check that.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: True}
	}
	return Value{kind: False}
}

// IntValue returns an integer.
func IntValue(n int64) Value { return Value{kind: Int, num: uint64(n)} }

// FloatValue returns a float, which stays one even when it is whole.
func FloatValue(f float64) Value { return Value{kind: Float, num: math.Float64bits(f)} }

// StringValue returns a text.
func StringValue(s string) Value { return Value{kind: String, text: s} }

// BytesValue returns binary data; b is copied.
func BytesValue(b []byte) Value { return Value{kind: Bytes, text: string(b)} }

// EmptyMapValue returns the marker of a map without members.
func EmptyMapValue() Value { return Value{kind: EmptyMap} }

// CounterValue returns one writer's part of a counter. Programs increment instead of setting it.
func CounterValue(n int64) Value { return Value{kind: Counter, num: uint64(n)} }

// ArrayValue returns an opaque array of the given elements. Counters cannot be elements.
func ArrayValue(elements ...Value) Value {
	b := binary.AppendUvarint(nil, uint64(len(elements)))
	for _, e := range elements {
		b = e.AppendPacked(b)
	}
	return Value{kind: Array, text: string(b)}
}

// Member is one member of a map inside an array.
type Member struct {
	Key   string
	Value Value
}

// MapValue returns a map for use inside an array. The members must be sorted by key, bytewise, without
// repetition. Without members it is EmptyMapValue.
func MapValue(members ...Member) Value {
	if len(members) == 0 {
		return EmptyMapValue()
	}
	b := binary.AppendUvarint(nil, uint64(len(members)))
	for _, m := range members {
		b = binary.AppendUvarint(b, uint64(len(m.Key)))
		b = append(b, m.Key...)
		b = m.Value.AppendPacked(b)
	}
	return Value{kind: Map, text: string(b)}
}

// Kind returns what v is.
func (v Value) Kind() Kind { return v.kind }

// Bool returns the boolean; false for other kinds.
func (v Value) Bool() bool { return v.kind == True }

// Int returns the integer or the counter's part; 0 for other kinds.
func (v Value) Int() int64 {
	if v.kind == Int || v.kind == Counter {
		return int64(v.num)
	}
	return 0
}

// Float returns the float; 0 for other kinds.
func (v Value) Float() float64 {
	if v.kind == Float {
		return math.Float64frombits(v.num)
	}
	return 0
}

// Text returns the string; "" for other kinds.
func (v Value) Text() string {
	if v.kind == String {
		return v.text
	}
	return ""
}

// Bytes returns a copy of the binary data; nil for other kinds.
func (v Value) Bytes() []byte {
	if v.kind == Bytes {
		return []byte(v.text)
	}
	return nil
}

// Elements returns the elements of an array; nil for other kinds.
func (v Value) Elements() []Value {
	if v.kind != Array {
		return nil
	}
	n, rest := mustUvarint(v.text)
	elements := make([]Value, 0, n)
	for range n {
		var e Value
		e, rest = mustParse(rest)
		elements = append(elements, e)
	}
	return elements
}

// Members returns the members of a map, sorted by key; nil for other kinds.
func (v Value) Members() []Member {
	if v.kind != Map {
		return nil
	}
	n, rest := mustUvarint(v.text)
	members := make([]Member, 0, n)
	for range n {
		var m Member
		var size uint64
		size, rest = mustUvarint(rest)
		m.Key, rest = rest[:size], rest[size:]
		m.Value, rest = mustParse(rest)
		members = append(members, m)
	}
	return members
}

// mustUvarint and mustParse read the content of an array or map, which was checked when it was made.
func mustUvarint(s string) (uint64, string) {
	n, rest, err := cutUvarint(s)
	if err != nil {
		panic("crdt: a value's content is damaged: " + err.Error())
	}
	return n, rest
}

func mustParse(s string) (Value, string) {
	v, rest, err := parsePacked(s, 1)
	if err != nil {
		panic("crdt: a value's content is damaged: " + err.Error())
	}
	return v, rest
}

// PackedSize returns the number of bytes that AppendPacked appends.
func (v Value) PackedSize() int { return 1 + v.payloadSize() }

func (v Value) payloadSize() int {
	switch v.kind {
	case Int, Counter:
		return uvarintSize(zigzag(int64(v.num)))
	case Float:
		return 8
	case String, Bytes, Array, Map:
		return uvarintSize(uint64(len(v.text))) + len(v.text)
	}
	return 0
}

func uvarintSize(n uint64) int {
	size := 1
	for n >= 0x80 {
		n >>= 7
		size++
	}
	return size
}

func zigzag(n int64) uint64   { return uint64(n<<1) ^ uint64(n>>63) }
func unzigzag(n uint64) int64 { return int64(n>>1) ^ -int64(n&1) }

// AppendPacked appends the packed form: the kind in one byte, then the payload.
func (v Value) AppendPacked(dst []byte) []byte {
	return v.AppendPayload(append(dst, byte(v.kind)))
}

// AppendPayload appends the packed form without the kind: an Int or Counter as a zigzag varint, a Float as
// eight bytes (little endian), a String, Bytes, Array or Map as its length and content, others as nothing.
func (v Value) AppendPayload(dst []byte) []byte {
	switch v.kind {
	case Int, Counter:
		return binary.AppendUvarint(dst, zigzag(int64(v.num)))
	case Float:
		return binary.LittleEndian.AppendUint64(dst, v.num)
	case String, Bytes, Array, Map:
		dst = binary.AppendUvarint(dst, uint64(len(v.text)))
		return append(dst, v.text...)
	}
	return dst
}

// ErrValue is wrapped by the errors of a value that are not of size.
var ErrValue = errors.New("invalid value")

// ParsePayload reads the payload of a value of the given kind from the front of s and returns what
// follows it. Only the one canonical form is accepted. The value shares memory with s. It allocates
// nothing, so a hostile length costs nothing.
func ParsePayload(k Kind, s string) (v Value, rest string, err error) {
	v, rest, err = parsePayload(k, s, 0)
	if err == nil && v.PackedSize() > MaxValueBytes {
		err = &LimitError{What: "value", Size: v.PackedSize(), Limit: MaxValueBytes, Unit: "bytes"}
	}
	if err == nil && k == Map {
		err = fmt.Errorf("%w: a map stands where a field's value must", ErrValue)
	}
	return v, rest, err
}

func parsePacked(s string, depth int) (Value, string, error) {
	if s == "" {
		return Value{}, "", fmt.Errorf("%w: it is cut short", ErrValue)
	}
	return parsePayload(Kind(s[0]), s[1:], depth)
}

// parsePayload checks arrays and maps whole, so that reading their elements later cannot fail. The depth
// is bounded before it descends: MaxDepth levels of calls at the most.
func parsePayload(k Kind, s string, depth int) (Value, string, error) {
	v := Value{kind: k}
	switch k {
	case Null, False, True, EmptyMap:
		return v, s, nil
	case Int, Counter:
		if k == Counter && depth > 0 {
			return v, s, fmt.Errorf("%w: a counter inside an array", ErrValue)
		}
		n, rest, err := cutUvarint(s)
		v.num = uint64(unzigzag(n))
		return v, rest, err
	case Float:
		if len(s) < 8 {
			return v, s, fmt.Errorf("%w: float is cut short", ErrValue)
		}
		v.num = binary.LittleEndian.Uint64([]byte(s[:8]))
		if f := v.Float(); math.IsNaN(f) || math.IsInf(f, 0) {
			return v, s, fmt.Errorf("%w: a float that is not finite", ErrValue)
		}
		return v, s[8:], nil
	case String, Bytes, Array, Map:
		n, rest, err := cutUvarint(s)
		if err != nil {
			return v, s, err
		}
		if n > uint64(len(rest)) {
			return v, s, fmt.Errorf("%w: %s of %d bytes with %d left", ErrValue, k, n, len(rest))
		}
		v.text, rest = rest[:n], rest[n:]
		if k == String && !utf8.ValidString(v.text) {
			return v, s, fmt.Errorf("%w: string is not UTF-8", ErrValue)
		}
		if k == Array || k == Map {
			err = checkElements(k, v.text, depth+1)
		}
		return v, rest, err
	}
	return v, s, fmt.Errorf("%w: unknown kind %d", ErrValue, uint8(k))
}

func checkElements(k Kind, s string, depth int) error {
	if depth > MaxDepth {
		return &LimitError{What: "value", Size: depth, Limit: MaxDepth, Unit: "levels"}
	}
	n, s, err := cutUvarint(s)
	if err != nil {
		return err
	}
	if n > uint64(len(s)) || k == Map && n == 0 {
		return fmt.Errorf("%w: %s of %d elements in %d bytes", ErrValue, k, n, len(s))
	}
	last := ""
	for i := range n {
		if k == Map {
			size, rest, err := cutUvarint(s)
			if err != nil {
				return err
			}
			if size > uint64(len(rest)) {
				return fmt.Errorf("%w: map key of %d bytes with %d left", ErrValue, size, len(rest))
			}
			key := rest[:size]
			if i > 0 && key <= last || !utf8.ValidString(key) {
				return fmt.Errorf("%w: map key %q is out of order or not UTF-8", ErrValue, key)
			}
			last, s = key, rest[size:]
		}
		if _, s, err = parsePacked(s, depth); err != nil {
			return err
		}
	}
	if s != "" {
		return fmt.Errorf("%w: %d bytes after the last element", ErrValue, len(s))
	}
	return nil
}

// cutUvarint reads a varint in its shortest form.
func cutUvarint(s string) (uint64, string, error) {
	var n uint64
	for i := 0; i < len(s) && i < binary.MaxVarintLen64; i++ {
		b := s[i]
		if i == binary.MaxVarintLen64-1 && b > 1 {
			break
		}
		n |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			if b == 0 && i > 0 {
				break // a longer form of a shorter number
			}
			return n, s[i+1:], nil
		}
	}
	return 0, s, fmt.Errorf("%w: malformed varint", ErrValue)
}
