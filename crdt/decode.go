package crdt

import (
	"encoding"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// DecodeError says which part of a document does not fit into the Go value it was to be decoded into.
type DecodeError struct {
	Pointer string       // JSON pointer to the part
	Type    reflect.Type // where it was to go
	Err     error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("decode %.120q into %s: %v", e.Pointer, e.Type, e.Err)
}

func (e *DecodeError) Unwrap() error { return e.Err }

// Decode writes what shows into the Go value that dst points to, most often a struct, by the rules of encoding/json: tags,
// embedding, Unmarshaler, TextUnmarshaler, names that differ in case only, members that no field has are left out, and
// null leaves a value that cannot be nil alone. These are otherwise:
//
//   - Integers are exact. One that does not fit its field, also a float64 field that cannot hold it, is an error; a float
//     field takes integers, an integer field takes floats that are whole.
//   - []byte takes binary data, and text that is base64.
//   - An interface gets what Value.Any returns: int64, not float64, and []byte.
//
// After an error, a *DecodeError, dst may be partly written.
func (d *Document) Decode(dst any) error {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return &DecodeError{Type: reflect.TypeOf(dst), Err: fmt.Errorf("%w: the destination must be a pointer that is not nil", ErrValue)}
	}
	c := decoder{structs: structTypes{}}
	if err := c.decode(v.Elem(), d.Value()); err != nil {
		return &DecodeError{Pointer: Path(c.path).String(), Type: c.at, Err: err}
	}
	return nil
}

// decoder walks the data that Value.Any makes and Go types alike. Its depth is bounded by that of the data.
type decoder struct {
	path    []string
	at      reflect.Type // the type at path when an error came up
	structs structTypes
}

func (c *decoder) fail(v reflect.Value, format string, args ...any) error {
	c.at = v.Type()
	return fmt.Errorf("%w: "+format, append([]any{ErrValue}, args...)...)
}

// decode writes data into v.
func (c *decoder) decode(v reflect.Value, data any) error {
	v, done, err := c.indirect(v, data)
	if done || err != nil {
		return err
	}
	switch data := data.(type) {
	case nil:
		switch v.Kind() {
		case reflect.Interface, reflect.Map, reflect.Slice, reflect.Pointer:
			v.SetZero()
		}
		return nil
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(data)
			return nil
		}
	case int64:
		return c.decodeInt(v, data)
	case float64:
		return c.decodeFloat(v, data)
	case string:
		return c.decodeString(v, data)
	case []byte:
		return c.decodeBytes(v, data)
	case []any:
		return c.decodeList(v, data)
	case map[string]any:
		return c.decodeMap(v, data)
	}
	return c.fail(v, "a %s does not go there", kindOfData(data))
}

func kindOfData(data any) string {
	switch data.(type) {
	case bool:
		return "boolean"
	case int64:
		return "integer"
	case float64:
		return "float"
	case string:
		return "string"
	case []byte:
		return "bytes"
	case []any:
		return "array"
	}
	return "map"
}

// indirect follows pointers, making what they point to, and lets a type that unmarshals itself do so. done says that
// nothing is left to do.
func (c *decoder) indirect(v reflect.Value, data any) (_ reflect.Value, done bool, err error) {
	for range maxPointers {
		if v.Kind() == reflect.Pointer {
			if data == nil {
				return v, false, nil
			}
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
			continue
		}
		if v.Kind() == reflect.Interface {
			if v.NumMethod() == 0 {
				if data == nil {
					return v, false, nil
				}
				v.Set(reflect.ValueOf(data))
				return v, true, nil
			}
			return v, true, c.fail(v, "an interface with methods cannot be decoded into")
		}
		break
	}
	if v.CanAddr() && v.Addr().CanInterface() {
		switch u := v.Addr().Interface().(type) {
		case *Value:
			if *u, err = ValueOf(data); err != nil {
				c.at = v.Type()
			}
			return v, true, err
		case json.Unmarshaler:
			return v, true, c.own(v, u.UnmarshalJSON(appendPlain(nil, data)))
		case encoding.TextUnmarshaler:
			if text, ok := data.(string); ok {
				return v, true, c.own(v, u.UnmarshalText([]byte(text)))
			}
		}
	}
	return v, false, nil
}

func (c *decoder) own(v reflect.Value, err error) error {
	if err != nil {
		return c.fail(v, "%w", err)
	}
	return nil
}

