package gateway

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
)

// A client in Go, as plain as can be, against which the vectors and the channels are checked.

// clientDocument is what a client knows of a document from its item.
type clientDocument struct {
	key       string
	cursor    string
	deleted   bool
	large     int64
	doc       jsontext.Value
	leaves    []crdt.Leaf                 // of doc
	cells     map[crdt.PathKey][]crdt.Dot // what is live
	contested []string                    // paths of conflicts
	counters  []string                    // pointers of the leaves that are counters
}

type clientItem struct {
	Key       string                    `json:"key"`
	Cursor    string                    `json:"cursor"`
	Doc       jsontext.Value            `json:"doc"`
	Deleted   bool                      `json:"deleted"`
	Large     int64                     `json:"large"`
	Dots      map[string]jsontext.Value `json:"dots"`
	Counters  []string                  `json:"counters"`
	Conflicts []jsontext.Value          `json:"conflicts"`
	At        int64                     `json:"at"`
	Author    string                    `json:"author"`
}

func readItem(t *testing.T, text []byte) clientDocument {
	t.Helper()
	var it clientItem
	if err := json.Unmarshal(text, &it, json.RejectUnknownMembers(true)); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	d := clientDocument{key: it.Key, cursor: it.Cursor, deleted: it.Deleted, large: it.Large, doc: it.Doc, counters: it.Counters, cells: map[crdt.PathKey][]crdt.Dot{}}
	if it.Doc == nil {
		return d
	}
	for _, text := range it.Conflicts {
		var c struct {
			Path string `json:"path"`
		}
		if err := json.Unmarshal(text, &c); err != nil {
			t.Fatal(err)
		}
		d.contested = append(d.contested, c.Path)
	}
	var err error
	if d.leaves, err = parseValue("", it.Doc); err != nil {
		t.Fatalf("%s: %v", it.Doc, err)
	}
	rest := ""
	for dot, cells := range it.Dots {
		if string(cells) == "true" {
			if rest != "" {
				t.Errorf("%s: two dots are true", text)
			}
			rest = dot
			continue
		}
		var pointers []string
		if err := json.Unmarshal(cells, &pointers); err != nil {
			t.Fatal(err)
		}
		for _, p := range pointers {
			d.cells[pathKey(t, p)] = append(d.cells[pathKey(t, p)], dotOf(t, dot))
		}
	}
	for _, l := range d.leaves {
		if rest != "" && d.cells[l.Path] == nil {
			d.cells[l.Path] = []crdt.Dot{dotOf(t, rest)}
		}
	}
	for _, dots := range d.cells {
		slices.SortFunc(dots, crdt.Dot.Compare)
	}
	return d
}

