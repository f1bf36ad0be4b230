package wire

import (
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Clock: [asked uint, wall clock uint]. The wall clock is Unix milliseconds; zero asks for it.

func appendClock(dst []byte, m *protocol.Clock) ([]byte, error) {
	e := begin(dst, TypeClock, 2)
	e.uint("asked", m.Asked)
	var ms uint64
	if !m.IsQuestion() {
		ms = uint64(max(m.Wall.UnixMilli(), 1))
	}
	e.uint("wall clock", ms)
	return e.end()
}

func parseClock(body []byte) (*protocol.Clock, error) {
	m := new(protocol.Clock)
	d := open(TypeClock, body)
	d.next("asked")
	m.Asked = d.uint("asked")
	d.next("wall clock")
	if ms := d.uint("wall clock"); ms > 0 {
		m.Wall = d.wall(ms)
	}
	return m, d.close()
}

// wall returns a wall clock that an HLC time can hold.
func (d *decoder) wall(ms uint64) time.Time {
	if ms >= 1<<48 {
		d.fail("wall clock", ErrValue)
		return time.Time{}
	}
	return time.UnixMilli(int64(ms))
}
