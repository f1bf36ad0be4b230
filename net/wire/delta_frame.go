package wire

import (
	"math"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Delta: [origin uint, from uint, to - from uint, stable uint, horizon bin, [key str, cells bin, key str, cells bin, …]].
//
// The documents are one flat array in strictly ascending order of keys. Beyond key and cells a document takes three to five bytes, up to
// the usual sizes.

func appendDelta(dst []byte, m *protocol.Delta) ([]byte, error) {
	if size := m.Size(); size <= MaxFrameBytes { // a frame that waits for a slow peer takes no more memory than it has to
		const each, fixed = 8, 64
		dst = slices.Grow(dst, size+each*len(m.Documents)+dotBytes*m.Horizon.Len()+fixed)
	}
	e := begin(dst, TypeDelta, 6)
	if m.Origin == 0 {
		e.fail("origin", ErrValue)
	}
	if m.To < m.From {
		e.fail("to", ErrValue)
	}
	if m.Size() > MaxFrameBytes {
		e.fail("length", ErrTooLarge)
	}
	if e.err != nil {
		return e.end()
	}
	e.uint("origin", uint64(m.Origin))
	e.uint("from", uint64(m.From))
	e.uint("to", uint64(m.To-m.From))
	e.uint("stable", uint64(m.Stable))
	e.vector("horizon", m.Horizon)
	e.documents(m.Documents)
	return e.end()
}

func (e *encoder) documents(docs []crdt.DocumentDelta) {
	if len(docs) > MaxDocuments {
		e.fail("documents", ErrTooLarge)
		return
	}
	e.array("documents", 2*len(docs))
	last := ""
	for i := range docs {
		doc := &docs[i]
		e.fail("key", crdt.CheckKey(doc.Key))
		if doc.Key <= last {
			e.fail("key", ErrOrder)
		}
		last = doc.Key
		e.str("key", doc.Key, crdt.MaxKeyBytes)
		e.bin("cells", doc.Cells)
	}
}

func parseDelta(body []byte) (*protocol.Delta, error) {
	m := new(protocol.Delta)
	d := open(TypeDelta, body)
	d.next("origin")
	m.Origin = crdt.ReplicaID(d.uint("origin"))
	if m.Origin == 0 {
		d.fail("origin", ErrValue)
	}
	d.next("from")
	from := d.uint("from")
	d.next("to")
	length := d.uint("to")
	if length > math.MaxUint64-from {
		d.fail("to", ErrValue)
	}
	m.From, m.To = hlc.Time(from), hlc.Time(from+length)
	d.next("stable")
	m.Stable = hlc.Time(d.uint("stable"))
	d.next("horizon")
	m.Horizon = d.vector("horizon")
	d.next("documents")
	m.Documents = d.documents()
	return m, d.close()
}

func (d *decoder) documents() []crdt.DocumentDelta {
	n := d.array("documents", 2*MaxDocuments)
	if n%2 != 0 {
		d.fail("documents", ErrTruncated)
	}
	if n == 0 || d.err != nil {
		return nil
	}
	docs := make([]crdt.DocumentDelta, n/2)
	last := ""
	for i := range docs {
		key := d.str("key", crdt.MaxKeyBytes)
		switch {
		case d.err != nil:
			return nil
		case key == "":
			d.fail("key", crdt.CheckKey(key))
			return nil
		case key <= last:
			d.fail("key", ErrOrder)
			return nil
		}
		last = key
		docs[i] = crdt.DocumentDelta{Key: key, Cells: d.bin("cells", MaxFrameBytes)}
	}
	return docs
}