func dotOf(t *testing.T, text string) crdt.Dot {
	t.Helper()
	d, err := parseDot(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// vectorEdit is what an application does to a document that it has read; one of the members.
type vectorEdit struct {
	Save      jsontext.Value `json:"save,omitzero"`
	Set       *pathValue     `json:"set,omitzero"`
	Remove    *pathValue     `json:"remove,omitzero"`
	Increment *pathValue     `json:"increment,omitzero"`
	Delete    *struct{}      `json:"delete,omitzero"`
}

type pathValue struct {
	Path  string         `json:"path"`
	Value jsontext.Value `json:"value,omitzero"`
	By    int64          `json:"by,omitzero"`
}

// edit returns the operations that an edit is.
func (d clientDocument) edit(t *testing.T, e vectorEdit) [][]byte {
	switch {
	case e.Save != nil:
		old := d.doc
		if old == nil {
			return [][]byte{d.set(nil, e.Save)}
		}
		return d.difference(t, nil, old, e.Save)
	case e.Set != nil:
		return [][]byte{d.set(pathKey(t, e.Set.Path).Path(), e.Set.Value)}
	case e.Remove != nil:
		return d.remove(pathKey(t, e.Remove.Path).Path())
	case e.Delete != nil:
		return d.remove(nil)
	case e.Increment != nil:
		return [][]byte{d.increment(e.Increment.Path, e.Increment.By)}
	}
	t.Fatal("no edit")
	return nil
}

func (d clientDocument) increment(path string, by int64) []byte {
	op := appendString([]byte(`{"op":"increment","key":`), d.key)
	op = appendString(append(op, `,"path":`...), path)
	return append(appendValue(append(op, `,"by":`...), crdt.IntValue(by)), '}')
}

// difference compares two values at a path: where both are objects with members, member by member.
func (d clientDocument) difference(t *testing.T, at crdt.Path, old, now jsontext.Value) [][]byte {
	a, b := members(t, old), members(t, now)
	if len(a) == 0 || len(b) == 0 {
		was, is := mustLeaves(t, old), mustLeaves(t, now)
		if slices.Equal(was, is) {
			return nil
		}
		if slices.Contains(d.counters, at.String()) && len(is) == 1 && is[0].Path == "" && is[0].Value.Kind() == crdt.Int {
			return [][]byte{d.increment(at.String(), is[0].Value.Int()-was[0].Value.Int())}
		}
		return [][]byte{d.set(at, now)}
	}
	var names []string
	for name := range a {
		names = append(names, name)
	}
	for name := range b {
		if a[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names) // bytewise, which is by code points
	var ops [][]byte
	for _, name := range names {
		p := append(slices.Clone(at), name)
		switch {
		case b[name] == nil:
			ops = append(ops, d.remove(p)...)
		case a[name] == nil:
			ops = append(ops, d.set(p, b[name]))
		default:
			ops = append(ops, d.difference(t, p, a[name], b[name])...)
		}
	}
	isRemove := func(op []byte) bool { return bytes.HasPrefix(op, []byte(`{"op":"remove"`)) }
	if slices.Contains(d.contested, at.String()) && slices.ContainsFunc(ops, isRemove) {
		return [][]byte{d.set(at, now)} // else what lies hidden here might show, once what was newer is gone
	}
	return ops
}

// members returns the members of an object under their true names; nil if it is a leaf.
func members(t *testing.T, v jsontext.Value) map[string]jsontext.Value {
	t.Helper()
	if v.Kind() != '{' {
		return nil
	}
	m := map[string]jsontext.Value{}
	if err := json.Unmarshal(v, &m); err != nil {
		t.Fatal(err)
	}
	if m[intName] != nil || m[bytesName] != nil {
		return nil
	}
	for name, value := range m {
		if trimmed := strings.TrimLeft(name, "$"); name[0:min(1, len(name))] == "$" && (trimmed == "int" || trimmed == "bytes") {
			delete(m, name)
			m["\x00"+name[1:]] = value // so that no other name is taken for it
		}
	}
	for name, value := range m {
		if strings.HasPrefix(name, "\x00") {
			delete(m, name)
			m[name[1:]] = value
		}
	}
	return m
}

func mustLeaves(t *testing.T, v jsontext.Value) []crdt.Leaf {
	t.Helper()
	leaves, err := parseValue("", v)
	if err != nil {
		t.Fatal(err)
	}
	return leaves
}

func (d clientDocument) set(at crdt.Path, value jsontext.Value) []byte {
	op := appendString([]byte(`{"op":"set","key":`), d.key)
	op = appendString(append(op, `,"path":`...), at.String())
	op = append(append(op, `,"value":`...), value...)
	return append(d.appendSeen(op, at, true), '}')
}

// remove is nothing where there is nothing.
func (d clientDocument) remove(at crdt.Path) [][]byte {
	op := appendString([]byte(`{"op":"remove","key":`), d.key)
	if len(at) == 0 {
		op = appendString([]byte(`{"op":"delete","key":`), d.key)
	} else {
		op = appendString(append(op, `,"path":`...), at.String())
	}
	seen := d.appendSeen(nil, at, false)
	if bytes.HasSuffix(seen, []byte("{}")) {
		return nil
	}
	return [][]byte{append(append(op, seen...), '}')}
}

func (d clientDocument) appendSeen(op []byte, at crdt.Path, above bool) []byte {
	base, err := at.Pack()
	if err != nil {
		panic(err)
	}
	seen := map[crdt.Dot][]crdt.PathKey{}
	for p, dots := range d.cells {
		if base.Contains(p) || above && p.Contains(base) {
			for _, dot := range dots {
				seen[dot] = append(seen[dot], p)
			}
		}
	}
	var dots []crdt.Dot
	for dot := range seen {
		dots = append(dots, dot)
	}
	slices.SortFunc(dots, crdt.Dot.Compare)
	op = append(op, `,"seen":{`...)
	for i, dot := range dots {
		if i > 0 {
			op = append(op, ',')
		}
		op = append(appendDot(append(op, '"'), dot), `":[`...)
		slices.Sort(seen[dot])
		for k, p := range seen[dot] {
			if k > 0 {
				op = append(op, ',')
			}
			op = appendString(op, p.String())
		}
		op = append(op, ']')
	}
	return append(op, '}')
}
