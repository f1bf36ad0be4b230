package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// readAll returns each record as "line key text", and each error as its text.
func readAll(r *Reader) []string {
	var out []string
	for {
		rec, err := r.Next()
		var e *Error
		switch {
		case err == io.EOF:
			return out
		case errors.As(err, &e):
			out = append(out, "error: "+e.Error())
			if e.Fatal {
				return append(out, "fatal")
			}
		default:
			out = append(out, strings.TrimSpace(fmt.Sprintf("%d %s %s", rec.Line, rec.Key, rec.Bytes)))
		}
	}
}

func TestReaderFindsRecordsAndSaysWhereItCannot(t *testing.T) {
	tests := []struct {
		name, input string
		format      Format
		want        []string
	}{
		{"nothing", "", Auto, nil},
		{"only white space", " \n\t\r\n", Auto, nil},
		{"lines, blank ones between", "{\"a\":1}\n\n  {\"b\":\"}\"}  \r\n", Auto, []string{`1  {"a":1}`, `3  {"b":"}"}`}},
		{"lines, no line feed at the end", "{\"a\":1}\n{\"b\":2}", Auto, []string{`1  {"a":1}`, `2  {"b":2}`}},
		{"a byte order mark", "\xef\xbb\xbf{\"a\":1}\n", Auto, []string{`1  {"a":1}`}},
		{"a broken line among lines", "{\"a\":1}\n{\"b\":\n{\"c\":3}\n", Lines, []string{`1  {"a":1}`, `2  {"b":`, `3  {"c":3}`}},
		{"array over several lines", "[\n {\"a\":[1,{}]},\n {\"b\":\"\\\"]\"}\n]\n", Auto, []string{`2  {"a":[1,{}]}`, `3  {"b":"\"]"}`}},
		{"empty array", "[ ]", Auto, nil},
		{"array of scalars", `[1,true,"x"]`, Auto, []string{"1  1", "1  true", `1  "x"`}},
		{"object by key", "{\n\"a\": {\"x\":1},\n\"\\u0062\":{}\n}", Auto, []string{`2 a {"x":1}`, `3 b {}`}},
		{"object by key on one line", `{"a":{"x":1},"b":{}}`, Auto, []string{`1 a {"x":1}`, `1 b {}`}},
		{"one record of lines, alone", `{"key":"a","doc":{}}`, Auto, []string{`1  {"key":"a","doc":{}}`}},
		{"one plain document, alone", `{"id":"a","tags":{}}`, Auto, []string{`1  {"id":"a","tags":{}}`}},
		{"empty object", `{}`, Auto, nil},
		{"array not closed", "[{\"a\":1},\n", Auto, []string{`1  {"a":1}`, "error: in:2: record 2: the input ends where a value should be: it is cut short, or not a JSON array", "fatal"}},
		{"array cut in a record", "[{\"a\":1},\n{\"b", Auto, []string{`1  {"a":1}`, "error: in:2: record 2: the record does not end: the input is cut short, or a bracket or quote is not closed", "fatal"}},
		{"comma missing", "[{\"a\":1}\n{\"b\":2}]", Auto, []string{`1  {"a":1}`, `error: in:2: record 2: '{' where a comma or ']' should be`, "fatal"}},
		{"comma at the end", "[1,]", Auto, []string{"1  1", "error: in:1: record 2: ']' where a value should be", "fatal"}},
		{"something behind the array", "[1]\n[2]", Array, []string{"1  1", "error: in:2: record 3: '[' where the end of the input should be", "fatal"}},
		{"object without a colon", `{"a" {}}`, Object, []string{`error: in:1: record 1: '{' where a colon should be`, "fatal"}},
		{"object with a bare key", `{a:{}}`, Object, []string{`error: in:1: record 1: 'a' where a key in quotes should be`, "fatal"}},
		{"array where an object is said to be", `[1]`, Object, []string{`error: in:1: record 1: '[' where '{', which begins the object should be`, "fatal"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, src := range []io.Reader{strings.NewReader(tt.input), iotest.OneByteReader(strings.NewReader(tt.input))} {
				r, err := NewReader(src, "in", tt.format)
				if err != nil {
					t.Fatal(err)
				}
				if got := readAll(r); strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
					t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
				}
			}
		})
	}
}

func TestDetectRefusesWhatItCannotTell(t *testing.T) {
	for _, input := range []string{"key,doc\na,1\n", "{\n\"a\":1\n}\n{\n\"a\":2\n}\n", "{\n\"id\":\"a\"\n}"} {
		if r, err := NewReader(strings.NewReader(input), "in", Auto); err == nil {
			t.Errorf("%q: taken as %s", input, r.Format())
		}
	}
}

