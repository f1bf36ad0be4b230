package gateway

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica"
)

// FuzzParseMessage: whatever comes, the parser ends, with a problem or a message within the limits, and says the same again.
func FuzzParseMessage(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(vectorDir, "messages.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v messageVectors
	if err := json.Unmarshal(text, &v); err != nil {
		f.Fatal(err)
	}
	for _, m := range v.Messages {
		f.Add([]byte(m.Text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		parsed, err := parseMessage(text)
		if err != nil {
			if p := problemOf(err); p.Code != CodeBadRequest && p.Code != CodeTooLarge {
				t.Errorf("%v is the problem %+v", err, p)
			}
			return
		}
		m, ok := parsed.(*pushMessage)
		if !ok {
			return
		}
		last := uint64(0)
		for _, tx := range m.Transactions {
			if tx.Seq <= last || tx.Seq > maxExact || tx.rejected != nil && (len(tx.Ops) > 0 || tx.rejected.Code == "") {
				t.Errorf("transaction %+v after %d", tx, last)
			}
			last = tx.Seq
			for _, op := range tx.Ops {
				checkOp(t, op)
			}
		}
	})
}

// checkOp reports an op that package replica would have to refuse.
func checkOp(t *testing.T, op replica.ClientOp) {
	err := errors.Join(crdt.CheckKey(op.Key), op.Path.Check())
	if op.Kind == replica.ClientSet {
		err = errors.Join(err, crdt.CheckLeaves(op.Path, op.Leaves))
		if len(op.Leaves) == 0 {
			t.Errorf("a set of nothing: %+v", op)
		}
	}
	for _, s := range op.Seen {
		if !op.Path.Contains(s.Path) && (op.Kind != replica.ClientSet || !s.Path.Contains(op.Path)) || s.Dot.IsZero() {
			t.Errorf("%+v has seen %+v", op, s)
		}
	}
	if err != nil {
		t.Errorf("%+v: %v", op, err)
	}
}

// FuzzValue: a value that is read is written so that it is read again as the same, and as what crdt reads from its own form.
func FuzzValue(f *testing.F) {
	for _, text := range []string{`{"a":{"$int":"9007199254740993"},"$$int":[{"$$$int":1}],"b":{"$bytes":"AAEC"}}`, `[1,-0.0,1e300,null,true]`, `{"\u0024int" : "7" }`, `{"$int":"07"}`, `{"$int":"1","x":2}`, `"$int"`, `{}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		leaves, err := parseValue("", text)
		if err != nil {
			return
		}
		var written []byte
		if len(leaves) == 1 && leaves[0].Path == "" {
			written = appendValue(nil, leaves[0].Value)
		} else {
			written = appendObject(nil, func(yield func(crdt.PathKey, crdt.Value) bool) {
				for _, l := range leaves {
					if !yield(l.Path, l.Value) {
						return
					}
				}
			})
		}
		again, err := parseValue("", written)
		if err != nil || !slices.Equal(leaves, again) {
			t.Errorf("%s is written %s, and read as %v, %v", text, written, again, err)
		}
		if len(leaves) == 1 && leaves[0].Path == "" {
			return // which package crdt takes for a document
		}
		plain := crdt.AppendLeavesJSON(nil, "", func(yield func(crdt.PathKey, crdt.Value) bool) {
			for _, l := range leaves {
				if !yield(l.Path, l.Value) {
					return
				}
			}
		})
		if own, err := crdt.ParseJSONValue("", plain); err != nil || !slices.Equal(leaves, own) {
			t.Errorf("%s is %s to package crdt, and read as %v, %v", text, plain, own, err)
		}
	})
}

// FuzzItem: of any document, a client makes from the item just what is live in it, and the JSON that package crdt writes.
func FuzzItem(f *testing.F) {
	text, err := os.ReadFile(filepath.Join(vectorDir, "items.json"))
	if err != nil {
		f.Fatal(err)
	}
	var v itemVectors
	if err := json.Unmarshal(text, &v); err != nil {
		f.Fatal(err)
	}
	for _, it := range v.Items {
		var fields []crdt.Field
		for _, field := range it.Document.Fields {
			p, err := parsePointer(field.Path)
			if err != nil {
				f.Fatal(err)
			}
			var c crdt.Cell
			for _, e := range field.Live {
				c.Live = append(c.Live, crdt.Entry{Dot: crdt.Dot{Replica: crdt.ReplicaID(e.Replica[15]), Time: 1}, Stamp: 1, Author: 1})
			}
			fields = append(fields, crdt.Field{Path: p, Cell: c})
		}
		f.Add("k", codec.AppendCells(nil, fields))
	}
	f.Fuzz(func(t *testing.T, key string, packed []byte) {
		fields, err := codec.ParseCells(packed)
		doc := crdt.NewDocument(fields)
		if err != nil || crdt.CheckKey(key) != nil || !doc.IsLive() {
			return
		}
		c := replica.Change{Key: key, Cursor: replica.Cursor{Feed: 1, Arrival: 2}, Document: &replica.Document{Key: key, Document: doc}}
		item := appendItem(nil, c)
		if err := conforms("eventChanges", slices.Concat([]byte(`{"items":[`), item, []byte(`],"cursor":"0"}`))); err != nil {
			t.Errorf("%s: %v", item, err)
		}
		read := readItem(t, item)
		checkCells(t, "fuzzed", c, read)
		var shown []crdt.Leaf
		for p, v := range doc.Leaves() {
			if v.Kind() == crdt.Counter {
				v = crdt.IntValue(v.Int())
			}
			shown = append(shown, crdt.Leaf{Path: p, Value: v})
		}
		if len(shown) == 1 && shown[0].Path == "" {
			return // a plain value in place of the document shows as a member
		}
		if !slices.Equal(shown, read.leaves) {
			t.Errorf("%v shows, and a client reads %v", shown, read.leaves)
		}
		if own, err := crdt.ParseJSON(doc.AppendJSON(nil)); err == nil && !slices.Equal(own, read.leaves) {
			t.Errorf("package crdt writes %s, the item is %s", doc.AppendJSON(nil), bytes.TrimSpace(read.doc))
		}
	})
}
