package crdt

import (
	"encoding/base64"
	"iter"
	"math"
	"strconv"
	"strings"
)

// MarshalJSON returns what shows as a JSON object, in the one form that AppendJSON describes.
func (d *Document) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// AppendJSON appends what shows as a JSON object. There is one form: members in the bytewise order of their names, no
// white space, no escapes but those that JSON needs, integers as digits, and floats in their shortest form with a
// fraction or an exponent, so that 1.0 is read as a float again. ParseJSON reads it without loss.
func (d *Document) AppendJSON(dst []byte) []byte { return AppendLeavesJSON(dst, "", d.Leaves()) }

// AppendLeavesJSON appends the object that the leaves make, whose paths must be in order and below base; or the value, if the
// one leaf stands at base itself. No leaves are an empty object.
func AppendLeavesJSON(dst []byte, base PathKey, leaves iter.Seq2[PathKey, Value]) []byte {
	o := objectWriter{dst: dst}
	for p, v := range leaves {
		if p = p[len(base):]; p != "" {
			o.put(p, v)
			continue
		}
		if base == "" && v.kind != EmptyMap { // a document is an object, see Document.Value
			return append(v.AppendJSON(append(o.dst, `{"":`...)), '}')
		}
		return v.AppendJSON(o.dst)
	}
	return o.end()
}

// objectWriter writes nested objects from leaves in the order of their paths.
type objectWriter struct {
	dst    []byte
	began  bool
	parent PathKey // of the last leaf: the objects that are open
	open   Path    // the same
}

func (o *objectWriter) put(p PathKey, v Value) {
	if !o.began {
		o.dst = append(o.dst, '{')
	}
	if parent := p.Parent(); parent != o.parent {
		path := parent.Path()
		shared := 0
		for shared < min(len(o.open), len(path)) && o.open[shared] == path[shared] {
			shared++
		}
		for range len(o.open) - shared {
			o.dst = append(o.dst, '}')
		}
		if o.began {
			o.dst = append(o.dst, ',')
		}
		for _, name := range path[shared:] {
			o.dst = append(appendName(o.dst, name), '{')
		}
		o.parent, o.open = parent, path
	} else if o.began {
		o.dst = append(o.dst, ',')
	}
	o.dst = v.AppendJSON(appendName(o.dst, p.Last()))
	o.began = true
}

func (o *objectWriter) end() []byte {
	if !o.began {
		return append(o.dst, "{}"...)
	}
	for range len(o.open) + 1 {
		o.dst = append(o.dst, '}')
	}
	return o.dst
}

// MarshalJSON returns v as JSON, in the form of AppendJSON.
func (v Value) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// AppendJSON appends v as JSON, as Document.AppendJSON describes. Binary data is {"$bytes":"<base64>"}, a counter is its
// number.
func (v Value) AppendJSON(dst []byte) []byte {
	switch v.kind {
	case False, True:
		return strconv.AppendBool(dst, v.Bool())
	case Int, Counter:
		return strconv.AppendInt(dst, v.Int(), 10)
	case Float:
		return appendFloat(dst, v.Float())
	case String:
		return appendString(dst, v.text)
	case Bytes:
		dst = append(dst, `{"`+bytesName+`":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, []byte(v.text))
		return append(dst, `"}`...)
	case Array:
		dst = append(dst, '[')
		for i, e := range v.Elements() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = e.AppendJSON(dst)
		}
		return append(dst, ']')
	case Map, EmptyMap:
		dst = append(dst, '{')
		for i, m := range v.Members() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = m.Value.AppendJSON(appendName(dst, m.Key))
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// appendName appends a member's name and the colon. A name that could be mistaken for the form of binary data gets one
// more $, which parsing takes off again.
func appendName(dst []byte, name string) []byte {
	if name == bytesName || isEscapedName(name) {
		name = "$" + name
	}
	return append(appendString(dst, name), ':')
}

// appendFloat appends the shortest form that reads as the same float, in the notation of JavaScript, and always with
// a fraction or an exponent.
func appendFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if format == 'f' {
		if !strings.Contains(string(dst[start:]), ".") {
			dst = append(dst, ".0"...)
		}
		return dst
	}
	if n := len(dst); n-start > 4 && dst[n-4] == 'e' && dst[n-2] == '0' { // e-07 to e-7
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

const hexDigits = "0123456789abcdef"

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(append(dst, s[start:i]...), '\\')
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, c)
		case '\b':
			dst = append(dst, 'b')
		case '\f':
			dst = append(dst, 'f')
		case '\n':
			dst = append(dst, 'n')
		case '\r':
			dst = append(dst, 'r')
		case '\t':
			dst = append(dst, 't')
		default:
			dst = append(dst, 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}
