package replica_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// One small transaction of a meets, at b, values of the greatest size in each of its fields: together more than a commit takes.
func TestDeltaThatRewritesMoreThanACommitTakesIsMergedInParts(t *testing.T) {
	network := memnet.New(1)
	network.Cut(memnet.ID("a"), memnet.ID("b"))
	disk := memstore.New()
	b, err := replica.OpenOn(replica.Config{Transport: network.Node("b")}, disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	a := open(t, replica.Config{Transport: network.Node("a"), Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}}})
	sa, sb := space(t, a), space(t, b)
	const documents = 100
	rc := update(t, sa, func(tx *replica.Tx) {
		for i := range documents {
			tx.Doc(fmt.Sprintf("%03d", i)).Set(crdt.Path{"photo"}, i)
		}
	})
	large := strings.Repeat("x", crdt.MaxValueBytes-100)
	for i := range documents {
		set(t, sb, fmt.Sprintf("%03d", i), "photo", large)
	}

	// While nothing can be stored, not even a part, the session ends with the reason instead of trying for ever.
	disk.FailCommits(store.ErrNoSpace)
	network.Heal()
	waitError(t, sb, store.ErrNoSpace.Error())
	if n := sa.Synced(rc); n != 0 {
		t.Fatal("what could not be stored was acknowledged")
	}
	disk.FailCommits(nil)

	waitLevel(t, sa, sb)
	for _, s := range []*replica.Space{sa, sb} {
		mustVerify(t, s)
		st, err := s.Status(t.Context())
		if err != nil || !st.Closed {
			t.Fatalf("closed: %v, %v", st.Closed, err)
		}
	}
}

// waitError waits until the status of the only peer of a space shows an error that contains text.
func waitError(t *testing.T, s *replica.Space, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		st, err := s.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(st.Peers) == 1 && strings.Contains(st.Peers[0].LastError, text) {
			return
		}
		waitChange(ctx, t, s)
	}
}

func TestPeerThatNamesTooManyReplicasIsToldSo(t *testing.T) {
	network := memnet.New(1)
	s := space(t, open(t, replica.Config{Transport: network.Node("a")}))
	rc := set(t, s, "d", "x", 1)
	p := dialAs(t, network, "b", "mem:a", "notes")
	p.say(&protocol.Vectors{})
	dots := make([]crdt.Dot, codec.MaxVectorEntries)
	for i := range dots {
		dots[i] = crdt.Dot{Replica: crdt.ReplicaID(1 + i), Time: 5}
	}
	horizon, _ := crdt.SortedVector(dots)
	p.say(&protocol.Delta{Delta: crdt.Delta{Origin: 1, To: 5, Horizon: horizon}})
	if m := hear[*protocol.Refusal](p); m.Code != protocol.RefusedInternal || !strings.Contains(m.Text, "replicas is over the limit") {
		t.Fatalf("got %+v", m)
	}
	if st, _ := s.Status(t.Context()); st.Vector.Len() != 1 || !st.Vector.Covers(rc.Dot) {
		t.Fatalf("the vector is %s", st.Vector)
	}
	set(t, s, "d", "x", 2)
}
