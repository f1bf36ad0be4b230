package replica

import (
	"net"
	"net/netip"
	"slices"
)

// Addresses of a transport that is no IP network, as that of tests, pass through everything here unchanged.

// listening returns the addresses at which a peer most likely listens: those that it says, and those ports where its packets come from,
// for it may not know how it is seen from here.
func listening(pc *peerConn) []string {
	addrs := usable(pc, pc.PeerAddrs())
	remote, err := netip.ParseAddrPort(pc.RemoteAddr())
	if err != nil {
		return addrs
	}
	for _, said := range pc.PeerAddrs() {
		_, port, err := net.SplitHostPort(said)
		if err != nil || port == "0" {
			continue
		}
		seen := net.JoinHostPort(remote.Addr().Unmap().String(), port)
		if isLoopback(said) == remote.Addr().Unmap().IsLoopback() && !slices.Contains(addrs, seen) {
			addrs = append(addrs, seen)
		}
	}
	return addrs
}

// usable returns those addresses that a peer names which can mean the same here: what is local to its machine does only if it
// is on this one.
func usable(pc *peerConn, addrs []string) []string {
	near := isLoopback(pc.RemoteAddr())
	return slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool {
		ip, err := netip.ParseAddrPort(addr)
		if err != nil {
			return false // a name, or no IP network
		}
		a := ip.Addr().Unmap()
		return ip.Port() == 0 || a.IsUnspecified() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsLoopback() && !near
	})
}

func isLoopback(addr string) bool {
	ip, err := netip.ParseAddrPort(addr)
	return err == nil && ip.Addr().Unmap().IsLoopback()
}

// isReachable reports whether an address means something to other machines.
func isReachable(addr string) bool {
	ip, err := netip.ParseAddrPort(addr)
	return err == nil && ip.Addr().Unmap().IsGlobalUnicast()
}
