package gateway

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica"
)

// The vectors in testdata/gateway/v1 are for clients in every language; its README says what is in them. -update computes the outputs anew from the
// inputs: say in the commit why they changed.
var update = flag.Bool("update", false, "write the outputs of testdata/gateway/v1 anew")

const vectorDir = "../../testdata/gateway/v1"

// vectors reads a file of vectors, runs the test on it, which computes the outputs, and compares.
func vectors[T any](t *testing.T, name string, compute func(*testing.T, *T)) {
	t.Helper()
	file := filepath.Join(vectorDir, name)
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := new(T)
	if err := json.Unmarshal(want, v, json.RejectUnknownMembers(true)); err != nil {
		t.Fatal(err)
	}
	compute(t, v)
	got, err := json.Marshal(v, jsontext.Multiline(true), jsontext.WithIndent(" "), json.Deterministic(true))
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	switch {
	case bytes.Equal(got, want):
	case *update:
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
		for i := range a {
			if i >= len(b) || a[i] != b[i] {
				t.Fatalf("%s, line %d\n got %s\nwant %s", name, i+1, strings.Join(a[i:min(i+5, len(a))], "\n"), strings.Join(b[min(i, len(b)):min(i+5, len(b))], "\n"))
			}
		}
		t.Fatalf("%s has more lines than are made", name)
	}
}

type itemVectors struct {
	Items []struct {
		Name     string              `json:"name"`
		Document vectorDocument      `json:"document"`
		Item     string              `json:"item"`
		Cells    map[string][]string `json:"cells"`
		Leaves   [][2]jsontext.Value `json:"leaves"`
	} `json:"items"`
}

type vectorDocument struct {
	Key    string `json:"key"`
	Cursor string `json:"cursor"`
	Fields []struct {
		Path     string        `json:"path"`
		Live     []vectorEntry `json:"live,omitempty"`
		Observed []vectorEntry `json:"observed,omitempty"`
	} `json:"fields"`
}

type vectorEntry struct {
	Replica string         `json:"replica"`
	Time    int64          `json:"time"`
	Logical int            `json:"logical,omitzero"`
	Stamp   int64          `json:"stamp,omitzero"`
	Author  string         `json:"author,omitzero"`
	Value   jsontext.Value `json:"value,omitzero"`
	Counter *int64         `json:"counter,omitzero"`
}

func (e vectorEntry) dot(t *testing.T) crdt.Dot {
	return crdt.Dot{Replica: hexID(t, e.Replica), Time: hlc.FromUnixMilli(e.Time) + hlc.Time(e.Logical)}
}

