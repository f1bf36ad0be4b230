package discovery

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/anabranch-db/anabranch/replica"
)

func TestTagIsKnownToThoseWhoKnowThePeerIDAndChangesEachHour(t *testing.T) {
	a, b := replica.PeerID{1}, replica.PeerID{2}
	now := time.Unix(1_790_000_000, 0)
	tag := tagOf(a, now)
	for name, c := range map[string]struct {
		known []replica.PeerID
		at    time.Time
		want  bool
	}{
		"known":                      {[]replica.PeerID{b, a}, now, true},
		"a clock that is behind":     {[]replica.PeerID{a}, now.Add(-time.Hour), true},
		"a clock that is ahead":      {[]replica.PeerID{a}, now.Add(time.Hour), true},
		"three hours later":          {[]replica.PeerID{a}, now.Add(3 * time.Hour), false},
		"by one who knows others":    {[]replica.PeerID{b}, now, false},
		"by one who knows of nobody": {nil, now, false},
	} {
		if p, ok := recognise(tag, c.known, c.at); ok != c.want || ok && p != a {
			t.Errorf("%s: %s, %v", name, p.Short(), ok)
		}
	}
	if tag == tagOf(a, now.Add(tagPeriod)) || strings.Contains(a.String(), tag) {
		t.Error("the tag stays, or shows the ID")
	}
}

// loopback returns the loopback interface, where multicast works without a network.
func loopback(t *testing.T) []net.Interface {
	t.Helper()
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Skipf("NOT TESTED: there is no interface lo: %v", err)
	}
	packets, err := listenMulticast(t.Context())
	if err != nil {
		t.Skipf("NOT TESTED: the port of multicast DNS cannot be opened here: %v", err)
	}
	defer packets.Close()
	if err := packets.JoinGroup(lo, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251)}); err != nil {
		t.Skipf("NOT TESTED: no multicast on the loopback interface here: %v", err)
	}
	return []net.Interface{*lo}
}

func TestNodesThatKnowEachOtherFindEachOtherOnTheLocalNetwork(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	interfaces := loopback(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*queryInterval) // b may ask before a listens, and then asks again
	defer cancel()
	a, b, stranger := replica.PeerID{1}, replica.PeerID{2}, replica.PeerID{3}
	type sighting struct {
		by, of replica.PeerID
		addr   string
	}
	seen := make(chan sighting, 100)
	ended := make(chan error, 3)
	announce := func(self replica.PeerID, port int, known ...replica.PeerID) {
		go func() {
			ended <- Announce(ctx, Local{
				Self: self, Port: port, Interfaces: interfaces, Known: func() []replica.PeerID { return known },
				Found: func(p replica.PeerID, addr string) {
					select {
					case seen <- sighting{self, p, addr}:
					default: // it is told again and again
					}
				},
			})
		}()
	}
	announce(a, 7001, a, b)
	announce(stranger, 7003)
	announce(b, 0, a) // it only looks
	for found := false; !found; {
		select {
		case s := <-seen:
			if s != (sighting{b, a, "127.0.0.1:7001"}) {
				t.Errorf("%s found %s at %s", s.by.Short(), s.of.Short(), s.addr)
			}
			found = true
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		case <-ctx.Done():
			t.Fatal("nobody was found")
		}
	}
	cancel()
	for range 3 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("ended with %v", err)
		}
	}
}
