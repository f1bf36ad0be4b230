package gateway

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// maxBatchOps bounds the operations of a batch; a transaction has no more documents.
const maxBatchOps = crdt.MaxTransactionDocuments

// batchOp is one operation of a batch, as it is sent.
type batchOp struct {
	Op      string         `json:"op"`
	Key     string         `json:"key"`
	Path    string         `json:"path"`
	Value   jsontext.Value `json:"value"`
	By      *int64         `json:"by"`
	IfMatch *string        `json:"ifMatch"`
}

// batchRun is one that was checked.
type batchRun struct {
	key     string
	ifMatch *string
	change  func(*replica.TxDoc) error
}

// batchOps reads no more operations than there may be: each takes more room here than in the text.
type batchOps []batchOp

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (b *batchOps) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '[' {
		return errors.New("ops: want an array")
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != ']' {
		if len(*b) == maxBatchOps {
			return &crdt.LimitError{What: "batch", Size: maxBatchOps + 1, Limit: maxBatchOps, Unit: "operations"}
		}
		var op batchOp
		if err := json.UnmarshalDecode(d, &op, json.RejectUnknownMembers(true)); err != nil {
			return err
		}
		*b = append(*b, op)
	}
	_, err := d.ReadToken()
	return err
}

// parseBatch reads {"ops":[…]} and checks each operation, so that running them fails only for reasons that depend on the documents.
func parseBatch(text []byte) ([]batchRun, error) {
	var b struct {
		Ops batchOps `json:"ops"`
	}
	if err := json.Unmarshal(text, &b, json.RejectUnknownMembers(true)); err != nil {
		if errors.Is(err, crdt.ErrLimit) {
			return nil, err
		}
		return nil, badRequest(shorten(err.Error()))
	}
	if len(b.Ops) == 0 {
		return nil, badRequest(`want {"ops":[{"op":"put","key":…,"value":{…}},…]}`)
	}
	runs := make([]batchRun, len(b.Ops))
	for i := range b.Ops {
		var err error
		if runs[i], err = b.Ops[i].check(); err != nil {
			return nil, errorAt(i, err)
		}
	}
	return runs, nil
}

func (o *batchOp) check() (batchRun, error) {
	run := batchRun{key: o.Key, ifMatch: o.IfMatch}
	if err := crdt.CheckKey(o.Key); err != nil {
		return run, err
	}
	path, err := crdt.ParsePath(o.Path)
	if err != nil {
		return run, err
	}
	at, err := path.Pack()
	if err != nil {
		return run, err
	}
	needsValue := o.Op == "put" || o.Op == "patch" || o.Op == "set"
	switch {
	case needsValue != (o.Value != nil):
		return run, badRequest("value belongs to put, patch and set, and to no other operation")
	case o.By != nil && o.Op != "increment":
		return run, badRequest("by belongs to increment")
	case o.Path != "" && (o.Op == "put" || o.Op == "patch" || o.Op == "delete"):
		return run, badRequest("path belongs to set, remove and increment")
	}
	var leaves []crdt.Leaf
	switch o.Op {
	case "put", "patch":
		leaves, err = crdt.ParseJSON(o.Value)
		run.change = func(d *replica.TxDoc) error { return d.Replace(leaves) }
		if o.Op == "patch" {
			run.change = func(d *replica.TxDoc) error { return mergePatch(d, leaves) }
		}
	case "set":
		leaves, err = parseAt(at, o.Value)
		run.change = func(d *replica.TxDoc) error { return d.SetLeaves(path, leaves) }
	case "remove":
		run.change = func(d *replica.TxDoc) error { return d.Remove(path) }
	case "delete":
		run.change = func(d *replica.TxDoc) error { return d.Delete() }
	case "increment":
		if len(path) == 0 {
			return run, badRequest("a counter stands in a field: give a path, as /views")
		}
		by := int64(1)
		if o.By != nil {
			by = *o.By
		}
		run.change = func(d *replica.TxDoc) error { return d.Increment(path, by) }
	default:
		err = badRequest(fmt.Sprintf("op %.20q: want put, patch, set, remove, increment or delete", o.Op))
	}
	return run, err
}

// parseAt reads a value to be written at a path; at the empty one it is the document, an object.
func parseAt(at crdt.PathKey, value []byte) ([]crdt.Leaf, error) {
	if at == "" {
		return crdt.ParseJSON(value)
	}
	return crdt.ParseJSONValue(at, value)
}

func (o *batchRun) run(d *replica.TxDoc) error {
	if o.ifMatch == nil {
		return o.change(d)
	}
	doc, err := d.Document()
	if err != nil {
		return err
	}
	tag, want := etagOf(doc), *o.ifMatch
	if want != "*" && want != "" && !strings.HasPrefix(want, `"`) {
		want = `"` + want + `"`
	}
	if isMissing := tag == ""; isMissing != (want == "") || want != "*" && want != tag {
		return preconditionFailed(tag)
	}
	return o.change(d)
}

// mergePatch applies a JSON merge patch (RFC 7396), which was read as a document: a null removes, an array or a scalar is written, also if the
// same shows already, for that settles conflicts of the field; what the patch does not name is left alone.
func mergePatch(d *replica.TxDoc, patch []crdt.Leaf) error {
	if len(patch) == 1 && patch[0].Path == "" && patch[0].Value.Kind() != crdt.EmptyMap {
		return badRequest("a patch is an object")
	}
	var maps []crdt.PathKey // that are to be there in the end, if only as empty ones
	for _, l := range patch {
		var err error
		switch l.Value.Kind() {
		case crdt.Null:
			maps = append(maps, l.Path.Parent())
			err = d.Remove(l.Path.Path())
		case crdt.EmptyMap:
			maps = append(maps, l.Path)
		default:
			err = d.SetLeaves(l.Path.Path(), []crdt.Leaf{l})
		}
		if err != nil {
			return err
		}
	}
	if len(maps) == 0 {
		return nil
	}
	doc, err := d.Document()
	if err != nil {
		return err
	}
	for _, p := range missingMaps(doc, maps) {
		if err := d.SetLeaves(p.Path(), []crdt.Leaf{{Path: p, Value: crdt.EmptyMapValue()}}); err != nil {
			return err
		}
	}
	return nil
}

// missingMaps returns those of the paths, sorted, at which no map shows.
func missingMaps(doc *crdt.Document, maps []crdt.PathKey) []crdt.PathKey {
	shown := make(map[crdt.PathKey]bool)
	for p, v := range doc.Leaves() {
		if v.Kind() == crdt.EmptyMap {
			shown[p] = true
		}
		for p != "" && !shown[p.Parent()] {
			p = p.Parent()
			shown[p] = true
		}
	}
	var missing []crdt.PathKey
	for i := len(maps) - 1; i >= 0; i-- { // the deepest first: what is made there is there for those above
		p := maps[i]
		if shown[p] {
			continue
		}
		missing = append(missing, p)
		shown[p] = true
		for p != "" && !shown[p.Parent()] {
			p = p.Parent()
			shown[p] = true
		}
	}
	return missing
}
