package wire

import (
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// Addresses: [seen str, peers uint, known [id bin, age uint, addresses [str…], id bin, …]]. The age is in seconds.

// maxPeers and maxAge keep what a peer says within what an int and a time.Duration hold.
const (
	maxPeers = 1 << 20
	maxAge   = 10 * 365 * 24 * time.Hour
)

func appendAddresses(dst []byte, m *protocol.Addresses) ([]byte, error) {
	e := begin(dst, TypeAddresses, 3)
	e.str("seen", m.Seen, protocol.MaxAddrBytes)
	if m.Peers < 0 || m.Peers > maxPeers {
		e.fail("peers", ErrValue)
	}
	e.uint("peers", uint64(m.Peers))
	if len(m.Known) > protocol.MaxKnown {
		e.fail("known", ErrTooLarge)
	}
	e.array("known", 3*len(m.Known))
	for _, k := range m.Known {
		if k.Age < 0 || k.Age > maxAge {
			e.fail("age", ErrValue)
		}
		e.bin("id", k.Peer[:])
		e.uint("age", uint64(k.Age/time.Second))
		e.strings("addresses", k.Addrs, protocol.MaxAddrs, protocol.MaxAddrBytes)
	}
	out, err := e.end()
	if err == nil && len(out)-len(dst) > MaxControlFrameBytes {
		return dst, &FrameError{TypeAddresses, "length", ErrTooLarge}
	}
	return out, err
}

func parseAddresses(body []byte) (*protocol.Addresses, error) {
	m := new(protocol.Addresses)
	d := open(TypeAddresses, body)
	d.next("seen")
	m.Seen = d.str("seen", protocol.MaxAddrBytes)
	d.next("peers")
	n := d.uint("peers")
	if n > maxPeers {
		d.fail("peers", ErrValue)
	}
	m.Peers = int(n)
	d.next("known")
	elements := d.array("known", 3*protocol.MaxKnown)
	if elements%3 != 0 {
		d.fail("known", ErrTruncated)
	}
	for ; elements > 0 && d.err == nil; elements -= 3 {
		m.Known = append(m.Known, d.whereabouts())
	}
	return m, d.close()
}

func (d *decoder) whereabouts() protocol.Whereabouts {
	var k protocol.Whereabouts
	if id := d.bin("id", len(k.Peer)); len(id) == len(k.Peer) {
		k.Peer = protocol.PeerID(id)
	} else {
		d.fail("id", ErrTruncated)
	}
	age := d.uint("age")
	if age > uint64(maxAge/time.Second) {
		d.fail("age", ErrValue)
	}
	k.Age = time.Duration(age) * time.Second
	k.Addrs = d.strings("addresses", protocol.MaxAddrs, protocol.MaxAddrBytes)
	return k
}
