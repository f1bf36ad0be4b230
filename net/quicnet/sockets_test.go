package quicnet

import (
	"net"
	"testing"
)

func TestReaches(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		want          bool
	}{
		{"::", "192.0.2.1", true},
		{"::", "2001:db8::1", true},
		{"0.0.0.0", "192.0.2.1", true},
		{"0.0.0.0", "127.0.0.1", true},
		{"0.0.0.0", "2001:db8::1", false},
		{"127.0.0.1", "127.0.0.2", true},
		{"127.0.0.1", "192.0.2.1", false},
		{"127.0.0.1", "::1", false},
		{"192.0.2.7", "198.51.100.1", true},
		{"192.0.2.7", "127.0.0.1", false},
	} {
		if got := reaches(net.ParseIP(c.local), net.ParseIP(c.remote)); got != c.want {
			t.Errorf("a socket bound to %s reaches %s: %v, want %v", c.local, c.remote, got, c.want)
		}
	}
	if !reaches(nil, net.ParseIP("::1")) {
		t.Error("a socket on all interfaces reaches all")
	}
}

func TestSecondSocketIsOpenedOnceAndOnlyWhereNeeded(t *testing.T) {
	id, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	tr, err := New(Config{Identity: id, InsecureAllowAny: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	s := tr.sockets
	near, err := s.towards(net.IPv4(127, 0, 0, 1))
	if err != nil || near != s.main {
		t.Errorf("loopback is not reached by the socket there: %v", err)
	}
	far, err := s.towards(net.IPv4(192, 0, 2, 1))
	if err != nil || far == s.main {
		t.Fatalf("the LAN is reached by a socket on loopback: %v", err)
	}
	if again, _ := s.towards(net.IPv4(192, 0, 2, 2)); again != far {
		t.Error("a third socket was opened")
	}
	if err := tr.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, err := s.towards(net.IPv4(192, 0, 2, 1)); err == nil {
		t.Error("a socket of a closed transport")
	}
}
