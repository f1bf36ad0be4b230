package crdt_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// document returns a document of the given JSON text, written by one transaction.
func document(t testing.TB, text string) *crdt.Document {
	t.Helper()
	leaves, err := crdt.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var d crdt.Document
	d.Replace(at(1, 1), leaves)
	return &d
}

func TestJSONHasOneForm(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                          `{}`,
		" {\t\"a\" :\r\n 1 } \n":      `{"a":1}`,
		`{"b":1,"a":{"d":2,"c":3}}`:   `{"a":{"c":3,"d":2},"b":1}`,
		`{"a":{"b":{}},"c":{}}`:       `{"a":{"b":{}},"c":{}}`,
		`{"a":{"b":{"c":1}},"d":2}`:   `{"a":{"b":{"c":1}},"d":2}`,
		`{"a":{"x":1},"b":{"x":1}}`:   `{"a":{"x":1},"b":{"x":1}}`,
		`{"a":{"x":{"y":1},"z":2}}`:   `{"a":{"x":{"y":1},"z":2}}`,
		`{"":{"":0}}`:                 `{"":{"":0}}`,
		`{"a":null,"b":[true,false]}`: `{"a":null,"b":[true,false]}`,
		`{"a":[{"c":1,"b":[]},{}]}`:   `{"a":[{"b":[],"c":1},{}]}`,
		`{"a":9223372036854775807,"b":-9223372036854775808}`: `{"a":9223372036854775807,"b":-9223372036854775808}`,
		`{"a":-0,"b":-0.0}`:                            `{"a":0,"b":-0.0}`,
		`{"a":1.0,"b":1e3,"c":1E+2,"d":0.1,"e":-2.50}`: `{"a":1.0,"b":1000.0,"c":100.0,"d":0.1,"e":-2.5}`,
		`{"a":1e21,"b":1e-7,"c":123456789012345678901234e0,"d":1e-6,"e":5e-324,"f":1e-300}`: `{"a":1e+21,"b":1e-7,"c":1.2345678901234569e+23,"d":0.000001,"e":5e-324,"f":1e-300}`,
		`{"a":0e5,"b":0.000e-999}`:                                  `{"a":0.0,"b":0.0}`,
		`{"a":"\u00e9\u2028\/\b\f\n\r\t\u0000\u001f\\\"<>&\u007f"}`: "{\"a\":\"é\u2028/\\b\\f\\n\\r\\t\\u0000\\u001f\\\\\\\"<>&\u007f\"}",
		`{"a":"\ud83d\ude00😀"}`:                                     `{"a":"😀😀"}`,
		`{"\u0061":1}`:                                              `{"a":1}`,
		`{"é":1,"z":2}`:                                             `{"z":2,"é":1}`,
		`{"a":{"$bytes":"AP8="},"b":[{"$bytes":""}]}`:               `{"a":{"$bytes":"AP8="},"b":[{"$bytes":""}]}`,
		`{"$$bytes":1,"$$$bytes":[{"$$bytes":"x","y":1}]}`:          `{"$$$bytes":[{"$$bytes":"x","y":1}],"$$bytes":1}`,
		`{"$byte":1,"bytes":2,"$ bytes":3}`:                         `{"$ bytes":3,"$byte":1,"bytes":2}`,
	} {
		leaves, err := crdt.ParseJSON([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var d crdt.Document
		d.Replace(at(1, 1), leaves)
		if got := string(d.AppendJSON(nil)); got != want {
			t.Errorf("%s becomes\n%s, want\n%s", text, got, want)
		}
		if !json.Valid(d.AppendJSON(nil)) {
			t.Errorf("%s becomes what is no JSON", text)
		}
	}
}

func TestJSONOfNothingIsAnEmptyObject(t *testing.T) {
	if got := string(new(crdt.Document).AppendJSON(nil)); got != "{}" {
		t.Errorf("got %s", got)
	}
	if got := string(set(1, 1, crdt.IntValue(3)).AppendJSON(nil)); got != `{"":3}` {
		t.Errorf("a value at the root is %s", got)
	}
}

func TestNamesOfBytesAreEscaped(t *testing.T) {
	leaves, err := crdt.ParseJSON([]byte(`{"$$bytes":1,"a":{"$bytes":"AP8="}}`))
	if err != nil || len(leaves) != 2 || leaves[0].Path != pack("$bytes") || leaves[1].Value != crdt.BytesValue([]byte{0, 255}) {
		t.Errorf("leaves %v, error %v", leaves, err)
	}
}

func TestNumbersAreExactOrRefused(t *testing.T) {
	for text, want := range map[string]crdt.Value{
		"9007199254740993": crdt.IntValue(9007199254740993), "-9007199254740993": crdt.IntValue(-9007199254740993),
		"1.0": crdt.FloatValue(1), "1e2": crdt.FloatValue(100), "-0.0": crdt.FloatValue(math.Copysign(0, -1)), "-0": crdt.IntValue(0),
		"1.7976931348623157e308": crdt.FloatValue(math.MaxFloat64), "4.9e-324": crdt.FloatValue(math.SmallestNonzeroFloat64),
		"9007199254740993.0": crdt.FloatValue(9007199254740992),
	} {
		v, err := crdt.ParseJSONElement([]byte(text))
		if err != nil || v != want {
			t.Errorf("%s is %v (%s), error %v", text, v.Any(), v.Kind(), err)
		}
	}
	for _, text := range []string{"9223372036854775808", "-9223372036854775809", "1e400", "-1e309", "1e-400", "0.00001e-999999999999", "123456789012345678901234567890"} {
		if v, err := crdt.ParseJSONElement([]byte(text)); !errors.Is(err, crdt.ErrValue) {
			t.Errorf("%s is %v, error %v", text, v.Any(), err)
		}
	}
}

func TestParseJSONRefuses(t *testing.T) {
	long := strings.Repeat("x", crdt.MaxValueBytes)
	for name, c := range map[string]struct {
		text    string
		want    error
		message string
	}{
		"nothing":                  {``, crdt.ErrJSON, `line 1, byte 0, at "": invalid JSON: it ends where a value should stand`},
		"a text that is cut":       {`{"a":{"b":[1,`, crdt.ErrJSON, `line 1, byte 13, at "/a/b/1": `},
		"no object":                {` [1]`, crdt.ErrJSON, `byte 1`},
		"a number":                 {`7`, crdt.ErrJSON, `must be an object`},
		"binary data":              {`{"$bytes":"AA=="}`, crdt.ErrJSON, `must be an object`},
		"text after the end":       {"{}\n{}", crdt.ErrJSON, `line 2, byte 3`},
		"a comma too much":         {`{"a":1,}`, crdt.ErrJSON, `'}' stands where a name`},
		"a comma too much, array":  {`{"a":[1,]}`, crdt.ErrJSON, `']' stands where a value`},
		"a comma alone":            {`{,}`, crdt.ErrJSON, `a name`},
		"no comma":                 {`{"a":1 "b":2}`, crdt.ErrJSON, `a comma or }`},
		"no colon":                 {`{"a" 1}`, crdt.ErrJSON, `a colon`},
		"a name without quotes":    {`{a:1}`, crdt.ErrJSON, `'a' stands where a name`},
		"single quotes":            {`{'a':1}`, crdt.ErrJSON, `a name`},
		"a comment":                {`{"a":1} // x`, crdt.ErrJSON, `after the end`},
		"a word":                   {`{"a":nul}`, crdt.ErrJSON, `at "/a"`},
		"NaN":                      {`{"a":NaN}`, crdt.ErrJSON, `a value`},
		"a plus":                   {`{"a":+1}`, crdt.ErrJSON, `a value`},
		"a leading zero":           {`{"a":01}`, crdt.ErrJSON, `begins with 0`},
		"a leading point":          {`{"a":.5}`, crdt.ErrJSON, `a value`},
		"a trailing point":         {`{"a":1.}`, crdt.ErrJSON, `a digit`},
		"no exponent":              {`{"a":1e}`, crdt.ErrJSON, `a digit`},
		"a minus":                  {`{"a":-}`, crdt.ErrJSON, `a digit`},
		"a large integer":          {"{\"a\":\n[1,{\"b\":9223372036854775808}]}", crdt.ErrValue, `line 2, byte 14, at "/a/1/b": invalid value: integer 9223372036854775808 is beyond 64 bits`},
		"a large float":            {`{"a":1e400}`, crdt.ErrValue, `beyond the range`},
		"a name twice":             {`{"a":1,"b":{"x":1,"c":1,"x":2}}`, crdt.ErrJSON, `byte 24, at "/b/x": invalid JSON: the name "x" occurs twice`},
		"a name twice, nested":     {`{"a":{"b":1},"a":{"c":1}}`, crdt.ErrJSON, `occurs twice`},
		"a name twice, escaped":    {`{"a":1,"\u0061":1}`, crdt.ErrJSON, `occurs twice`},
		"a name twice, in arrays":  {`{"z":[{"a":1,"a":1}]}`, crdt.ErrJSON, `at "/z/0/a"`},
		"half a character":         {`{"a":"\ud83d"}`, crdt.ErrJSON, `byte 6, at "/a": invalid JSON: lone surrogate \ud83d`},
		"half a character, second": {`{"a":"\ude00"}`, crdt.ErrJSON, `lone surrogate`},
		"two first halves":         {`{"a":"\ud83d\ud83d"}`, crdt.ErrJSON, `lone surrogate`},
		"half a name":              {`{"\ud83d":1}`, crdt.ErrJSON, `lone surrogate`},
		"a string without end":     {`{"a":"x`, crdt.ErrJSON, `no end`},
		"an escape without end":    {`{"a":"\`, crdt.ErrJSON, `escape`},
		"an escape cut short":      {`{"a":"\u12`, crdt.ErrJSON, `cut short`},
		"an unknown escape":        {`{"a":"\x41"}`, crdt.ErrJSON, `unknown escape`},
		"no hex digit":             {`{"a":"\u12g4"}`, crdt.ErrJSON, `no hex digit`},
		"a control character":      {"{\"a\":\"\n\"}", crdt.ErrJSON, `control character 0x0a`},
		"one after an escape":      {"{\"a\":\"\\n\n\"}", crdt.ErrJSON, `control character 0x0a`},
		"no UTF-8":                 {"{\"a\":\"\xff\"}", crdt.ErrJSON, `UTF-8`},
		"a surrogate in UTF-8":     {"{\"a\":\"\\n\xed\xa0\x80\"}", crdt.ErrJSON, `UTF-8`},
		"no UTF-8 in a name":       {"{\"\xff\":1}", crdt.ErrJSON, `UTF-8`},
		"bytes beside others":      {`{"a":{"$bytes":"","b":1}}`, crdt.ErrJSON, `only member`},
		"others beside bytes":      {`{"a":{"b":1,"$bytes":""}}`, crdt.ErrJSON, `only member`},
		"bytes that are a number":  {`{"a":{"$bytes":1}}`, crdt.ErrJSON, `base64`},
		"bytes that are no base64": {`{"a":{"$bytes":"A"}}`, crdt.ErrJSON, `base64`},
		"base64 with a newline":    {`{"a":{"$bytes":"AA\n=="}}`, crdt.ErrJSON, `base64`},
		"base64 with loose bits":   {`{"a":{"$bytes":"AB=="}}`, crdt.ErrJSON, `base64`},
		"65 levels":                {strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65), crdt.ErrLimit, `65 levels`},
		"65 levels of arrays":      {`{"a":` + strings.Repeat(`[`, 65) + strings.Repeat("]", 65) + `}`, crdt.ErrLimit, `65 levels`},
		"a million levels":         {`{"a":` + strings.Repeat(`[`, 1<<20), crdt.ErrLimit, `65 levels`},
		"a million levels of maps": {strings.Repeat(`{"a":`, 1<<20), crdt.ErrLimit, `65 levels`},
		"a long name":              {`{"` + strings.Repeat("n", crdt.MaxPathBytes) + `":1}`, crdt.ErrLimit, `4097 bytes`},
		"a long value":             {`{"a":"` + long + `"}`, crdt.ErrLimit, `value of`},
	} {
		t.Run(name, func(t *testing.T) {
			leaves, err := crdt.ParseJSON([]byte(c.text))
			var at *crdt.JSONError
			if !errors.As(err, &at) || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.message) {
				t.Errorf("leaves %.3v, error %v; want one with %q that wraps %q", leaves, err, c.message, c.want)
			}
		})
	}
}

func TestDeepestJSON(t *testing.T) {
	deep := strings.Repeat(`{"a":`, 64) + strings.Repeat("[", 64) + strings.Repeat("]", 64) + strings.Repeat("}", 64)
	if got := string(document(t, deep).AppendJSON(nil)); got != deep {
		t.Errorf("the deepest document becomes %s", got)
	}
}

func TestParseJSONValueStandsAtItsPath(t *testing.T) {
	leaves, err := crdt.ParseJSONValue(pack("p"), []byte(`{"b":[1],"a":{"c":{}}}`))
	want := []crdt.Leaf{leaf(crdt.EmptyMapValue(), "p", "a", "c"), leaf(crdt.ArrayValue(crdt.IntValue(1)), "p", "b")}
	if err != nil || len(leaves) != 2 || leaves[0] != want[0] || leaves[1] != want[1] {
		t.Errorf("leaves %v, error %v", leaves, err)
	}
	_, err = crdt.ParseJSONValue(pack("p", "q/r"), []byte(`[1,x]`))
	if err == nil || !strings.Contains(err.Error(), `at "/p/q~1r/1"`) {
		t.Errorf("the error does not name the path: %v", err)
	}
}

// sharedData finds the folder of recorded edit histories beside the repository.
func sharedData(t testing.TB) []string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for range 6 {
		dir = filepath.Dir(dir)
		if found, _ := filepath.Glob(filepath.Join(dir, "shared", "data", "*", "trace.jsonl.gz")); len(found) > 0 {
			return found
		}
	}
	t.Skip("no folder shared/data with recorded edit histories")
	return nil
}

