package quicnet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/quic-go/quic-go"
)

// sockets holds the UDP socket of a transport, and a second one for dialling if the first is bound to an
// address from which the destination cannot be reached (listening on 127.0.0.1, dialling into the LAN).
type sockets struct {
	config Config
	tls    *tls.Config // for dialling
	main   *quic.Transport

	mu     sync.Mutex
	extra  *quic.Transport
	closed bool
}

// quietQUIC keeps the QUIC library from printing a warning about small UDP buffers through package log; ours goes to the Logger.
// The variable is the only switch that there is.
var quietQUIC = sync.OnceFunc(func() {
	const name = "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING"
	if _, set := os.LookupEnv(name); !set {
		_ = os.Setenv(name, "true") // it fails for bad names only
	}
})

func openSockets(config Config, dial *tls.Config) (*sockets, error) {
	quietQUIC()
	s := &sockets{config: config, tls: dial}
	conn := config.PacketConn
	if conn == nil {
		var err error
		if conn, err = listenUDP(config.Listen); err != nil {
			return nil, err
		}
	}
	var err error
	if s.main, err = s.transport(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func listenUDP(addr string) (net.PacketConn, error) {
	if addr == "" {
		addr = ":0"
	}
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return conn, nil
}

func (s *sockets) transport(conn net.PacketConn) (*quic.Transport, error) {
	key, err := s.config.Identity.resetKey()
	if err != nil {
		return nil, err
	}
	warnBuffers(conn, s.config.Logger)
	return &quic.Transport{Conn: conn, StatelessResetKey: (*quic.StatelessResetKey)(&key)}, nil
}

// towards returns the socket from which to dial ip.
func (s *sockets) towards(ip net.IP) (*quic.Transport, error) {
	local, ok := s.main.Conn.LocalAddr().(*net.UDPAddr)
	if !ok || s.config.PacketConn != nil || reaches(local.IP, ip) {
		return s.main, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, net.ErrClosed
	}
	if s.extra == nil {
		conn, err := listenUDP("")
		if err != nil {
			return nil, err
		}
		if s.extra, err = s.transport(conn); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	return s.extra, nil
}

// reaches reports whether a socket bound to local can be expected to send to remote.
func reaches(local, remote net.IP) bool {
	switch {
	case local == nil || local.Equal(net.IPv6unspecified):
		return true // both families
	case (local.To4() == nil) != (remote.To4() == nil):
		return false
	case local.IsUnspecified():
		return true
	}
	return local.IsLoopback() == remote.IsLoopback()
}

func (s *sockets) close() error {
	s.mu.Lock()
	s.closed = true
	extra := s.extra
	s.mu.Unlock()
	err := closeSocket(s.main)
	if extra != nil {
		err = errors.Join(err, closeSocket(extra))
	}
	return err
}

// closeSocket closes both: a quic.Transport leaves a connection that it was given open.
func closeSocket(t *quic.Transport) error { return errors.Join(t.Close(), t.Conn.Close()) }

// localAddrs returns addr, or, if it stands for all interfaces, the addresses of the interfaces with its port: those that others can reach,
// or loopback if there is no other.
func localAddrs(addr net.Addr) []string {
	udp, ok := addr.(*net.UDPAddr)
	if !ok || !udp.IP.IsUnspecified() {
		return []string{addr.String()}
	}
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var reachable, loopback []string
	for _, a := range interfaces {
		n, ok := a.(*net.IPNet)
		if !ok || !reaches(udp.IP, n.IP) {
			continue
		}
		text := (&net.UDPAddr{IP: n.IP, Port: udp.Port}).String()
		switch {
		case n.IP.IsLoopback():
			loopback = append(loopback, text)
		case n.IP.IsGlobalUnicast():
			reachable = append(reachable, text)
		}
	}
	if len(reachable) == 0 {
		return loopback
	}
	return reachable
}
