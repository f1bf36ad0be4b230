package trace

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// handHash was computed by another program.
const handHash = "68072247129b8e7b"

const good = `{"commit":"a1","parents":[],"replica":"r01.1","time":1000,"state":"0123456789abcdef","ops":[` +
	`{"op":"put","key":"k","path":["a","b"],"value":[1,{"x":null}]},{"op":"del","key":"k","path":["c"]},{"op":"delete","key":"j"}]}`

func read(t *testing.T, text string) ([]*Line, error) {
	t.Helper()
	r, err := NewReader("t.jsonl", strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	var lines []*Line
	for {
		l, err := r.Next()
		if err == io.EOF {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		lines = append(lines, l)
	}
}

func TestReadLine(t *testing.T) {
	lines, err := read(t, "\n"+good+"\r\n\n"+good)
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	l := lines[0]
	if l.Number != 2 || lines[1].Number != 4 || l.Commit != "a1" || len(l.Parents) != 0 || l.Replica != "r01.1" || l.Time != 1000 || l.State != "0123456789abcdef" {
		t.Errorf("%+v", l)
	}
	if len(l.Ops) != 3 || l.Ops[0].Kind != Put || l.Ops[1].Kind != Remove || l.Ops[2].Kind != Delete {
		t.Fatalf("%+v", l.Ops)
	}
	if o := l.Ops[0]; o.Key != "k" || o.Path.String() != "/a/b" || o.At != "a\x00b\x00" || string(o.Value.AppendJSON(nil)) != `[1,{"x":null}]` {
		t.Errorf("%+v", o)
	}
	if o := l.Ops[2]; o.Key != "j" || o.At != "" || o.Path != nil {
		t.Errorf("%+v", o)
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	replaced := func(old, replacement string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("no %q", old)
		}
		return strings.Replace(good, old, replacement, 1)
	}
	for name, c := range map[string]struct{ line, want string }{
		"not JSON":              {`commit`, "not JSON"},
		"not an object":         {`[1]`, "want an object, not [1]"},
		"cut off":               {good[:len(good)-1], "it ends too early"},
		"two objects":           {good + "{}", "there is more after the end"},
		"not UTF-8":             {replaced("r01.1", "r\xff"), "it is not UTF-8"},
		"unknown member":        {replaced(`"time"`, `"author":"x","time"`), `"author" is not a known member`},
		"case matters":          {replaced(`"commit"`, `"Commit"`), `"Commit" is not a known member`},
		"twice":                 {replaced(`"time"`, `"commit":"b","time"`), "commit comes twice"},
		"missing":               {replaced(`"time":1000,`, ``), "time is missing"},
		"empty name":            {replaced(`"r01.1"`, `""`), "replica: \"\" has 0 bytes: want 1 to 128"},
		"name of another type":  {replaced(`"a1"`, `7`), "commit: want a string, not 7"},
		"parents":               {replaced(`"parents":[]`, `"parents":"a0"`), "parents: want an array, not \"a0\""},
		"one parent":            {replaced(`"parents":[]`, `"parents":["a0",{}]`), "parents[1]: want a string, not {}"},
		"time zero":             {replaced(`1000`, `0`), "time: 0 is not a time"},
		"time with a fraction":  {replaced(`1000`, `1e3`), "time: 1e3 is not a time"},
		"time beyond the clock": {replaced(`1000`, `281474976710656`), "time: 281474976710656 is not a time"},
		"short hash":            {replaced(`0123456789abcdef`, `0123`), `state: "0123" is not a hash`},
		"hash in capitals":      {replaced(`0123456789abcdef`, `0123456789ABCDEF`), "is not a hash"},
		"unknown op":            {replaced(`"delete"`, `"drop"`), `ops[2]: op: "drop" is none`},
		"unknown member of op":  {replaced(`"delete"`, `"delete","path2":[]`), `ops[2]: "path2" is not a known member`},
		"empty key":             {replaced(`"k"`, `""`), "ops[0].key: invalid document key"},
		"lone surrogate":        {replaced(`"k"`, `"\ud800"`), "ops[0].key: "},
		"path of another type":  {replaced(`["a","b"]`, `"a"`), `ops[0].path: want an array`},
		"element of a path":     {replaced(`["a","b"]`, `["a",1]`), `ops[0].path[1]: want a string, not 1`},
		"deep path":             {replaced(`["a","b"]`, `[`+strings.Repeat(`"a",`, 64)+`"a"]`), "path of 65 levels is over the limit of 64"},
		"long path":             {replaced(`["a","b"]`, `["`+strings.Repeat("a", 4096)+`"]`), "over the limit of 4096"},
		"put without a value":   {replaced(`,"value":[1,{"x":null}]`, ``), "ops[0]: value is missing: put needs it"},
		"del with a value":      {replaced(`"path":["c"]`, `"path":["c"],"value":1`), "ops[1]: value: del takes none"},
		"del without a path":    {replaced(`,"path":["c"]`, ``), "ops[1]: path is missing: del needs it"},
		"delete with a path":    {replaced(`"key":"j"`, `"key":"j","path":["a"]`), "ops[2]: path: delete takes none"},
		"object as a value":     {replaced(`[1,{"x":null}]`, `{"x":1}`), `ops[0].value: {"x":1} is not a value of one field`},
		"float with a zero":     {replaced(`[1,{"x":null}]`, `1.50`), "ops[0].value: 1.50 is not in the normal form, which is 1.5"},
		"escapes":               {replaced(`[1,{"x":null}]`, `"\u00e9"`), "not in the normal form"},
		"members out of order":  {replaced(`{"x":null}`, `{"y":1,"x":2}`), "not in the normal form"},
		"huge integer":          {replaced(`[1,{"x":null}]`, `9223372036854775808`), "ops[0].value: "},
		"large value":           {replaced(`[1,{"x":null}]`, `"`+strings.Repeat("a", 512<<10)+`"`), "over the limit of 524288"},
	} {
		_, err := read(t, good+"\n"+c.line)
		var e *Error
		if !errors.As(err, &e) || e.Line != 2 || !strings.HasPrefix(err.Error(), "t.jsonl: line 2: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
		if err != nil && len(err.Error()) > 400 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

func TestEveryTruncationIsAnError(t *testing.T) {
	for n := 1; n < len(good); n++ {
		if _, err := read(t, good[:n]); err == nil {
			t.Errorf("%q was taken", good[:n])
		}
	}
}

func TestLongLinesAndTheirLimit(t *testing.T) {
	long := strings.Replace(good, `"c"`, `"c"],"key":"k"},{"op":"put","key":"k","path":["l"],"value":"`+strings.Repeat("ä", 200<<10)+`"},{"op":"del","key":"k","path":["d"`, 1)
	long = strings.Replace(long, `,"path":["c"],"key":"k"`, `,"path":["c"]`, 1)
	lines, err := read(t, long+"\n"+good)
	if err != nil || len(lines) != 2 || len(lines[0].Ops) != 5 || len(lines[0].Ops[2].Value.Text()) != 400<<10 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	endless := io.MultiReader(strings.NewReader(good+"\n"), zeros{})
	r, err := NewReader("t.jsonl", endless)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if _, err = r.Next(); err == nil || !strings.Contains(err.Error(), "line 2: it is longer than 67108864 bytes") {
		t.Errorf("got %v", err)
	}
}

// zeros is text without an end.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func compress(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestCompressedTraces(t *testing.T) {
	packed := compress(t, good+"\n"+good)
	lines, err := read(t, string(packed))
	if err != nil || len(lines) != 2 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if _, err := read(t, string(packed[:len(packed)-9])); err == nil {
		t.Error("a file that was cut off was taken for whole")
	}
	if _, err := read(t, "\x1f\x8bnothing"); err == nil || !strings.Contains(err.Error(), "it begins like a gzip file and is none") {
		t.Errorf("got %v", err)
	}
}

func TestIndexRefusesWhatCannotBe(t *testing.T) {
	line := func(commit, parents string, time string) string {
		return `{"commit":"` + commit + `","parents":[` + parents + `],"replica":"r` + commit + `","time":` + time + `,"state":"e3b0c44298fc1c14","ops":[]}` + "\n"
	}
	a := line("a", "", "10")
	for name, c := range map[string]struct{ text, want string }{
		"unknown parent": {a + line("b", `"a","x"`, "20"), `line 2: parents[1]: "x" is not the commit of an earlier line`},
		"its own parent": {a + line("b", `"b"`, "20"), `line 2: parents[0]: "b" is not the commit of an earlier line`},
		"parent twice":   {a + line("b", `"a","a"`, "20"), `line 2: parents[1]: "a" comes twice`},
		"commit twice":   {a + line("a", ``, "20"), `line 2: commit "a" is that of line 1 already`},
		"same time":      {a + line("b", `"a"`, "10"), `line 2: parents[0]`},
	} {
		r, err := NewReader("t.jsonl", strings.NewReader(c.text))
		if err != nil {
			t.Fatal(err)
		}
		want := c.want
		if name == "same time" {
			want = `line 2: time: 10 is not above that of its parent "a", 10`
		}
		if _, err = readIndex("t.jsonl", r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
}

func TestHashIsThatOfTheFormat(t *testing.T) {
	if h := NewHash().String(); h != "e3b0c44298fc1c14" {
		t.Errorf("empty state: %s", h)
	}
	at := func(e ...string) crdt.PathKey {
		k, err := crdt.Path(e).Pack()
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	// "/a" sorts behind "/a!" as a path, and before it as a line, for the tab after it is smaller than "!".
	s := State{"k": {at("a"): crdt.IntValue(1), at("a!"): crdt.StringValue("é"), at("a", "b~/"): crdt.EmptyMapValue()}, "j": {at("x"): crdt.BoolValue(true)}}
	if h := s.Hash(); h != handHash {
		t.Errorf("hash %s, want %s", h, handHash)
	}
}

func TestExpectIsWhatTracesSay(t *testing.T) {
	files, err := filepath.Glob("../replay/testdata/*.jsonl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, path := range files {
		x, err := ReadIndex(path)
		if err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Lines {
			l, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			s, err := Expect(path, x, i)
			if err != nil {
				t.Fatal(err)
			}
			if h := s.Hash(); h != l.State {
				t.Errorf("%s: line %d: %s, want %s", path, l.Number, h, l.State)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadState(t *testing.T) {
	dir := t.TempDir()
	file := func(text string) string {
		path := filepath.Join(dir, "final.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := `{"k":{"a":{"b":[1],"c":{}},"d":null},"j":{"x":{}}}`
	for _, form := range []string{text, string(compress(t, text))} {
		s, err := ReadState(file(form))
		if err != nil || len(s) != 2 || len(s["k"]) != 3 || s["k"]["a\x00c\x00"] != crdt.EmptyMapValue() || len(s["j"]) != 1 {
			t.Errorf("%v, %v", s, err)
		}
	}
	for text, want := range map[string]string{
		``:                    "final.json: not JSON: it ends too early",
		`[]`:                  "want an object, not []",
		`{"":{"a":1}}`:        "invalid document key",
		`{"k":1}`:             `document "k": want an object, not 1`,
		`{"k":{"a":1,"a":2}}`: `document "k": /a comes twice`,
		`{"k":{},"k":{}}`:     `document "k" comes twice`,
		`{"k":{"a":1.0}} x`:   "",
		`{"k":{"a":` + strings.Repeat(`{"a":`, 70) + `1` + strings.Repeat(`}`, 70) + `}}`: `document "k": it is nested too deeply`,
	} {
		if _, err := ReadState(file(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: got %v, want %q", text, err, want)
		}
	}
	if _, err := parseState(strings.NewReader(text), 10); err == nil || !strings.Contains(err.Error(), "larger than 10 bytes") {
		t.Errorf("got %v", err)
	}
}

func TestDiffTellsTheFirstDifferences(t *testing.T) {
	one, two := crdt.IntValue(1), crdt.IntValue(2)
	want := State{"a": {"x\x00": one}, "b": {"x\x00": one, "y\x00": one}, "c": {"x\x00": one}}
	got := State{"a": {"x\x00": one}, "b": {"x\x00": two, "z\x00": one}, "d": {"x\x00": one}}
	found, documents := Diff(want, got, 4)
	var text []string
	for _, d := range found {
		text = append(text, d.String())
	}
	if strings.Join(text, "; ") != "b /x: 2, want 1; b /y: nothing, want 1; b /z: 1, want nothing; c /x: nothing, want 1" || documents != 3 {
		t.Errorf("%q in %d documents", text, documents)
	}
}