func hexID(t *testing.T, s string) crdt.ReplicaID {
	t.Helper()
	id, err := parseClientID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (e vectorEntry) entry(t *testing.T) crdt.Entry {
	d := e.dot(t)
	entry := crdt.Entry{Dot: d, Stamp: d.Time, Author: d.Replica}
	if e.Stamp != 0 {
		entry.Stamp = hlc.FromUnixMilli(e.Stamp)
	}
	if e.Author != "" {
		entry.Author = hexID(t, e.Author)
	}
	if e.Counter != nil {
		entry.Value = crdt.CounterValue(*e.Counter)
		return entry
	}
	leaves, err := crdt.ParseJSONValue("", e.Value)
	if err != nil || len(leaves) != 1 {
		t.Fatalf("%s: %d leaves, %v", e.Value, len(leaves), err)
	}
	entry.Value = leaves[0].Value
	return entry
}

// change returns the document as a change.
func (d vectorDocument) change(t *testing.T) replica.Change {
	t.Helper()
	cursor, err := replica.ParseCursor(d.Cursor)
	if err != nil {
		t.Fatal(err)
	}
	var fields []crdt.Field
	for _, f := range d.Fields {
		field := crdt.Field{Path: pathKey(t, f.Path)}
		for _, e := range f.Live {
			field.Cell.Live = append(field.Cell.Live, e.entry(t))
		}
		for _, e := range f.Observed {
			field.Cell.Observed.Advance(e.dot(t))
		}
		if err := field.Cell.Check(); err != nil {
			t.Fatal(err)
		}
		fields = append(fields, field)
	}
	if !slices.IsSortedFunc(fields, func(a, b crdt.Field) int { return strings.Compare(string(a.Path), string(b.Path)) }) {
		t.Fatal("the fields are not in order")
	}
	doc := crdt.NewDocument(fields)
	c := replica.Change{Key: d.Key, Cursor: cursor}
	if doc.IsLive() {
		c.Document = &replica.Document{Key: d.Key, Cursor: cursor, Document: doc}
	}
	return c
}

func pathKey(t *testing.T, pointer string) crdt.PathKey {
	t.Helper()
	p, err := parsePointer(pointer)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestItemVectors(t *testing.T) {
	vectors(t, "items.json", func(t *testing.T, v *itemVectors) {
		for i := range v.Items {
			it := &v.Items[i]
			c := it.Document.change(t)
			it.Item = string(appendItem(nil, c))
			read := readItem(t, []byte(it.Item))
			it.Cells, it.Leaves = map[string][]string{}, [][2]jsontext.Value{}
			for p, dots := range read.cells {
				for _, d := range dots {
					it.Cells[p.String()] = append(it.Cells[p.String()], string(appendDot(nil, d)))
				}
			}
			for _, l := range read.leaves {
				it.Leaves = append(it.Leaves, [2]jsontext.Value{appendString(nil, l.Path.String()), appendValue(nil, l.Value)})
			}
			checkCells(t, it.Name, c, read)
		}
	})
}

// checkCells compares what a client makes of an item with the document.
func checkCells(t *testing.T, name string, c replica.Change, read clientDocument) {
	t.Helper()
	cells := 0
	if c.Document != nil {
		for f := range c.Document.Fields() {
			var dots []crdt.Dot
			for _, e := range f.Cell.Live {
				dots = append(dots, e.Dot)
			}
			if len(dots) > 0 {
				cells++
			}
			if !slices.Equal(read.cells[f.Path], dots) {
				t.Errorf("%s: at %q a client sees %v, there are %v", name, f.Path, read.cells[f.Path], dots)
			}
		}
	}
	if cells != len(read.cells) {
		t.Errorf("%s: a client sees %d live cells, there are %d", name, len(read.cells), cells)
	}
}

type messageVectors struct {
	Messages []struct {
		Name   string         `json:"name"`
		Text   string         `json:"text"`
		Parsed jsontext.Value `json:"parsed,omitzero"`
		Code   string         `json:"code,omitzero"`
	} `json:"messages"`
}

func TestMessageVectors(t *testing.T) {
	vectors(t, "messages.json", func(t *testing.T, v *messageVectors) {
		for i := range v.Messages {
			m := &v.Messages[i]
			m.Parsed, m.Code = nil, ""
			parsed, err := parseMessage([]byte(m.Text))
			if err != nil {
				var p *Problem
				if !errors.As(err, &p) {
					t.Fatalf("%s: %v", m.Name, err)
				}
				m.Code = p.Code
				continue
			}
			var what any
			switch parsed := parsed.(type) {
			case *helloMessage:
				what = struct {
					Type string `json:"type"`
					helloMessage
				}{"hello", *parsed}
			case *tokenMessage:
				what = map[string]any{"type": "token", "token": parsed.Token}
			case *subscribeMessage:
				what = describeSubscribe(parsed)
			case *creditMessage:
				what = map[string]any{"type": "credit", "sub": parsed.Sub, "add": parsed.Add}
			case *unsubscribeMessage:
				what = map[string]any{"type": "unsubscribe", "sub": parsed.Sub}
			case *pingMessage:
				what = map[string]any{"type": "ping", "n": parsed.N}
			case *pushMessage:
				what = describePush(parsed)
			}
			if m.Parsed, err = json.Marshal(what, json.Deterministic(true)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func describeSubscribe(m *subscribeMessage) any {
	d := map[string]any{"type": "subscribe", "sub": m.Sub, "space": m.Space, "credit": m.Credit, "since": m.Since.String(), "checkpoints": m.Checkpoints, "prefix": m.Filter.prefix}
	if m.Filter.keys != nil {
		d["keys"] = m.Filter.keys
	}
	if m.Vector != nil {
		var all []string
		for dot := range m.Vector.All() {
			all = append(all, string(appendDot(nil, dot)))
		}
		d["vector"] = all
	}
	return d
}

func describePush(m *pushMessage) any {
	txs := []any{}
	for _, t := range m.Transactions {
		if t.rejected != nil {
			txs = append(txs, map[string]any{"seq": t.Seq, "rejected": t.rejected.Code})
			continue
		}
		ops := []any{}
		for _, op := range t.Ops {
			ops = append(ops, describeOp(op))
		}
		txs = append(txs, map[string]any{"seq": t.Seq, "at": t.At.UnixMilli(), "force": t.Force, "ops": ops})
	}
	return map[string]any{
		"type": "push", "space": m.Space, "node": m.Node, "client": m.Client.String(), "floor": m.Floor, "replicate": m.Replicate, "transactions": txs,
	}
}

func describeOp(op replica.ClientOp) any {
	d := map[string]any{"key": op.Key, "path": op.Path.String()}
	seen := [][2]string{}
	for _, s := range op.Seen {
		seen = append(seen, [2]string{s.Path.String(), string(appendDot(nil, s.Dot))})
	}
	switch op.Kind {
	case replica.ClientSet:
		leaves := [][2]jsontext.Value{}
		for _, l := range op.Leaves {
			leaves = append(leaves, [2]jsontext.Value{appendString(nil, l.Path.String()), appendValue(nil, l.Value)})
		}
		d["op"], d["leaves"], d["seen"] = "set", leaves, seen
	case replica.ClientRemove:
		d["op"], d["seen"] = "remove", seen
	case replica.ClientIncrement:
		d["op"], d["by"] = "increment", jsontext.Value(appendValue(nil, crdt.IntValue(op.By)))
	}
	return d
}

type editVectors struct {
	Cases []struct {
		Name string           `json:"name"`
		Item jsontext.Value   `json:"item"`
		Edit vectorEdit       `json:"edit"`
		Ops  []jsontext.Value `json:"ops"`
	} `json:"cases"`
}

func TestEditVectors(t *testing.T) {
	vectors(t, "edits.json", func(t *testing.T, v *editVectors) {
		for i := range v.Cases {
			c := &v.Cases[i]
			c.Ops = []jsontext.Value{}
			for _, op := range readItem(t, c.Item).edit(t, c.Edit) {
				c.Ops = append(c.Ops, jsontext.Value(op))
				if _, err := parseOp(op); err != nil {
					t.Errorf("%s: the node refuses %s: %v", c.Name, op, err)
				}
			}
		}
	})
}
