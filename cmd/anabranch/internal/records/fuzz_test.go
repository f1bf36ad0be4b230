package records

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
)

// Whatever the input: no panic, an end, positions that only go forward, and for input that encoding/json takes as
// an array or an object exactly its elements.
func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"", "{}", "[]", "[1,2]", `{"a":{},"b":{"c":[]}}`, "{\"key\":\"a\",\"doc\":{}}\n{\"key\":\"b\",\"doc\":{}}\n",
		"\xef\xbb\xbf[\n]", `[{"a":"\\\"]"},`, "[}", `{"a":1}{"b":2}`, "\x00", `{"\ud800":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, format := range []Format{Auto, Lines, Array, Object} {
			r, err := NewReader(bytes.NewReader(input), "in", format)
			if err != nil {
				continue
			}
			var elements [][]byte
			fatal := false
			for last := r.Position(); ; {
				rec, err := r.Next()
				if err == io.EOF {
					break
				}
				p := r.Position()
				var e *Error
				fatal = errors.As(err, &e) && e.Fatal
				if err != nil && e == nil {
					t.Fatalf("%s: %T is not an *Error", format, err)
				}
				if fatal {
					break
				}
				if p.Offset <= last.Offset || p.Records != last.Records+1 || p.Line < last.Line {
					t.Fatalf("%s: from %+v to %+v", format, last, p)
				}
				last = p
				elements = append(elements, bytes.Clone(rec.Bytes))
				if _, _, ok, err := Extract(rec); ok && err == nil && rec.Bytes[0] != '{' {
					t.Fatalf("%q was taken as a record", rec.Bytes)
				}
			}
			var want []json.RawMessage
			if format == Array && json.Unmarshal(input, &want) == nil && want != nil {
				if fatal || len(want) != len(elements) {
					t.Fatalf("%d elements, fatal %v, want %d", len(elements), fatal, len(want))
				}
				for i := range want {
					if !bytes.Equal(want[i], elements[i]) {
						t.Fatalf("element %d is %q, want %q", i, elements[i], want[i])
					}
				}
			}
			if format == Object && !fatal && !json.Valid(input) && len(elements) == 0 && len(bytes.TrimSpace(input)) > 0 {
				if trimmed := bytes.TrimPrefix(input, byteOrderMark); !json.Valid(trimmed) {
					t.Fatalf("%q is taken as an empty object", input)
				}
			}
		}
	})
}
