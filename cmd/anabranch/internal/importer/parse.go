package importer

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
	"github.com/anabranch-db/anabranch/crdt"
)

// parse makes a record an operation that is sure to be well-formed.
func (im *importer) parse(rec records.Record) (node.Op, error) {
	op := node.Op{Op: node.OpPut}
	switch {
	case im.reader.Format() == records.Object:
		op.Key, op.Value = rec.Key, bytes.Clone(rec.Bytes)
	case im.o.Key != "":
		op.Value = bytes.Clone(rec.Bytes)
		var err error
		if op.Key, err = keyIn(op.Value, im.o.Key); err != nil {
			return op, err
		}
	default:
		key, doc, ok, err := records.Extract(rec)
		if err != nil {
			return op, err
		}
		if !ok {
			if _, err := crdt.ParseJSON(rec.Bytes); err != nil {
				return op, err // what is wrong with the text says more than that it has no key
			}
			return op, records.ErrNoKey
		}
		op.Key, op.Value = key, bytes.Clone(doc)
		return op, inside(rec.Bytes, doc, op.Parse())
	}
	return op, op.Parse()
}

// inside turns the line of an error in doc, which is a part of record, into one of record.
func inside(record, doc []byte, err error) error {
	var in *crdt.JSONError
	if !errors.As(err, &in) {
		return err
	}
	placed := *in
	placed.Line += bytes.Count(record[:cap(record)-cap(doc)], []byte("\n"))
	return &placed
}

// keyIn returns the text or the whole number in the field of a document that holds its key. field is a name or a JSON pointer.
func keyIn(doc []byte, field string) (string, error) {
	leaves, err := crdt.ParseJSON(doc)
	if err != nil {
		return "", err
	}
	path := crdt.Path{field}
	if strings.HasPrefix(field, "/") {
		if path, err = crdt.ParsePath(field); err != nil {
			return "", err
		}
	}
	at, err := path.Pack()
	if err != nil {
		return "", err
	}
	for _, l := range leaves {
		if l.Path != at {
			continue
		}
		switch l.Value.Kind() {
		case crdt.String:
			return l.Value.Text(), nil
		case crdt.Int:
			return strconv.FormatInt(l.Value.Int(), 10), nil
		}
		return "", fmt.Errorf("the field %s, which holds the key, is of kind %s: want a text or a whole number", path, l.Value.Kind())
	}
	return "", fmt.Errorf("there is no field %s, which is to hold the key", path)
}
