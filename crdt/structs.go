package crdt

import (
	"cmp"
	"reflect"
	"slices"
	"strings"
)

// structField is one field of a struct as encoding/json sees it.
type structField struct {
	name      string
	index     []int // as for reflect.Value.FieldByIndex
	tagged    bool
	omitEmpty bool
	omitZero  bool
	quoted    bool // the option "string"
}

// structTypes holds the fields of the struct types that one operation has met.
type structTypes map[reflect.Type][]structField

// of returns the fields of t sorted by name, by the rules of encoding/json: the tag json names a field, those of embedded
// structs count as the outer one's own unless a shallower field, or at the same depth a tagged one, has the name.
func (s structTypes) of(t reflect.Type) []structField {
	if fields, ok := s[t]; ok {
		return fields
	}
	found := collectFields(t, nil, map[reflect.Type]bool{})
	slices.SortStableFunc(found, func(a, b structField) int {
		tagged := 0
		if a.tagged != b.tagged {
			tagged = 1
			if a.tagged {
				tagged = -1
			}
		}
		return cmp.Or(strings.Compare(a.name, b.name), cmp.Compare(len(a.index), len(b.index)), tagged)
	})
	var fields []structField
	for i := 0; i < len(found); {
		end := i + 1
		for end < len(found) && found[end].name == found[i].name {
			end++
		}
		// Two that are equally shallow and equally tagged hide each other.
		if end == i+1 || len(found[i].index) < len(found[i+1].index) || found[i].tagged != found[i+1].tagged {
			fields = append(fields, found[i])
		}
		i = end
	}
	s[t] = fields
	return fields
}

func collectFields(t reflect.Type, outer []int, open map[reflect.Type]bool) []structField {
	if open[t] {
		return nil // a struct that embeds a pointer to itself
	}
	open[t] = true
	defer delete(open, t)
	var found []structField
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		name, options, _ := strings.Cut(tag, ",")
		embedded := f.Type
		if f.Anonymous && embedded.Kind() == reflect.Pointer {
			embedded = embedded.Elem()
		}
		if tag == "-" || !f.IsExported() && !(f.Anonymous && embedded.Kind() == reflect.Struct) {
			continue
		}
		index := append(slices.Clone(outer), i)
		if f.Anonymous && name == "" && embedded.Kind() == reflect.Struct {
			if f.IsExported() || f.Type.Kind() != reflect.Pointer { // an unexported pointer could not be set
				found = append(found, collectFields(embedded, index, open)...)
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		field := structField{name: cmp.Or(name, f.Name), index: index, tagged: name != ""}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				field.omitEmpty = true
			case "omitzero":
				field.omitZero = true
			case "string":
				field.quoted = isQuotable(f.Type)
			}
		}
		found = append(found, field)
	}
	return found
}

func isQuotable(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr, reflect.Float32, reflect.Float64:
		return true
	}
	return false
}

// omits reports whether the field's options leave v out.
func (f *structField) omits(v reflect.Value) bool {
	if f.omitZero {
		if z, ok := v.Interface().(interface{ IsZero() bool }); ok && !(v.Kind() == reflect.Pointer && v.IsNil()) {
			if z.IsZero() {
				return true
			}
		} else if v.IsZero() {
			return true
		}
	}
	if !f.omitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}
