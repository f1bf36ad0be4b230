package wire

import (
	"math"
	"strings"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Refusal: [code uint, origin uint, from uint, to uint, text str]. The range is as it was received, so it need not be in
// order.

// appendRefusal cuts a text that is too long, and mends one that is not UTF-8, for it often quotes what was wrong: a refusal must
// not fail to be sent because of that.
func appendRefusal(dst []byte, m *protocol.Refusal) ([]byte, error) {
	e := begin(dst, TypeRefusal, 5)
	if m.Code == 0 {
		e.fail("code", ErrValue)
	}
	e.uint("code", uint64(m.Code))
	e.uint("origin", uint64(m.Origin))
	e.uint("from", uint64(m.From))
	e.uint("to", uint64(m.To))
	e.str("text", cut(m.Text, protocol.MaxRefusalText), protocol.MaxRefusalText)
	return e.end()
}

func parseRefusal(body []byte) (*protocol.Refusal, error) {
	m := new(protocol.Refusal)
	d := open(TypeRefusal, body)
	d.next("code")
	code := d.uint("code")
	if code == 0 || code > math.MaxUint8 {
		d.fail("code", ErrValue)
	}
	m.Code = protocol.RefusalCode(code)
	d.next("origin")
	m.Origin = crdt.ReplicaID(d.uint("origin"))
	d.next("from")
	m.From = hlc.Time(d.uint("from"))
	d.next("to")
	m.To = hlc.Time(d.uint("to"))
	d.next("text")
	m.Text = d.str("text", protocol.MaxRefusalText)
	return m, d.close()
}

// cut returns the longest prefix of s, as UTF-8, that fits into limit bytes.
func cut(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit] // there is no need to mend all of a long text
	}
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
