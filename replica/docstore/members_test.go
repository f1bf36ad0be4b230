package docstore

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

func TestMembersAreKeptBySpace(t *testing.T) {
	n := newNode(t, 1)
	b := new(store.Batch)
	PutMember(b, 1, protocol.Member{Peer: protocol.PeerID{1}, VV: crdt.NewVersionVector(crdt.Dot{Replica: 5, Time: 6}), Heard: 1_790_000_000_000, Evicted: 7})
	PutMember(b, 1, protocol.Member{Peer: protocol.PeerID{2}})
	PutMember(b, 1, protocol.Member{Peer: protocol.PeerID{3}})
	PutMember(b, 2, protocol.Member{Peer: protocol.PeerID{2}, VV: crdt.NewVersionVector(crdt.Dot{Replica: 7, Time: 8})})
	ForgetMember(b, 1, protocol.PeerID{3})
	n.commit(b)
	members, err := Members(n.snapshot(), 1)
	if err != nil || len(members) != 2 {
		t.Fatalf("got %v, %v", members, err)
	}
	if m := members[0]; m.VV.Get(5) != 6 || m.Heard != 1_790_000_000_000 || m.Evicted != 7 {
		t.Errorf("got %+v", m)
	}
	if m := members[1]; m.Peer != (protocol.PeerID{2}) || m.VV.Len() != 0 || m.Heard != 0 {
		t.Errorf("got %+v", m)
	}
}

// Once only the vector was stored.
func TestMemberWithoutTimesIsRead(t *testing.T) {
	n := newNode(t, 1)
	b := new(store.Batch)
	key := memberKey(1, protocol.PeerID{1})
	b.Put(key, seal(key, codec.AppendVector(make([]byte, 4), crdt.NewVersionVector(crdt.Dot{Replica: 5, Time: 6}))))
	n.commit(b)
	members, err := Members(n.snapshot(), 1)
	if err != nil || len(members) != 1 || members[0].VV.Get(5) != 6 || members[0].Heard != 0 {
		t.Errorf("got %v, %v", members, err)
	}
}
