package replica_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// Whole replicas with all their goroutines write at once, over connections that break at any moment, in a
// chain with a loop. The simulator judges the rules; this judges the engine around them.
func TestReplicasConvergeOverBreakingConnections(t *testing.T) {
	const writesEach = 150
	network := memnet.New(7)
	links := map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"b"}, "e": {"d"}}
	replicas := make(map[string]*replica.Replica)
	spaces := make(map[string]*replica.Space)
	var all []*replica.Space
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		cfg := replica.Config{Transport: network.Node(name)}
		for _, to := range links[name] {
			cfg.Peers = append(cfg.Peers, replica.Peer{ID: memnet.ID(to), Addr: "mem:" + to})
		}
		replicas[name] = open(t, cfg)
		spaces[name] = space(t, replicas[name])
		all = append(all, spaces[name])
	}
	var writers sync.WaitGroup
	for i, s := range all {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for range writesEach {
				if _, err := s.Update(context.Background(), func(tx *replica.Tx) error { return randomChange(rng, tx) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	stop := make(chan struct{})
	var breaker sync.WaitGroup
	breaker.Go(func() {
		for tick := time.Tick(15 * time.Millisecond); ; {
			select {
			case <-tick:
				network.BreakAll()
			case <-stop:
				return
			}
		}
	})
	writers.Wait()
	close(stop)
	breaker.Wait()
	waitLevel(t, all...)
	for _, s := range all {
		mustVerify(t, s)
	}
}

func randomChange(rng *rand.Rand, tx *replica.Tx) error {
	for range 1 + rng.IntN(3) {
		doc := tx.Doc(fmt.Sprintf("doc%d", rng.IntN(6)))
		field := crdt.Path{fmt.Sprintf("f%d", rng.IntN(4))}
		switch rng.IntN(6) {
		case 0:
			doc.Remove(field)
		case 1:
			doc.Increment(crdt.Path{"count"}, 1)
		case 2:
			doc.Set(field, map[string]any{"x": rng.IntN(9), "y": rng.IntN(9)})
		case 3:
			doc.Set(append(field, "x"), rng.IntN(9))
		case 4:
			doc.Delete()
		default:
			doc.Set(field, rng.IntN(9))
		}
	}
	return nil
}
