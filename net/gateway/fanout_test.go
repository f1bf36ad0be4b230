//go:build unix

package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// transport returns one with an identity of its own, that lets everybody in.
func transport(cfg quicnet.Config) (*quicnet.Transport, error) {
	id, err := quicnet.GenerateIdentity()
	if err != nil {
		return nil, err
	}
	cfg.Identity, cfg.InsecureAllowAny, cfg.Logger = id, true, slog.New(slog.DiscardHandler)
	return quicnet.New(cfg)
}

func transportOf(tb testing.TB) *quicnet.Transport {
	tb.Helper()
	t, err := transport(quicnet.Config{Listen: "127.0.0.1:0"})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// slowSocket takes a kilobyte a second once it is slow. What the system cannot keep meanwhile is lost.
type slowSocket struct {
	net.PacketConn
	slow atomic.Bool
}

func (s *slowSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, addr, err := s.PacketConn.ReadFrom(b)
	if s.slow.Load() {
		<-time.After(time.Duration(n) * time.Second >> 10)
	}
	return n, addr, err
}

// replicate is one peer of the node, with a store in memory. It returns when it has all changes; a slow one at once. The connection stays.
func (c crowd) replicate(slow bool, connected func()) (took []time.Duration, err error) {
	var cfg quicnet.Config
	socket := new(slowSocket)
	if slow {
		if socket.PacketConn, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		cfg.PacketConn = socket
	}
	t, err := transport(cfg)
	if err != nil {
		return nil, err
	}
	r, err := replica.Open(replica.Config{Transport: t, Peers: []replica.Peer{c.Node}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	s, err := r.Space("notes")
	if err != nil {
		return nil, err
	}
	for len(r.Peers()) == 0 {
		<-time.After(10 * time.Millisecond)
	}
	socket.slow.Store(slow)
	connected()
	if slow {
		return nil, nil
	}
	for change, err := range s.Watch(context.Background(), replica.Cursor{}) {
		now := time.Now().UnixNano()
		if err != nil {
			return nil, err
		}
		if change.Document == nil {
			return nil, fmt.Errorf("%s was deleted", change.Key)
		}
		text, _ := change.Document.Get(crdt.Path{"sent"})
		sent, err := strconv.ParseInt(fmt.Sprint(text), 10, 64)
		if err != nil {
			return nil, err
		}
		if took = append(took, time.Duration(now-sent)); len(took) == c.Changes {
			break
		}
	}
	return took, nil
}

// BenchmarkFanOut: changes of one node reach 50 peers over QUIC and 1,000 WebSockets, all of another process, and with one more peer that takes a
// kilobyte a second. Times are from the beginning of the write until the last of those has it; a delivery is one change at one of them. Run it with
// -benchtime=100x.
func BenchmarkFanOut(b *testing.B) {
	const peers, subscribers = 50, 1000
	for _, pace := range []struct {
		name  string
		every time.Duration
	}{{"one by one", 500 * time.Millisecond}, {"as fast as they go", 0}} {
		for slow, name := range []string{"all fast", "one slow"} {
			b.Run(pace.name+"/"+name, func(b *testing.B) {
				r, _ := load(b, crowd{Active: subscribers, Peers: peers + slow, Slow: slow, Changes: b.N}, pace.every)
				if r.Count != (peers+subscribers)*b.N {
					b.Errorf("%d of %d arrived", r.Count, (peers+subscribers)*b.N)
				}
				b.ReportMetric(float64(r.P50.Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(r.P99.Microseconds())/1000, "p99-ms")
				b.ReportMetric(float64(r.Max.Microseconds())/1000, "max-ms")
				b.ReportMetric(float64(r.spent.Microseconds())/float64(r.Count), "node-cpu-µs/delivery")
				b.ReportMetric(float64(b.N)/r.whole.Seconds(), "changes/s")
			})
		}
	}
}
