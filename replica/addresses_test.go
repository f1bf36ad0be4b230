package replica

import (
	"fmt"
	"testing"
)

// placed is a connection to a peer at an address, which says that it listens at others.
type placed struct {
	Conn
	remote string
	says   []string
}

func (p placed) RemoteAddr() string  { return p.remote }
func (p placed) PeerAddrs() []string { return p.says }

func TestWhereAPeerListens(t *testing.T) {
	for name, c := range map[string]struct {
		remote string
		says   []string
		want   string
	}{
		"on its own address":          {"192.0.2.7:7420", []string{"192.0.2.7:7420"}, "[192.0.2.7:7420]"},
		"behind a router":             {"198.51.100.1:31000", []string{"10.0.0.7:7420"}, "[10.0.0.7:7420 198.51.100.1:7420]"},
		"on this machine":             {"127.0.0.1:31000", []string{"127.0.0.1:7421"}, "[127.0.0.1:7421]"},
		"on its machine alone":        {"192.0.2.7:31000", []string{"127.0.0.1:7420"}, "[]"},
		"at addresses of no use":      {"192.0.2.7:31000", []string{"0.0.0.0:7420", "[fe80::1]:7420", "224.0.0.1:7420", "192.0.2.7:0"}, "[192.0.2.7:7420]"},
		"at a name":                   {"192.0.2.7:7420", []string{"a.example.org:7420"}, "[a.example.org:7420 192.0.2.7:7420]"},
		"nowhere":                     {"192.0.2.7:31000", nil, "[]"},
		"mapped":                      {"[::ffff:192.0.2.7]:31000", []string{"192.0.2.7:7420"}, "[192.0.2.7:7420]"},
		"on a network that is not IP": {"mem:a", []string{"mem:a"}, "[mem:a]"},
	} {
		if got := fmt.Sprint(listening(&peerConn{Conn: placed{remote: c.remote, says: c.says}})); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// listener is a transport that listens.
type listener struct {
	Transport
	addrs []string
}

func (l listener) Addrs() []string { return l.addrs }

func TestAddressesAtWhichOthersSeeThisNode(t *testing.T) {
	for name, c := range map[string]struct {
		own, seen []string
		want      string
	}{
		"behind a router":                 {[]string{"10.0.0.7:7420"}, []string{"198.51.100.1:31000", "198.51.100.1:31000", "10.0.0.7:7420"}, "[198.51.100.1:31000]"},
		"by nodes of the same machine":    {[]string{"10.0.0.7:7420"}, []string{"127.0.0.1:7420", "", "nonsense"}, "[]"},
		"and that listens to nobody else": {[]string{"127.0.0.1:7420"}, []string{"198.51.100.1:31000"}, "[]"},
		"and that only dials":             {nil, []string{"198.51.100.1:31000"}, "[]"},
	} {
		r := &Replica{cfg: Config{Transport: listener{addrs: c.own}}}
		r.peers.conns = make(map[PeerID]*peerConn)
		for i, addr := range c.seen {
			r.peers.conns[PeerID{byte(i)}] = &peerConn{seenAt: addr}
		}
		if got := fmt.Sprint(r.SeenAt()); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}