// appendPlain appends data as JSON for a type that unmarshals itself, as encoding/json would write it: binary data is
// base64 text, and no name is escaped.
func appendPlain(dst []byte, data any) []byte {
	switch data := data.(type) {
	case bool:
		return strconv.AppendBool(dst, data)
	case int64:
		return strconv.AppendInt(dst, data, 10)
	case float64:
		return appendFloat(dst, data)
	case string:
		return appendString(dst, data)
	case []byte:
		return appendString(dst, base64.StdEncoding.EncodeToString(data))
	case []any:
		dst = append(dst, '[')
		for i, e := range data {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendPlain(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for i, name := range slices.Sorted(maps.Keys(data)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendPlain(append(appendString(dst, name), ':'), data[name])
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

func (c *decoder) decodeInt(v reflect.Value, n int64) error {
	switch {
	case v.CanInt():
		if v.OverflowInt(n) {
			return c.fail(v, "%d is out of its range", n)
		}
		v.SetInt(n)
	case v.CanUint():
		if n < 0 || v.OverflowUint(uint64(n)) {
			return c.fail(v, "%d is out of its range", n)
		}
		v.SetUint(uint64(n))
	case v.CanFloat():
		f := float64(n)
		if v.Kind() == reflect.Float32 {
			f = float64(float32(n))
		}
		if f >= math.MaxInt64 || int64(f) != n {
			return c.fail(v, "it cannot hold the integer %d exactly", n)
		}
		v.SetFloat(f)
	case v.Type() == reflect.TypeFor[json.Number]():
		v.SetString(strconv.FormatInt(n, 10))
	default:
		return c.fail(v, "an integer does not go there")
	}
	return nil
}

func (c *decoder) decodeFloat(v reflect.Value, f float64) error {
	switch {
	case v.CanFloat():
		if v.OverflowFloat(f) {
			return c.fail(v, "%v is out of its range", f)
		}
		v.SetFloat(f)
	case v.CanInt() || v.CanUint():
		if f != math.Trunc(f) || f < math.MinInt64 || f >= math.MaxInt64 {
			return c.fail(v, "%v is not a whole number in its range", f)
		}
		return c.decodeInt(v, int64(f))
	case v.Type() == reflect.TypeFor[json.Number]():
		v.SetString(string(appendFloat(nil, f)))
	default:
		return c.fail(v, "a float does not go there")
	}
	return nil
}

func (c *decoder) decodeString(v reflect.Value, s string) error {
	switch {
	case v.Type() == reflect.TypeFor[json.Number]():
		return c.fail(v, "a string does not go there")
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return c.fail(v, "the string is not base64: %w", err)
		}
		v.SetBytes(b)
	default:
		return c.fail(v, "a string does not go there")
	}
	return nil
}

func (c *decoder) decodeBytes(v reflect.Value, b []byte) error {
	switch {
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(b)
	case v.Kind() == reflect.Array && v.Type().Elem().Kind() == reflect.Uint8 && v.Len() == len(b):
		reflect.Copy(v, reflect.ValueOf(b))
	default:
		return c.fail(v, "bytes (%d of them) do not go there", len(b))
	}
	return nil
}

func (c *decoder) decodeList(v reflect.Value, list []any) error {
	switch v.Kind() {
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	case reflect.Array: // what is too much is left out, what is missing is zero, as in encoding/json
		v.SetZero()
		list = list[:min(len(list), v.Len())]
	default:
		return c.fail(v, "an array does not go there")
	}
	for i, data := range list {
		if err := c.in(strconv.Itoa(i), v.Index(i), data); err != nil {
			return err
		}
	}
	return nil
}

// in decodes the part of that name; after an error the path stays what it is.
func (c *decoder) in(name string, v reflect.Value, data any) error {
	c.path = append(c.path, name)
	if err := c.decode(v, data); err != nil {
		return err
	}
	c.path = c.path[:len(c.path)-1]
	return nil
}

func (c *decoder) decodeMap(v reflect.Value, m map[string]any) error {
	names := slices.Sorted(maps.Keys(m)) // so that of several errors the same one is reported each time
	switch v.Kind() {
	case reflect.Struct:
		return c.decodeStruct(v, m, names)
	case reflect.Map:
	default:
		return c.fail(v, "a map does not go there")
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(v.Type(), len(m)))
	}
	for _, name := range names {
		key := reflect.New(v.Type().Key()).Elem()
		if err := c.mapKey(key, name); err != nil {
			return err
		}
		value := reflect.New(v.Type().Elem()).Elem()
		if err := c.in(name, value, m[name]); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
	}
	return nil
}

func (c *decoder) mapKey(key reflect.Value, name string) error {
	if u, ok := key.Addr().Interface().(encoding.TextUnmarshaler); ok && key.Kind() != reflect.String {
		return c.own(key, u.UnmarshalText([]byte(name)))
	}
	switch {
	case key.Kind() == reflect.String:
		key.SetString(name)
		return nil
	case key.CanInt():
		if n, err := strconv.ParseInt(name, 10, 64); err == nil && !key.OverflowInt(n) {
			key.SetInt(n)
			return nil
		}
	case key.CanUint():
		if n, err := strconv.ParseUint(name, 10, 64); err == nil && !key.OverflowUint(n) {
			key.SetUint(n)
			return nil
		}
	}
	return c.fail(key, "the name %.80q is no key of this type", name)
}

func (c *decoder) decodeStruct(v reflect.Value, m map[string]any, names []string) error {
	fields := c.structs.of(v.Type())
	for _, name := range names {
		f := findField(fields, name)
		if f == nil {
			continue
		}
		target, ok := c.fieldOf(v, f.index)
		if !ok {
			continue
		}
		data := m[name]
		if f.quoted {
			if s, ok := data.(string); ok {
				unquoted, err := ParseJSONElement([]byte(s))
				if err != nil {
					c.path = append(c.path, name)
					return c.fail(target, "the string holds no number or boolean: %w", err)
				}
				data = unquoted.Any()
			}
		}
		if err := c.in(name, target, data); err != nil {
			return err
		}
	}
	return nil
}

// findField returns the field of that name, or else one whose name differs in case only.
func findField(fields []structField, name string) *structField {
	i, ok := slices.BinarySearchFunc(fields, name, func(f structField, name string) int { return strings.Compare(f.name, name) })
	if ok {
		return &fields[i]
	}
	for i := range fields {
		if strings.EqualFold(fields[i].name, name) {
			return &fields[i]
		}
	}
	return nil
}

// fieldOf returns the field at index, making embedded structs on the way.
func (c *decoder) fieldOf(v reflect.Value, index []int) (reflect.Value, bool) {
	for i, n := range index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if !v.CanSet() {
					return v, false
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, v.CanSet()
}
