package wire

import (
	"math"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Members: [[peer bin of 32, heard uint, evicted uint, form uint, entries bin, …]], five elements a member in one flat array. The form is the
// sum of 1 if the sender is in session with the member, and 2 if the entries are all that it has. Entries are as in a vector, but
// their times may be zero.

const (
	formDirect = 1
	formWhole  = 2
)

func appendMembers(dst []byte, m *protocol.Members) ([]byte, error) {
	e := begin(dst, TypeMembers, 1)
	if len(m.List) > MaxMembers {
		e.fail("members", ErrTooLarge)
		return e.end()
	}
	e.array("members", 5*len(m.List))
	for i := range m.List {
		e.member(&m.List[i])
	}
	return e.end()
}

func (e *encoder) member(m *protocol.MemberNews) {
	if m.Peer.IsZero() || m.Heard < 0 || m.Evicted < 0 {
		e.fail("member", ErrValue)
	}
	e.bin("peer", m.Peer[:])
	e.uint("heard", uint64(m.Heard))
	e.uint("evicted", uint64(m.Evicted))
	form := uint64(0)
	if m.Direct {
		form |= formDirect
	}
	if m.Whole {
		form |= formWhole
	}
	e.uint("form", form)
	e.entries("entries", m.Dots, MaxMemberDots)
}

func parseMembers(body []byte) (*protocol.Members, error) {
	m := new(protocol.Members)
	d := open(TypeMembers, body)
	d.next("members")
	n := d.array("members", 5*MaxMembers)
	if n%5 != 0 {
		d.fail("members", ErrTruncated)
	}
	if d.err == nil {
		m.List = make([]protocol.MemberNews, n/5)
	}
	for i := range m.List {
		d.member(&m.List[i])
		if d.err != nil {
			break
		}
	}
	return m, d.close()
}

func (d *decoder) member(m *protocol.MemberNews) {
	if peer := d.bin("peer", len(m.Peer)); copy(m.Peer[:], peer) < len(m.Peer) {
		d.fail("peer", ErrTruncated)
	}
	if m.Peer.IsZero() {
		d.fail("peer", ErrValue)
	}
	heard, evicted, form := d.uint("heard"), d.uint("evicted"), d.uint("form")
	if heard > math.MaxInt64 || evicted > math.MaxInt64 || form > formDirect|formWhole {
		d.fail("member", ErrValue)
	}
	m.Heard, m.Evicted = int64(heard), int64(evicted)
	m.Direct, m.Whole = form&formDirect != 0, form&formWhole != 0
	m.Dots = d.entries("entries", MaxMemberDots)
}
