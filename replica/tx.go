package replica

import (
	"errors"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
)

// Tx is a transaction in the making. It is valid only inside the function that it was passed to.
type Tx struct {
	space  *Space
	t      *docstore.Transaction
	failed error // the first error of a call; it fails the transaction
	ended  bool
}

var errTxEnded = errors.New("transaction has ended: a Tx is valid only inside the function that Update calls")

func (tx *Tx) end() { tx.ended = true }

// do runs one call. The first error sticks, so that a caller may ignore the errors of single calls.
func (tx *Tx) do(what, key string, call func() error) error {
	if tx.ended {
		return errTxEnded
	}
	if tx.failed != nil {
		return tx.failed
	}
	if err := call(); err != nil {
		tx.failed = fmt.Errorf("%s document %.80q: %w", what, key, err)
	}
	return tx.failed
}

// Doc names a document for the transaction. Nothing is read yet, and the document need not exist.
func (tx *Tx) Doc(key string) *TxDoc { return &TxDoc{tx: tx, key: key} }

// TxDoc is a document in a transaction. An error of any call fails the transaction.
type TxDoc struct {
	tx  *Tx
	key string
}

// Key returns the document's key.
func (d *TxDoc) Key() string { return d.key }

// Set writes v at path p: a scalar, a slice (kept whole, never merged inside), or a map or struct, which
// replaces the whole subtree, a field for each leaf. See crdt.Leaves for the Go types that it takes.
func (d *TxDoc) Set(p crdt.Path, v any) error {
	return d.tx.do("set "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err != nil {
			return err
		}
		leaves, err := crdt.Leaves(at, v)
		if err != nil {
			return err
		}
		return d.tx.t.SetLeaves(d.key, at, leaves)
	})
}

// SetLeaves is Set for a value that was flattened already, for instance by crdt.ParseJSON.
func (d *TxDoc) SetLeaves(p crdt.Path, leaves []crdt.Leaf) error {
	return d.tx.do("set "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err == nil {
			err = crdt.CheckLeaves(at, leaves)
		}
		if err != nil {
			return err
		}
		return d.tx.t.SetLeaves(d.key, at, leaves)
	})
}

// Remove removes what is at path p and below. A write that another replica makes meanwhile survives it. Removing
// what is not there is no change.
func (d *TxDoc) Remove(p crdt.Path) error {
	return d.tx.do("remove "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err != nil {
			return err
		}
		return d.tx.t.Remove(d.key, at)
	})
}

// Increment adds n, which may be negative, to the counter at path p. Concurrent increments add up.
func (d *TxDoc) Increment(p crdt.Path, n int64) error {
	return d.tx.do("increment "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err != nil {
			return err
		}
		return d.tx.t.Increment(d.key, at, n)
	})
}

// Replace makes the document show what v holds and nothing else. Only fields that differ are written, and those that are
// gone removed, so saving a whole document does not trample concurrent edits of other fields. v is a
// map, a struct, or the leaves that crdt.ParseJSON returns.
func (d *TxDoc) Replace(v any) error {
	return d.tx.do("replace", d.key, func() error {
		leaves, ok := v.([]crdt.Leaf)
		var err error
		if ok {
			err = crdt.CheckLeaves("", leaves)
		} else {
			leaves, err = crdt.Leaves("", v)
		}
		if err != nil {
			return err
		}
		return d.tx.t.Replace(d.key, leaves)
	})
}

// Delete removes the whole document. A write that another replica makes meanwhile survives it, and brings
// the document back with just that field.
func (d *TxDoc) Delete() error {
	return d.tx.do("delete", d.key, func() error { return d.tx.t.Remove(d.key, "") })
}

// Get returns what path p shows in the transaction: a Go value (see crdt.Document.Get); ok is false if nothing
// is there.
func (d *TxDoc) Get(p crdt.Path) (v any, ok bool, err error) {
	err = d.tx.do("read "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err != nil {
			return err
		}
		doc, err := d.tx.t.View(d.key, at)
		if err == nil {
			v, ok = doc.Get(p)
		}
		return err
	})
	return v, ok, err
}

// Document returns the whole document as the transaction sees it, with what it has changed so far. It must not be changed, nor kept beyond
// the transaction; one that does not exist is empty (see crdt.Document.IsLive). Cost: reading all of it.
func (d *TxDoc) Document() (doc *crdt.Document, err error) {
	err = d.tx.do("read", d.key, func() error {
		doc, err = d.tx.t.View(d.key, "")
		return err
	})
	return doc, err
}

// Conflicts returns the values at path p and below that were written concurrently and do not show. Writing the field, or
// removing it, in this transaction settles exactly these: one that arrives meanwhile stays.
func (d *TxDoc) Conflicts(p crdt.Path) (conflicts []crdt.Conflict, err error) {
	err = d.tx.do("read "+p.String()+" of", d.key, func() error {
		at, err := p.Pack()
		if err != nil {
			return err
		}
		doc, err := d.tx.t.View(d.key, "")
		if err != nil {
			return err
		}
		for _, c := range doc.Conflicts() {
			if at.Contains(c.Path) {
				conflicts = append(conflicts, c)
			}
		}
		return nil
	})
	return conflicts, err
}

// Exists reports whether the document has any field.
func (d *TxDoc) Exists() (ok bool, err error) {
	err = d.tx.do("read", d.key, func() error {
		doc, err := d.tx.t.View(d.key, "")
		ok = err == nil && doc.IsLive()
		return err
	})
	return ok, err
}