// TestRecordedValuesKeepTheirBytes: the values of the recorded histories are in our normal form.
func TestRecordedValuesKeepTheirBytes(t *testing.T) {
	for _, name := range sharedData(t) {
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { file.Close() })
		unzipped, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(unzipped)
		lines.Buffer(nil, 16<<20)
		values := 0
		for lines.Scan() {
			var line struct {
				Ops []struct {
					Path  []string
					Value json.RawMessage
				}
			}
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatal(err)
			}
			for _, op := range line.Ops {
				if op.Value == nil {
					continue
				}
				values++
				leaves, err := crdt.ParseJSONValue(pack(op.Path...), op.Value)
				if err != nil || len(leaves) != 1 || leaves[0].Path != pack(op.Path...) {
					t.Fatalf("%s: %d leaves, error %v", op.Value, len(leaves), err)
				}
				if got := leaves[0].Value.AppendJSON(nil); string(got) != string(op.Value) {
					t.Fatalf("%s becomes %s", op.Value, got)
				}
			}
		}
		if err := lines.Err(); err != nil || values == 0 {
			t.Fatalf("%s: %d values, error %v", name, values, err)
		}
		t.Logf("%s: %d values", filepath.Base(filepath.Dir(name)), values)
	}
}

// FuzzParseJSON: what is read is written in one form, which is read as the same; and encoding/json agrees on what is valid.
func FuzzParseJSON(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,1.5,"x",null,{"b":{}}]}`, `{"a":{"$bytes":"AP8="},"$$bytes":1}`, `{"a":"\ud83d\ude00","b":-0.0e5}`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		leaves, err := crdt.ParseJSON(b)
		if err != nil {
			var at *crdt.JSONError
			if !errors.As(err, &at) {
				t.Fatalf("error %v is not of the documented type", err)
			}
			return
		}
		if !json.Valid(b) {
			t.Fatalf("%q parses, but is no JSON", b)
		}
		var d crdt.Document
		d.Replace(at(1, 1), leaves)
		written := d.AppendJSON(nil)
		again, err := crdt.ParseJSON(written)
		if err != nil || len(again) != len(leaves) {
			t.Fatalf("%q is written as %q, which parses as %v, error %v", b, written, again, err)
		}
		for i := range again {
			if again[i] != leaves[i] {
				t.Fatalf("%q is written as %q, which differs at %s", b, written, leaves[i].Path)
			}
		}
	})
}
