// Package discovery finds nodes: those on the local network, by multicast DNS, and those that a DNS name stands for. What it finds are
// addresses where a node is said to be. Who is there is proven when it is dialled, so neither the local network nor DNS is trusted.
//
//	Announce(ctx, Local{Self: id, Port: 7420, Known: allowed, Found: r.Learn…})
//
//	_anabranch._udp.local.            PTR  5e1f…._anabranch._udp.local.      a random name, another one each time
//	5e1f…._anabranch._udp.local.      SRV  7420 5e1f….local.
//	5e1f…._anabranch._udp.local.      TXT  tag=8a2b0c…                       changes each hour
//	5e1f….local.                      A    192.0.2.7
//
// The tag is a hash of the node's peer ID and the hour. Who knows the ID recognises the node; to all others it is noise, and next hour
// another one: nobody who listens to the network can follow a machine by it, or learn a key. A node looks only for those that it may be
// connected with.
//
//	Follow(ctx, Names{Name: "example.org", Add: r.AddPeer, Remove: r.RemovePeer})
//
//	_anabranch._udp.example.org.      SRV  0 0 7420 a.example.org.
//	(the same)                        TXT  "anabranch=pck7gdpx…"             its peer ID; may be left out
//
// Multicast DNS is github.com/pion/mdns, of those that are kept up the one that also does service discovery (RFC 6763) and works without
// a second DNS library. What it cannot do: cross a router, and it is often blocked on public wireless networks.
package discovery
