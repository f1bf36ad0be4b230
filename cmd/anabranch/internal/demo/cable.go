package demo

import (
	"net"
	"sync/atomic"
)

// cable is a UDP socket whose plug can be pulled: then it loses what is sent and what comes. It hides what else a
// *net.UDPConn can do, so that every packet passes here.
type cable struct {
	net.PacketConn
	cut  atomic.Bool
	lost atomic.Int64 // packets
}

func newCable() (*cable, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &cable{PacketConn: conn}, nil
}

// ReadFrom implements net.PacketConn.
func (c *cable) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := c.PacketConn.ReadFrom(b)
		if err != nil || !c.cut.Load() {
			return n, addr, err
		}
		c.lost.Add(1)
	}
}

// WriteTo implements net.PacketConn.
func (c *cable) WriteTo(b []byte, addr net.Addr) (int, error) {
	if c.cut.Load() {
		c.lost.Add(1)
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, addr)
}
