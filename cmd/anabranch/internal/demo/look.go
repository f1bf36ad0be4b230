package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"golang.org/x/text/language"
	"golang.org/x/text/language/display"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func languageName(t language.Tag) string { return display.English.Languages().Name(t) }

// author returns the name of the node that has a ReplicaID.
func (d *demo) author(id crdt.ReplicaID) string {
	for _, n := range d.nodes {
		if n.r.ReplicaID() == id {
			return n.name
		}
	}
	return id.String()
}

// look reads at one node what became of the edits.
func (d *demo) look(ctx context.Context) error {
	h := &d.report.Healed
	n := d.nodes[0]
	for doc, err := range n.space.Scan(ctx, "") {
		if err != nil {
			return err
		}
		h.Documents++
		for range doc.Leaves() {
			h.Fields++
		}
		d.conflictsOf(doc)
		switch doc.Key {
		case regionKey(shared):
			h.Merged = d.fieldsOf(doc)
		case regionKey(deleted):
			h.Survived = d.fieldsOf(doc)
		case counterKey:
			edits, _ := doc.Get(crdt.Path{"edits"})
			h.Edits, _ = edits.(int64)
		}
	}
	return nil
}

func (d *demo) fieldsOf(doc *replica.Document) []Field {
	var fields []Field
	shown := make(map[crdt.PathKey]crdt.Value)
	for p, v := range doc.Leaves() {
		shown[p] = v
	}
	for f := range doc.Fields() {
		v, ok := shown[f.Path]
		if !ok {
			continue
		}
		for _, e := range f.Cell.Live {
			if e.Value == v {
				fields = append(fields, Field{f.Path.String(), text(v), d.author(e.Author)})
				break
			}
		}
	}
	return fields
}

func text(v crdt.Value) string {
	if v.Kind() == crdt.String {
		return v.Text()
	}
	return string(v.AppendJSON(nil))
}

// conflictsOf notes the fields of a document of which more than one value is kept.
func (d *demo) conflictsOf(doc *replica.Document) {
	h := &d.report.Healed
	for _, c := range doc.Conflicts() {
		kept := Written{text(c.Value), d.author(c.Author), c.Time.Wall()}
		if n := len(h.Conflicts); n > 0 && h.Conflicts[n-1].Key == doc.Key && h.Conflicts[n-1].Path == c.Path.String() {
			h.Conflicts[n-1].Kept = append(h.Conflicts[n-1].Kept, kept)
			continue
		}
		shown := Written{Value: text(c.Shown)}
		for f := range doc.Fields() {
			for _, e := range f.Cell.Live {
				if f.Path == c.ShownAt && e.Value == c.Shown {
					shown.Node, shown.Time = d.author(e.Author), e.Stamp.Wall()
				}
			}
		}
		h.Conflicts = append(h.Conflicts, Conflict{Key: doc.Key, Path: c.Path.String(), Shown: shown, Kept: []Written{kept}})
	}
}

// finish compares the nodes: their digests, which each keeps up as it goes, and what their documents show.
func (d *demo) finish(ctx context.Context) error {
	if d.opts.meddle != nil {
		if err := d.opts.meddle(d.nodes); err != nil {
			return err
		}
	}
	d.report.OK = true
	for i, n := range d.nodes {
		st, err := n.space.Status(ctx)
		if err != nil {
			return err
		}
		h := sha256.New()
		out := &d.report.Nodes[i]
		out.Digest, out.Documents = st.Digest.String(), 0
		for doc, err := range n.space.Scan(ctx, "") {
			if err != nil {
				return err
			}
			out.Documents++
			fmt.Fprintf(h, "%q %s\n", doc.Key, doc.AppendJSON(nil))
		}
		out.Contents = hex.EncodeToString(h.Sum(nil))[:16]
		first := &d.report.Nodes[0]
		if out.Digest != first.Digest || out.Contents != first.Contents || out.Documents == 0 {
			d.report.OK = false
		}
	}
	return nil
}
