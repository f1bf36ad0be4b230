package discovery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/pion/logging"
	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"

	"github.com/anabranch-db/anabranch/replica"
)

const (
	serviceName = "_anabranch._udp"
	tagKey      = "tag"
	// queryInterval is how often others are asked for after the first time. Who starts later asks, and finds, by itself.
	queryInterval = 30 * time.Second
)

// Local says what to announce on the local network, and whom to look for there.
type Local struct {
	Self replica.PeerID
	// Port is the UDP port at which the node listens on the interfaces; zero: it only looks for others.
	Port int
	// Known returns the nodes to look for.
	Known func() []replica.PeerID
	// Found is told where one of them is. It must not wait for anything.
	Found func(p replica.PeerID, addr string)
	// Interfaces are those to use; nil: all that are up and can multicast, but not loopback.
	Interfaces []net.Interface
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
}

// Announce announces and looks until ctx ends, whose error it returns, or until that is not possible.
func Announce(ctx context.Context, l Local) error {
	if l.Now == nil {
		l.Now = time.Now
	}
	packets, err := listenMulticast(ctx)
	if err != nil {
		return fmt.Errorf("look for nodes on the local network: %w", err)
	}
	service := mdns.ServiceInstance{Instance: rand.Text(), Service: serviceName, Port: uint16(l.Port), Text: l.text()}
	conn, err := mdns.NewServer(packets, nil, l.options(service)...)
	if err != nil {
		return errors.Join(fmt.Errorf("look for nodes on the local network: %w", err), packets.Close())
	}
	conn.OnServiceDiscovered(func(e mdns.ServiceEvent) { l.found(e.Instance, e.Addr) })
	if err := conn.Browse(ctx, serviceName); err != nil {
		return errors.Join(fmt.Errorf("look for nodes on the local network: %w", err), conn.Close())
	}
	for wait(ctx, l.untilNextTag()) == nil {
		if l.Port == 0 {
			continue
		}
		if err := conn.UpdateTXT(service.Instance, serviceName, l.text()); err != nil {
			return errors.Join(fmt.Errorf("announce the node on the local network: %w", err), conn.Close())
		}
	}
	return errors.Join(ctx.Err(), conn.Close())
}

func listenMulticast(ctx context.Context) (*ipv4.PacketConn, error) {
	conn, err := new(net.ListenConfig).ListenPacket(ctx, "udp4", mdns.DefaultAddressIPv4)
	if err != nil {
		return nil, err
	}
	return ipv4.NewPacketConn(conn), nil
}

func (l Local) options(service mdns.ServiceInstance) []mdns.ServerOption {
	options := []mdns.ServerOption{
		mdns.WithQueryInterval(queryInterval),
		mdns.WithLoggerFactory(&logging.DefaultLoggerFactory{DefaultLogLevel: logging.LogLevelDisabled}),
	}
	if l.Port > 0 {
		options = append(options, mdns.WithLocalNames(service.Instance+".local"), mdns.WithService(service))
	}
	if l.Interfaces != nil {
		options = append(options, mdns.WithInterfaces(l.Interfaces...), mdns.WithIncludeLoopback(true))
	}
	return options
}

func (l Local) text() []mdns.TXTEntry {
	return []mdns.TXTEntry{mdns.NewTXTString(tagKey, tagOf(l.Self, l.Now()))}
}

func (l Local) untilNextTag() time.Duration {
	now := l.Now()
	return now.Truncate(tagPeriod).Add(tagPeriod).Sub(now)
}

func (l Local) found(s mdns.ServiceInstance, addr netip.Addr) {
	if !addr.IsValid() || s.Port == 0 {
		return
	}
	for _, e := range s.Text {
		if e.Key != tagKey || len(e.Value) != 2*tagBytes {
			continue
		}
		if p, ok := recognise(string(e.Value), l.Known(), l.Now()); ok && p != l.Self {
			l.Found(p, net.JoinHostPort(addr.Unmap().String(), strconv.Itoa(int(s.Port))))
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
