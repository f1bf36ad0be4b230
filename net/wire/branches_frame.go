package wire

import (
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Branches: [[prefix uint, depth uint, entries vector | hashes [bin of 192], …]].
//
// The places are one flat array, three elements each. Entries are a bin, as every vector; the 32 hashes of 6 bytes are a bin within an
// array of one, which tells them apart.

func appendBranches(dst []byte, m *protocol.Branches) ([]byte, error) {
	e := begin(dst, TypeBranches, 1)
	if len(m.List) > MaxBranches {
		e.fail("branches", ErrTooLarge)
		return e.end()
	}
	e.array("branches", 3*len(m.List))
	for i := range m.List {
		b := &m.List[i]
		if !b.Place.IsValid() {
			e.fail("place", ErrValue)
		}
		e.uint("place", b.Place.Prefix)
		e.uint("place", uint64(b.Place.Depth))
		if b.Hashes == nil {
			e.dots("entries", b.Entries)
			continue
		}
		e.array("hashes", 1)
		flat := make([]byte, 0, len(b.Hashes)*len(b.Hashes[0]))
		for _, h := range b.Hashes {
			flat = append(flat, h[:]...)
		}
		e.bin("hashes", flat)
	}
	return e.end()
}

func parseBranches(body []byte) (*protocol.Branches, error) {
	m := new(protocol.Branches)
	d := open(TypeBranches, body)
	d.next("branches")
	n := d.array("branches", 3*MaxBranches)
	if n%3 != 0 {
		d.fail("branches", ErrTruncated)
	}
	if d.err == nil {
		m.List = make([]protocol.Branch, n/3)
	}
	for i := range m.List {
		d.branch(&m.List[i])
		if d.err != nil {
			break
		}
	}
	return m, d.close()
}

func (d *decoder) branch(b *protocol.Branch) {
	b.Place.Prefix = d.uint("place")
	depth := d.uint("place")
	b.Place.Depth = uint8(min(depth, 255))
	if d.err == nil && !b.Place.IsValid() {
		d.fail("place", ErrValue)
	}
	if d.err == nil && d.pos < len(d.body) && isArray(d.body[d.pos]) {
		b.Hashes = d.hashes("hashes")
		return
	}
	b.Entries = d.dots("entries")
}

func (d *decoder) hashes(field string) *[protocol.FanOut]protocol.BranchHash {
	all := new([protocol.FanOut]protocol.BranchHash)
	if d.array(field, 1) != 1 {
		d.fail(field, ErrTruncated)
	}
	flat := d.bin(field, len(all)*len(all[0]))
	if len(flat) != len(all)*len(all[0]) {
		d.fail(field, ErrTruncated)
		return nil
	}
	for i := range all {
		flat = flat[copy(all[i][:], flat):]
	}
	return all
}
