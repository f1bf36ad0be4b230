package docstore

import (
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Transaction is a local transaction in the making: changes of any number of documents, under one dot. It
// holds what it changes in memory and writes nothing before Commit.
type Transaction struct {
	space *Space
	from  Reader
	event crdt.Event
	docs  map[string]*openDoc
	bytes int // of values written so far, a lower bound of what the transaction comes to
	sets  int // fields written so far
}

// Begin starts a transaction that reads from r and makes its changes in the name of ev.
func (s *Space) Begin(r Reader, ev crdt.Event) *Transaction {
	return &Transaction{space: s, from: r, event: ev, docs: make(map[string]*openDoc)}
}

func (t *Transaction) open(key string) (*openDoc, error) {
	if d, ok := t.docs[key]; ok {
		return d, nil
	}
	if err := crdt.CheckKey(key); err != nil {
		return nil, err
	}
	if len(t.docs) == crdt.MaxTransactionDocuments {
		return nil, &crdt.LimitError{What: "transaction", Size: len(t.docs) + 1, Limit: crdt.MaxTransactionDocuments, Unit: "documents"}
	}
	d, err := t.space.open(t.from, key)
	if err == nil {
		t.docs[key] = d
	}
	return d, err
}

// take counts what leaves add to the transaction, so that one that cannot be committed fails early.
func (t *Transaction) take(leaves []crdt.Leaf) error {
	if t.sets += len(leaves); t.sets > 2*crdt.MaxTransactionFields { // Commit counts those that differ
		return tooManyFields(t.sets)
	}
	for _, l := range leaves {
		size := l.Value.PackedSize()
		if size > crdt.MaxValueBytes {
			return &crdt.LimitError{What: "value at " + l.Path.String(), Size: size, Limit: crdt.MaxValueBytes, Unit: "bytes"}
		}
		t.bytes += size
	}
	if t.bytes > crdt.MaxTransactionBytes {
		return tooLarge(t.bytes)
	}
	return nil
}

func tooLarge(size int) error {
	return &crdt.LimitError{What: "transaction", Size: size, Limit: crdt.MaxTransactionBytes, Unit: "bytes"}
}

func tooManyFields(n int) error {
	return &crdt.LimitError{What: "transaction", Size: n, Limit: crdt.MaxTransactionFields, Unit: "fields"}
}

// SetLeaves replaces the subtree at p; see crdt.Document.SetLeaves.
func (t *Transaction) SetLeaves(key string, p crdt.PathKey, leaves []crdt.Leaf) error {
	d, err := t.open(key)
	if err == nil {
		err = t.take(leaves)
	}
	if err == nil {
		err = d.loadAround(p)
	}
	if err != nil {
		return err
	}
	d.doc.SetLeaves(t.event, p, leaves)
	return nil
}

// Remove removes what is live at p and below.
func (t *Transaction) Remove(key string, p crdt.PathKey) error {
	d, err := t.open(key)
	if err == nil {
		err = d.loadSubtree(p)
	}
	if err != nil {
		return err
	}
	d.doc.Remove(t.event, p)
	return nil
}

// Increment adds n to the counter at p.
func (t *Transaction) Increment(key string, p crdt.PathKey, n int64) error {
	d, err := t.open(key)
	if err == nil {
		err = d.loadPath(p)
	}
	if err != nil {
		return err
	}
	return d.doc.Increment(t.event, p, n)
}

// Replace makes the document show the given leaves and no others, writing only what differs.
func (t *Transaction) Replace(key string, leaves []crdt.Leaf) error {
	d, err := t.open(key)
	if err == nil {
		err = t.take(leaves)
	}
	if err == nil {
		err = d.loadAll()
	}
	if err != nil {
		return err
	}
	d.doc.Replace(t.event, leaves)
	return nil
}

// Settle asks the rule about the conflicts at p and below and does what it says; see crdt.Document.Settle.
func (t *Transaction) Settle(key string, p crdt.PathKey, rule crdt.Rule, limit int) (settled int, more bool, err error) {
	d, err := t.open(key)
	if err == nil {
		err = d.loadAll()
	}
	if err != nil {
		return 0, false, err
	}
	settled, more = d.doc.Settle(t.event, p, rule, limit)
	return settled, more, nil
}

// View returns the document as the transaction sees it, with all loaded that decides what shows at p and below: what is
// above, at and below p, and, under a value above p, the whole map that it competes with. It must not be changed.
func (t *Transaction) View(key string, p crdt.PathKey) (*crdt.Document, error) {
	d, err := t.open(key)
	if err == nil {
		err = d.loadView(p)
	}
	if err != nil {
		return nil, err
	}
	return d.doc, nil
}

// Commit writes the transaction into b and returns the delta that tells peers of it; nil if nothing
// changed, in which case the dot stays unused. After an error nothing was written.
func (t *Transaction) Commit(b *store.Batch) (*crdt.Delta, error) {
	s, dot := t.space, t.event.Dot
	var outcomes []*outcome
	delta := &crdt.Delta{Origin: dot.Replica, From: s.vv.Get(dot.Replica), To: dot.Time, Stable: s.stable.Get(dot.Replica)}
	if dot.Time <= delta.From {
		return nil, fmt.Errorf("the time of %s is not after %s, the last of its replica", dot, delta.From)
	}
	for _, key := range slices.Sorted(maps.Keys(t.docs)) {
		d := t.docs[key]
		d.doc.Forget(s.stable)
		o, err := d.finish()
		if err != nil {
			return nil, err
		}
		if o != nil {
			outcomes = append(outcomes, o)
			delta.Documents = append(delta.Documents, crdt.DocumentDelta{Key: key, Cells: o.cells})
		}
	}
	if len(outcomes) == 0 {
		return nil, nil
	}
	fields := 0
	for _, o := range outcomes {
		fields += len(o.changed)
	}
	if fields > crdt.MaxTransactionFields {
		return nil, tooManyFields(fields)
	}
	if size := delta.Size(); size > crdt.MaxTransactionBytes {
		return nil, tooLarge(size)
	}
	if err := checkSize(outcomes); err != nil {
		return nil, err
	}
	if err := s.checkReplicas(crdt.NewVersionVector(dot)); err != nil {
		return nil, err
	}
	for _, o := range outcomes {
		o.apply(b)
	}
	s.incorporate(dot)
	delta.Horizon.Advance(crdt.Dot{Replica: dot.Replica, Time: s.horizon.Get(dot.Replica)})
	delta.Horizon.Join(s.rejoin.hidden)
	return delta, nil
}
