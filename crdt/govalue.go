package crdt

import (
	"encoding"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Leaves flattens Go data into what is to stand at path base: a map or struct becomes a leaf for each member, at any
// depth, and {} becomes EmptyMapValue; everything else is one leaf. The leaves are sorted by path. At the empty path, the document
// itself, v must be a map or struct.
//
// It takes what encoding/json takes, by the same rules (struct tags, embedding, Marshaler, TextMarshaler, nil maps, slices and
// pointers as null), and these are otherwise:
//
//   - []byte is binary data; integers stay integers and must be within int64, floats stay floats, also whole ones, and must be finite.
//   - A float32 becomes the float64 of its shortest decimal, so that 0.1 stays 0.1.
//   - A nil map at the empty path is the empty document.
//   - A Value stands for itself.
//
// Errors name the path and wrap ErrValue, ErrLimit or ErrPath.
func Leaves(base PathKey, v any) ([]Leaf, error) {
	f := flattener{path: []byte(base), levels: strings.Count(string(base), "\x00"), structs: structTypes{}}
	rv := reflect.ValueOf(v)
	if base == "" && rv.Kind() == reflect.Map && rv.IsNil() {
		return []Leaf{{"", EmptyMapValue()}}, nil
	}
	if err := f.field(rv); err != nil {
		return nil, err
	}
	if base == "" && len(f.leaves) == 1 && f.leaves[0].Path == "" && f.leaves[0].Value.kind != EmptyMap {
		return nil, fmt.Errorf("%w: a document must be a map or struct, not a %s", ErrValue, f.leaves[0].Value.kind)
	}
	byPath := func(a, b Leaf) int { return strings.Compare(string(a.Path), string(b.Path)) }
	if !slices.IsSortedFunc(f.leaves, byPath) {
		slices.SortFunc(f.leaves, byPath)
	}
	return f.leaves, nil
}

// ValueOf returns Go data as one value, by the rules of Leaves. A map becomes a map, which can stand in an array only.
func ValueOf(v any) (Value, error) {
	f := flattener{structs: structTypes{}}
	value, err := f.value(reflect.ValueOf(v), 0)
	if err != nil {
		return Value{}, err
	}
	return value, checkValue(value)
}

// maxPointers bounds a chain of pointers, which may lead in a circle.
const maxPointers = 100

// flattener walks Go data. Nothing in it outlives one call of Leaves.
type flattener struct {
	path    []byte // packed path of the field that is being read
	levels  int    // elements of path
	leaves  []Leaf
	structs structTypes
}

func (f *flattener) wrap(err error) error {
	if len(f.path) == 0 {
		return err
	}
	return fmt.Errorf("at %.120q: %w", PathKey(f.path).String(), err)
}

// special returns the Value, or the JSON or text that a type gives itself, as one of them. Nothing is special by default.
func special(v reflect.Value) (value *Value, text []byte, isJSON bool, err error) {
	if !v.CanInterface() {
		return nil, nil, false, nil
	}
	in := v.Interface()
	if v.Kind() != reflect.Pointer && v.CanAddr() && v.Addr().CanInterface() {
		switch in.(type) {
		case json.Marshaler, encoding.TextMarshaler, json.Number, Value:
		default:
			in = v.Addr().Interface()
		}
	}
	switch m := in.(type) {
	case Value:
		return &m, nil, false, nil
	case *Value:
		return m, nil, false, nil
	case json.Number:
		if m == "" { // the zero Number is 0 for encoding/json too
			m = "0"
		}
		return nil, []byte(m), true, nil
	case json.Marshaler:
		text, err = m.MarshalJSON()
		return nil, text, true, err
	case encoding.TextMarshaler:
		text, err = m.MarshalText()
		if text == nil {
			text = []byte{}
		}
		return nil, text, false, err
	}
	return nil, nil, false, nil
}

// deref follows pointers and interfaces; the result is invalid if one is nil. It stops at a type that speaks for itself.
func deref(v reflect.Value) (reflect.Value, error) {
	for range maxPointers {
		switch v.Kind() {
		case reflect.Interface, reflect.Pointer:
			if v.IsNil() {
				return reflect.Value{}, nil
			}
			v = v.Elem()
		default:
			return v, nil
		}
	}
	return v, fmt.Errorf("%w: a chain of more than %d pointers", ErrValue, maxPointers)
}

// field adds the leaves of v at f.path.
func (f *flattener) field(v reflect.Value) error {
	v, err := deref(v)
	if err != nil {
		return f.wrap(err)
	}
	if !v.IsValid() {
		return f.leaf(Value{})
	}
	value, text, isJSON, err := special(v)
	switch {
	case err != nil:
		return f.wrap(fmt.Errorf("%w: %s: %w", ErrValue, v.Type(), err))
	case value != nil:
		return f.valueField(*value)
	case isJSON:
		leaves, err := ParseJSONValue(PathKey(f.path), text)
		if err != nil {
			return f.wrap(fmt.Errorf("%w: JSON of %s: %w", ErrValue, v.Type(), err))
		}
		f.leaves = append(f.leaves, leaves...)
		return nil
	case text != nil:
		return f.leaf(StringValue(string(text)))
	}
	members, ok, err := f.members(v)
	if err != nil {
		return err
	}
	if !ok {
		value, err := f.value(v, 0)
		if err != nil {
			return f.wrap(err)
		}
		return f.leaf(value)
	}
	if len(members) == 0 {
		return f.leaf(EmptyMapValue())
	}
	f.leaves = slices.Grow(f.leaves, len(members))
	for _, m := range members {
		if err := f.below(m.key, func() error { return f.field(m.value) }); err != nil {
			return err
		}
	}
	return nil
}

// valueField adds a Value, of which a map becomes fields.
func (f *flattener) valueField(v Value) error {
	if v.kind != Map {
		return f.leaf(v)
	}
	for _, m := range v.Members() {
		if err := f.below(m.Key, func() error { return f.valueField(m.Value) }); err != nil {
			return err
		}
	}
	return nil
}

// below calls do with f.path one element longer.
func (f *flattener) below(key string, do func() error) error {
	outer := len(f.path)
	if !utf8.ValidString(key) {
		return f.wrap(fmt.Errorf("%w: name %.80q is not UTF-8", ErrPath, key))
	}
	f.path = appendElement(f.path, key)
	f.levels++
	switch {
	case f.levels > MaxDepth:
		return &LimitError{What: fmt.Sprintf("path %.60s", PathKey(f.path)), Size: f.levels, Limit: MaxDepth, Unit: "levels"}
	case len(f.path) > MaxPathBytes:
		return &LimitError{What: fmt.Sprintf("path %.60s", PathKey(f.path)), Size: len(f.path), Limit: MaxPathBytes, Unit: "bytes"}
	}
	if err := do(); err != nil {
		return err
	}
	f.path = f.path[:outer]
	f.levels--
	return nil
}

func (f *flattener) leaf(v Value) error {
	if err := checkValue(v); err != nil {
		return f.wrap(err)
	}
	f.leaves = append(f.leaves, Leaf{PathKey(f.path), v})
	return nil
}

// CheckLeaves reports what is wrong with leaves for Document.SetLeaves at p: the order, a path or a value that no parser
// would read again. Leaves and the JSON parsers return none that are wrong; it is for leaves that were made by hand.
func CheckLeaves(p PathKey, leaves []Leaf) error {
	for i, l := range leaves {
		err := l.Path.Check()
		switch {
		case err != nil:
		case !p.Contains(l.Path):
			err = fmt.Errorf("%w: leaf %.120q is outside %.120q", ErrPath, l.Path.String(), p.String())
		case i > 0 && l.Path <= leaves[i-1].Path:
			err = fmt.Errorf("%w: leaf %.120q is out of order", ErrPath, l.Path.String())
		case i > 0 && leaves[i-1].Path.Contains(l.Path):
			err = fmt.Errorf("%w: leaf %.120q is below another", ErrPath, l.Path.String())
		case l.Value.kind == Map:
			err = fmt.Errorf("%w: at %.120q: a map must be given as the leaves below", ErrValue, l.Path.String())
		default:
			if err = checkValue(l.Value); err != nil {
				err = fmt.Errorf("at %.120q: %w", l.Path.String(), err)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkValue checks what a caller of the constructors may have got wrong, and the size.
func checkValue(v Value) (err error) {
	if size := v.PackedSize(); size > MaxValueBytes {
		return &LimitError{What: "value", Size: size, Limit: MaxValueBytes, Unit: "bytes"}
	}
	switch v.kind {
	case Float:
		_, err = finite(v.Float())
	case String:
		_, err = validText(v.text)
	case Array, Map:
		err = checkElements(v.kind, v.text, 1)
	}
	return err
}

type goMember struct {
	key   string
	value reflect.Value
}

// members returns the members of a map or struct sorted by name; false if v is neither.
func (f *flattener) members(v reflect.Value) ([]goMember, bool, error) {
	switch v.Kind() {
	case reflect.Struct:
		var members []goMember
		fields := f.structs.of(v.Type())
		for i := range fields {
			value, err := v.FieldByIndexErr(fields[i].index)
			if err != nil || fields[i].omits(value) { // the error: an embedded pointer is nil
				continue
			}
			if fields[i].quoted {
				value = quote(value)
			}
			members = append(members, goMember{fields[i].name, value})
		}
		return members, true, nil
	case reflect.Map:
		if v.IsNil() {
			return nil, false, nil
		}
		members := make([]goMember, 0, v.Len())
		for it := v.MapRange(); it.Next(); {
			key, err := mapKey(it.Key())
			if err != nil {
				return nil, true, f.wrap(err)
			}
			members = append(members, goMember{key, it.Value()})
		}
		slices.SortFunc(members, func(a, b goMember) int { return strings.Compare(a.key, b.key) })
		for i := 1; i < len(members); i++ {
			if members[i].key == members[i-1].key {
				return nil, true, f.wrap(fmt.Errorf("%w: two keys of the map are %.80q as text", ErrValue, members[i].key))
			}
		}
		return members, true, nil
	}
	return nil, false, nil
}

// quote returns the text of a number or boolean, as the option "string" asks for.
func quote(v reflect.Value) reflect.Value {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return v
		}
		v = v.Elem()
	}
	return reflect.ValueOf(fmt.Sprint(v.Interface()))
}

func mapKey(k reflect.Value) (string, error) {
	if k.Kind() == reflect.String {
		return k.String(), nil
	}
	if m, ok := k.Interface().(encoding.TextMarshaler); ok {
		if k.Kind() == reflect.Pointer && k.IsNil() {
			return "", nil
		}
		text, err := m.MarshalText()
		return string(text), err
	}
	switch {
	case k.CanInt():
		return strconv.FormatInt(k.Int(), 10), nil
	case k.CanUint():
		return strconv.FormatUint(k.Uint(), 10), nil
	}
	return "", fmt.Errorf("%w: a map with keys of type %s", ErrValue, k.Type())
}

// value returns v as one value that lies inside depth arrays and maps.
func (f *flattener) value(v reflect.Value, depth int) (Value, error) {
	v, err := deref(v)
	if err != nil || !v.IsValid() {
		return Value{}, err
	}
	value, text, isJSON, err := special(v)
	switch {
	case err != nil:
		return Value{}, fmt.Errorf("%w: %s: %w", ErrValue, v.Type(), err)
	case value != nil:
		if depth > 0 && value.kind == Counter {
			return Value{}, fmt.Errorf("%w: a counter inside an array", ErrValue)
		}
		return *value, nil
	case isJSON:
		return ParseJSONElement(text)
	case text != nil:
		return StringValue(string(text)), nil
	}
	switch v.Kind() {
	case reflect.Bool:
		return BoolValue(v.Bool()), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return IntValue(v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		if v.Uint() > math.MaxInt64 {
			return Value{}, fmt.Errorf("%w: %d is beyond a signed 64-bit integer: store it as a string", ErrValue, v.Uint())
		}
		return IntValue(int64(v.Uint())), nil
	case reflect.Float32:
		shortest, _ := strconv.ParseFloat(strconv.FormatFloat(v.Float(), 'g', -1, 32), 64)
		return finite(shortest)
	case reflect.Float64:
		return finite(v.Float())
	case reflect.String:
		return validText(v.String())
	case reflect.Slice, reflect.Array:
		return f.list(v, depth)
	case reflect.Struct, reflect.Map:
		return f.mapValue(v, depth)
	}
	return Value{}, fmt.Errorf("%w: a %s cannot be stored", ErrValue, v.Type())
}

func finite(n float64) (Value, error) {
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return Value{}, fmt.Errorf("%w: a float that is not finite (%v)", ErrValue, n)
	}
	return FloatValue(n), nil
}

func validText(s string) (Value, error) {
	if !utf8.ValidString(s) {
		return Value{}, fmt.Errorf("%w: string %.40q is not UTF-8: store it as bytes", ErrValue, s)
	}
	return StringValue(s), nil
}

func (f *flattener) list(v reflect.Value, depth int) (Value, error) {
	if v.Kind() == reflect.Slice {
		if v.IsNil() {
			return Value{}, nil
		}
		if v.Type().Elem().Kind() == reflect.Uint8 && !speaks(v.Type().Elem()) {
			return BytesValue(v.Bytes()), nil
		}
	}
	if depth >= MaxDepth {
		return Value{}, &LimitError{What: "value", Size: depth + 1, Limit: MaxDepth, Unit: "levels"}
	}
	elements := make([]Value, v.Len())
	for i := range elements {
		var err error
		if elements[i], err = f.value(v.Index(i), depth+1); err != nil {
			return Value{}, fmt.Errorf("element %d: %w", i, err)
		}
	}
	return ArrayValue(elements...), nil
}

// speaks reports whether values of type t marshal themselves, so that a slice of such bytes is a list.
func speaks(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[json.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

func (f *flattener) mapValue(v reflect.Value, depth int) (Value, error) {
	if depth >= MaxDepth {
		return Value{}, &LimitError{What: "value", Size: depth + 1, Limit: MaxDepth, Unit: "levels"}
	}
	found, ok, err := f.members(v)
	if err != nil || !ok { // not ok: a nil map
		return Value{}, err
	}
	members := make([]Member, len(found))
	for i, m := range found {
		value, err := f.value(m.value, depth+1)
		if err != nil {
			return Value{}, fmt.Errorf("member %.80q: %w", m.key, err)
		}
		members[i] = Member{m.key, value}
	}
	return MapValue(members...), nil
}
