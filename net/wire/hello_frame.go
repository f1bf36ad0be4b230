package wire

import (
	"math"
	"time"
)

// The protocol version of this package. Nodes of one major version understand each other.
const (
	Major = 1
	Minor = 0
)

// Hello: [major uint, minor uint, wall clock uint, features [str…], addresses [str…], software str, software version str].
// The first two elements stay as they are in every version, so that any two can tell that they do not match.

// Hello is the first frame in both directions of a connection's control stream.
type Hello struct {
	Major, Minor uint16
	// Wall is the sender's wall clock when it sent the frame, to the millisecond.
	Wall time.Time
	// Features names optional parts of the protocol that the sender takes part in.
	Features []string
	// Addrs are addresses at which the sender listens, as far as it knows.
	Addrs []string
	// Software and Version are for people.
	Software, Version string
}

// AppendHello appends h as a whole frame.
func AppendHello(dst []byte, h Hello) ([]byte, error) {
	e := begin(dst, TypeHello, 7)
	e.uint("major", uint64(h.Major))
	e.uint("minor", uint64(h.Minor))
	e.uint("wall clock", uint64(max(h.Wall.UnixMilli(), 0)))
	e.strings("features", h.Features, MaxFeatures, MaxFeatureBytes)
	e.strings("addresses", h.Addrs, MaxAddrs, MaxAddrBytes)
	e.str("software", h.Software, MaxSoftwareBytes)
	e.str("software version", h.Version, MaxSoftwareBytes)
	return e.end()
}

// ParseHello parses a whole Hello frame. If its major version is not ours, only the two versions are filled in.
func ParseHello(b []byte) (Hello, error) {
	body, err := expect(TypeHello, b)
	if err != nil {
		return Hello{}, err
	}
	var h Hello
	d := open(TypeHello, body)
	d.next("major")
	h.Major = d.uint16("major")
	d.next("minor")
	h.Minor = d.uint16("minor")
	if h.Major == Major {
		d.hello(&h)
	}
	if err := d.close(); err != nil {
		return Hello{}, err
	}
	return h, nil
}

func (d *decoder) hello(h *Hello) {
	d.next("wall clock")
	h.Wall = d.wall(d.uint("wall clock"))
	d.next("features")
	h.Features = d.strings("features", MaxFeatures, MaxFeatureBytes)
	d.next("addresses")
	h.Addrs = d.strings("addresses", MaxAddrs, MaxAddrBytes)
	d.next("software")
	h.Software = d.str("software", MaxSoftwareBytes)
	d.next("software version")
	h.Version = d.str("software version", MaxSoftwareBytes)
}

func (d *decoder) uint16(field string) uint16 {
	n := d.uint(field)
	if n > math.MaxUint16 {
		d.fail(field, ErrValue)
	}
	return uint16(n)
}

// expect splits a frame that has to be of type t.
func expect(t Type, b []byte) ([]byte, error) {
	got, body, err := split(b)
	if err == nil && got != t {
		err = &FrameError{got, "type", ErrUnexpected}
	}
	return body, err
}
