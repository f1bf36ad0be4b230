package memnet_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/replica"
)

func TestTransport(t *testing.T) {
	nettest.Run(t, func(t testing.TB, n int, o nettest.Options) *nettest.Net {
		network := memnet.New(1)
		out := new(nettest.Net)
		for i := range n {
			node := network.Node(fmt.Sprint("n", i))
			if o.Allow != nil {
				node.SetAllow(func(peer replica.PeerID) bool { return o.Allow(node.Self(), peer) })
			}
			if o.Now != nil {
				node.SetNow(func() time.Time { return o.Now(i) })
			}
			t.Cleanup(func() { node.Close() })
			out.Transports = append(out.Transports, node)
		}
		out.Silence = func(i int) {
			for j, other := range out.Transports {
				if i != j {
					network.Break(out.Transports[i].Self(), other.Self())
				}
			}
		}
		return out
	})
}
