package node

import (
	"encoding/json"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// MaxOps bounds the operations of one transaction.
const MaxOps = crdt.MaxTransactionDocuments

type parsedOp struct {
	path   crdt.Path
	leaves []crdt.Leaf
	rule   crdt.Rule // of OpSettle, unless it takes one value
	take   crdt.Dot
}

// Parse checks the operation, so that Commit fails only for reasons that depend on the store. It may be called
// before Commit, to know which of several operations is wrong.
func (op *Op) Parse() error {
	if op.parsed != nil {
		return nil
	}
	if err := crdt.CheckKey(op.Key); err != nil {
		return err
	}
	path, err := crdt.ParsePath(op.Path)
	if err != nil {
		return err
	}
	at, err := path.Pack()
	if err != nil {
		return err
	}
	p := &parsedOp{path: path}
	switch op.Op {
	case OpPut:
		p.leaves, err = crdt.ParseJSON(op.Value)
	case OpSet:
		if len(path) == 0 {
			p.leaves, err = crdt.ParseJSON(op.Value) // a document is an object, so that it can be exported
		} else {
			p.leaves, err = crdt.ParseJSONValue(at, op.Value)
		}
	case OpIncrement:
		if len(path) == 0 {
			err = fmt.Errorf("%w: a counter stands in a field of a document: give a path, as /visits", ErrRequest)
		}
	case OpSettle:
		if op.Take != "" {
			p.take, err = parseConflictID(op.Take)
		} else {
			p.rule, err = ParseRule(op.Rule)
		}
	case OpRemove:
	default:
		err = fmt.Errorf("%w: operation %.20q: want %s, %s, %s, %s or %s", ErrRequest, op.Op, OpPut, OpSet, OpRemove, OpIncrement, OpSettle)
	}
	if err == nil {
		op.parsed = p
	}
	return err
}

// apply makes the change in tx. The operation must have been parsed.
func (op *Op) apply(tx *replica.Tx) error {
	d := tx.Doc(op.Key)
	p := op.parsed
	switch op.Op {
	case OpPut:
		return d.Replace(p.leaves)
	case OpSet:
		return d.SetLeaves(p.path, p.leaves)
	case OpIncrement:
		return d.Increment(p.path, op.By)
	case OpSettle:
		return op.settle(d)
	}
	return d.Remove(p.path)
}

// At returns what a document, as JSON, shows at a path; ok is false if there is nothing.
func At(doc json.RawMessage, path crdt.Path) (value json.RawMessage, ok bool, err error) {
	leaves, err := crdt.ParseJSON(doc)
	if err != nil {
		return nil, false, fmt.Errorf("read the document: %w", err)
	}
	base, err := path.Pack()
	if err != nil {
		return nil, false, err
	}
	below := func(yield func(crdt.PathKey, crdt.Value) bool) {
		for _, l := range leaves {
			if base.Contains(l.Path) {
				ok = true
				if !yield(l.Path, l.Value) {
					return
				}
			}
		}
	}
	value = crdt.AppendLeavesJSON(nil, base, below)
	return value, ok, nil
}
