package replica_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// The clock moves on at each reading, so that what peers acknowledged is stored with each commit.
func restless() func() time.Time {
	var mu sync.Mutex
	now := time.Now()
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(3 * time.Second)
		return now
	}
}

func TestPeerThatAcknowledgesTooMuchFailsNoCommit(t *testing.T) {
	network := memnet.New(1)
	s := space(t, open(t, replica.Config{Transport: network.Node("a"), Now: restless()}))
	rc := set(t, s, "d", "x", 1)
	p := dialAs(t, network, "b", "mem:a", "notes")
	vv := crdt.NewVersionVector(rc.Dot)
	for i := range 99_999 {
		vv.Advance(crdt.Dot{Replica: crdt.ReplicaID(1 + i<<40), Time: hlc.Time(1 + i)})
	}
	p.say(&protocol.Vectors{VV: vv})
	if err := s.WaitSynced(t.Context(), rc, 1); err != nil {
		t.Fatal(err)
	}
	set(t, s, "e", "x", 1)
}

func TestPeersThatComeAndGoTakeNoMemoryForEver(t *testing.T) {
	network := memnet.New(1)
	disk := memstore.New()
	r, err := replica.OpenOn(replica.Config{Transport: network.Node("a"), Now: restless()}, disk)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := space(t, r)
	rc := set(t, s, "d", "x", 1)
	const kept, come = 4096, 4200
	for i := range come {
		p := dialAs(t, network, fmt.Sprint("p", i), "mem:a", "notes")
		p.say(&protocol.Vectors{VV: crdt.NewVersionVector(rc.Dot)})
		hear[*protocol.Level](p)
		p.tr.Close()
	}
	if n := s.Synced(rc); n > kept || n < kept/2 {
		t.Errorf("%d peers are remembered", n)
	}
	for i := range 8 { // stores them
		set(t, s, "d", "x", i)
	}
	snap, err := disk.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	if stored, err := docstore.Members(snap, 1); err != nil || len(stored) > kept || len(stored) < kept/2 {
		t.Errorf("%d peers are stored: %v", len(stored), err)
	}
}