// A pipe that has sent one line and keeps open must be read, not waited for.
func TestReaderDoesNotWaitForMoreThanALine(t *testing.T) {
	pr, pw := io.Pipe()
	defer pw.Close()
	go func() { _, _ = pw.Write([]byte("{\"key\":\"a\",\"doc\":{}}\n")) }()
	r, err := NewReader(pr, "in", Auto)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := r.Next()
	if err != nil || string(rec.Bytes) != `{"key":"a","doc":{}}` {
		t.Errorf("%q, %v", rec.Bytes, err)
	}
}

func TestReaderPassesOverARecordThatIsTooLong(t *testing.T) {
	long := `{"x":"` + strings.Repeat("y", 3*startBuffer) + `"}`
	for _, tt := range []struct {
		format Format
		input  string
	}{
		{Lines, `{"a":1}` + "\n" + long + "\n" + `{"b":2}`},
		{Array, `[{"a":1},` + "\n" + long + ",\n" + `{"b":2}]`},
	} {
		r, err := NewReader(strings.NewReader(tt.input), "in", tt.format)
		if err != nil {
			t.Fatal(err)
		}
		r.s.limit = startBuffer
		got := readAll(r)
		want := []string{`1  {"a":1}`, "error: in:2: record 2: " + ErrTooLong.Error(), `3  {"b":2}`}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s: got %q", tt.format, got)
		}
		if max := 4 * startBuffer; cap(r.s.buf) > max {
			t.Errorf("%s: the window has grown to %d bytes", tt.format, cap(r.s.buf))
		}
	}
}

func TestResumedReaderGoesOnAtEachPosition(t *testing.T) {
	for _, format := range []Format{Lines, Array, Object} {
		var file bytes.Buffer
		w, err := NewWriter(&file, format)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if err := w.Write(fmt.Sprintf("k%d", i), []byte(`{"x":[1,2]}`)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(bytes.NewReader(file.Bytes()), "in", format)
		if err != nil {
			t.Fatal(err)
		}
		positions := []Position{r.Position()}
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			positions = append(positions, r.Position())
		}
		r, _ = NewReader(bytes.NewReader(file.Bytes()), "in", format)
		want := readAll(r)
		for i, p := range positions {
			got := readAll(ResumeReader(bytes.NewReader(file.Bytes()[p.Offset:]), "in", p))
			if strings.Join(got, "\n") != strings.Join(want[i:], "\n") {
				t.Fatalf("%s from %+v: %q, want %q", format, p, got, want[i:])
			}
		}
	}
}

func TestExtract(t *testing.T) {
	tests := []struct{ name, record, want string }{
		{"as exported", `{"key":"a","doc":{"x":1}}`, `a {"x":1} true`},
		{"the other way round", `{ "doc" : {} , "key" : "b" }`, `b {} true`},
		{"an escape in the key", `{"key":"\u00fc\/","doc":{}}`, `ü/ {} true`},
		{"a field besides", `{"key":"a","doc":{},"n":1}`, `  false`},
		{"twice the key", `{"key":"a","key":"b","doc":{}}`, `  false`},
		{"a key that is a number", `{"key":1,"doc":{}}`, `  false`},
		{"a document that is none", `{"key":"a","doc":[]}`, `  false`},
		{"names in other case", `{"Key":"a","DOC":{}}`, `  false`},
		{"not an object", `[1]`, `error: "[1]" is not an object`},
		{"half a surrogate pair", `{"key":"\ud800","doc":{}}`, `error: ` + errSurrogate.Error()},
		{"not UTF-8", "{\"key\":\"\xff\",\"doc\":{}}", `error: ` + errNotUTF8.Error()},
		{"a replacement character that was written", `{"key":"\uFFFD�","doc":{}}`, `�� {} true`},
	}
	for _, tt := range tests {
		key, doc, ok, err := Extract(Record{Bytes: []byte(tt.record)})
		got := fmt.Sprintf("%s %s %v", key, doc, ok)
		if err != nil {
			got = "error: " + err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestReaderReportsErrorsOfReading(t *testing.T) {
	broken := errors.New("cable pulled")
	r, err := NewReader(io.MultiReader(strings.NewReader("{\"a\":1}\n{\"b\""), iotest.ErrReader(broken)), "in", Lines)
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Next(); err != nil || string(rec.Bytes) != `{"a":1}` {
		t.Fatalf("%q, %v", rec.Bytes, err)
	}
	if _, err := r.Next(); !errors.Is(err, broken) {
		t.Errorf("%v, want the error of reading and not half a record", err)
	}
}
