package nettest

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func testControl(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	if !reflect.DeepEqual(a.PeerAddrs(), n.Transports[1].Addrs()) || !reflect.DeepEqual(b.PeerAddrs(), n.Transports[0].Addrs()) {
		t.Errorf("the peers listen at %v and %v, as each other's ends say", a.PeerAddrs(), b.PeerAddrs())
	}
	const messages = 100 // more than wait to be heard
	told := inBackground(func() error {
		for i := range messages {
			m := &protocol.Addresses{Seen: "seen", Peers: i, Known: []protocol.Whereabouts{{Peer: a.Peer(), Age: time.Minute, Addrs: a.PeerAddrs()}}}
			if err := errors.Join(a.Tell(m), b.Tell(m)); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range messages {
		for _, c := range []replica.Conn{a, b} {
			heard := inBackground(func() error {
				m, err := c.Hear()
				if got, ok := m.(*protocol.Addresses); err == nil && (!ok || got.Peers != i || got.Seen != "seen" || len(got.Known) != 1) {
					t.Errorf("message %d is %+v", i, m)
				}
				return err
			})
			if err := await(t, "Hear", heard); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := await(t, "Tell", told); err != nil {
		t.Fatal(err)
	}
	heard := inBackground(func() error { _, err := b.Hear(); return err })
	a.Close(replica.CloseEnough, "there are others")
	wantClose(t, "Hear after the end", await(t, "Hear after the end", heard), replica.CloseEnough, true)
	wantClose(t, "Tell after the end", a.Tell(&protocol.Addresses{}), replica.CloseEnough, false)
}
