package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// storedPair is two replicas whose stores a test can reach.
type storedPair struct {
	network        *memnet.Network
	storeA, storeB *memstore.Store
	a, b           *replica.Replica
	sa, sb         *replica.Space
}

func newStoredPair(t *testing.T) *storedPair {
	t.Helper()
	p := &storedPair{network: memnet.New(1), storeA: memstore.New(), storeB: memstore.New()}
	p.b = p.open(t, "b", "", p.storeB)
	p.a = p.open(t, "a", "b", p.storeA)
	p.sa, p.sb = space(t, p.a), space(t, p.b)
	return p
}

func (p *storedPair) open(t *testing.T, name, to string, st store.Store) *replica.Replica {
	t.Helper()
	cfg := replica.Config{Transport: p.network.Node(name), ScrubInterval: time.Hour}
	if to != "" {
		cfg.Peers = []replica.Peer{{ID: memnet.ID(to), Addr: "mem:" + to}}
	}
	r, err := replica.OpenOn(cfg, st)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (p *storedPair) close(t *testing.T) {
	t.Helper()
	for _, r := range []*replica.Replica{p.a, p.b} {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// alter changes the record of a document behind the back of its replica.
func alter(t *testing.T, st *memstore.Store, key string, change func([]byte) []byte) {
	t.Helper()
	k := append([]byte{'d', 0, 0, 0, 1}, key...)
	snap, err := st.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	value, ok, err := snap.Get(k)
	if err != nil || !ok {
		t.Fatalf("no record of %q: %v", key, err)
	}
	b := new(store.Batch)
	if value = change(bytes.Clone(value)); value == nil {
		b.Delete(k)
	} else {
		b.Put(k, value)
	}
	if err := st.Commit(b); err != nil {
		t.Fatal(err)
	}
}

func flipAByte(value []byte) []byte { value[len(value)-2] ^= 1; return value }
func lose([]byte) []byte            { return nil }

// sound checks that what derives from the documents is right, and that both hold the same.
func (p *storedPair) sound(t *testing.T) {
	t.Helper()
	for _, s := range []*replica.Space{p.sa, p.sb} {
		report, err := s.Verify(t.Context(), replica.VerifyOptions{})
		if err != nil || len(report.Problems) > 0 {
			t.Errorf("%v %v", err, report.Problems)
		}
	}
	waitLevel(t, p.sa, p.sb)
}

func status(t *testing.T, s *replica.Space) replica.SpaceStatus {
	t.Helper()
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// TestScrubFindsDamageAndPeersMendIt: nobody reads the damaged documents, and after some hours they are whole again.
func TestScrubFindsDamageAndPeersMendIt(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{"a byte changed": flipAByte, "a record is gone": lose} {
		for _, of := range []string{"a", "b"} {
			t.Run(name+" at "+of, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newStoredPair(t)
					defer p.close(t)
					for i := range 100 {
						set(t, p.sa, fmt.Sprintf("d%02d", i), "f", i)
					}
					waitLevel(t, p.sa, p.sb)
					st, s := p.storeA, p.sa
					if of == "b" {
						st, s = p.storeB, p.sb
					}
					alter(t, st, "d42", change)
					<-time.After(3 * time.Hour) // in the time of the bubble
					if repair := status(t, s).Repair; repair.Damaged || repair.Repairs == 0 || repair.Documents != 1 {
						t.Errorf("%+v: want one document repaired", repair)
					}
					p.sound(t)
					if got := show(t, s, "d42"); got != "map[f:42]" {
						t.Errorf("d42 is %s", got)
					}
				})
			})
		}
	}
}

// Damage that somebody meets is mended at once, and not when the node next looks around.
func TestDamageThatIsReadIsMendedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStoredPair(t)
		defer p.close(t)
		set(t, p.sa, "d", "f", 1)
		waitLevel(t, p.sa, p.sb)
		<-time.After(31500 * time.Millisecond) // between two looks around, in the time of the bubble
		alter(t, p.storeA, "d", flipAByte)
		if _, err := p.sa.Get(t.Context(), "d"); !errors.Is(err, replica.ErrDamaged) {
			t.Errorf("reading it: %v", err)
		}
		<-time.After(time.Second)
		if repair := status(t, p.sa).Repair; repair.Damaged || repair.Repairs != 1 {
			t.Errorf("a second later: %+v", repair)
		}
		if got := show(t, p.sa, "d"); got != "map[f:1]" {
			t.Errorf("d is %s", got)
		}
		p.sound(t)
	})
}

// A record that cannot be read stands in the way of pruning. It is mended then, long before a scrub would find it.
func TestDamageThatPruningMeetsIsMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStoredPair(t)
		defer p.close(t)
		set(t, p.sa, "d", "f", 1)
		set(t, p.sa, "e", "f", 1)
		remove(t, p.sa, "e")
		waitLevel(t, p.sa, p.sb)
		alter(t, p.storeA, "d", flipAByte)
		<-time.After(2 * time.Minute) // in the time of the bubble; PruneDelay is one, and the first scrub comes after five
		if repair := status(t, p.sa).Repair; repair.Damaged || repair.Repairs == 0 {
			t.Errorf("%+v", repair)
		}
		if got := show(t, p.sa, "d"); got != "map[f:1]" {
			t.Errorf("d is %s", got)
		}
		p.sound(t)
		<-time.After(2 * time.Minute)
		if found := report(t, p.sa); found.Documents != 1 || found.LogEntries != 0 {
			t.Errorf("pruning did not go on: %+v", found)
		}
	})
}

// TestMismatchRaisesTheAlarmAndIsRepaired: closed replicas with equal vectors and different digests.
func TestMismatchRaisesTheAlarmAndIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStoredPair(t)
		defer p.close(t)
		for i := range 100 {
			set(t, p.sa, fmt.Sprintf("d%02d", i), "f", i)
		}
		waitLevel(t, p.sa, p.sb)
		alter(t, p.storeB, "d42", lose)
		if _, err := p.sb.Verify(t.Context(), replica.VerifyOptions{Repair: true}); err != nil { // now the digest says what is there
			t.Fatal(err)
		}
		<-time.After(2 * time.Minute) // in the time of the bubble
		for _, s := range []*replica.Space{p.sa, p.sb} {
			st := status(t, s)
			if st.Repair.Mismatches == 0 || st.Repair.Repairs == 0 || st.Peers[0].Mismatch || st.Peers[0].RepairedAt.IsZero() {
				t.Errorf("%+v, %+v: want a mismatch that was repaired", st.Repair, st.Peers[0])
			}
		}
		if got := show(t, p.sb, "d42"); got != "map[f:42]" {
			t.Errorf("d42 is %s", got)
		}
		p.sound(t)
	})
}

// TestDeltaForADamagedDocumentIsMerged: the damage is noticed as a peer's write comes, and what else the document had comes back.
func TestDeltaForADamagedDocumentIsMerged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newStoredPair(t)
		defer p.close(t)
		set(t, p.sa, "d", "f", 1)
		set(t, p.sa, "d", "g", 2)
		waitLevel(t, p.sa, p.sb)
		alter(t, p.storeB, "d", flipAByte)
		set(t, p.sa, "d", "g", 3)
		<-time.After(2 * time.Minute) // in the time of the bubble
		if got := show(t, p.sb, "d"); got != "map[f:1 g:3]" {
			t.Errorf("d is %s", got)
		}
		p.sound(t)
	})
}

// TestLastingDifferenceIsRepaired: a writer is lost for good. One node got his first delta when its field was new, the other later, when
// the field had been written again, by a transaction whose own delta nobody got.
func TestLastingDifferenceIsRepaired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &storedPair{network: memnet.New(1), storeA: memstore.New(), storeB: memstore.New()}
		p.a = p.open(t, "a", "", p.storeA)
		p.b = p.open(t, "b", "", p.storeB)
		defer p.close(t)
		p.sa, p.sb = space(t, p.a), space(t, p.b)
		const writer = crdt.ReplicaID(0xee)
		for addr, at := range map[string]hlc.Time{"mem:a": 5, "mem:b": 9} {
			w := dialAs(t, p.network, "w"+addr[4:], addr, "notes")
			w.say(&protocol.Vectors{VV: crdt.NewVersionVector(crdt.Dot{Replica: writer, Time: 5})})
			w.say(&protocol.Delta{Delta: crdt.Delta{
				Origin: writer, To: 5, Horizon: crdt.NewVersionVector(crdt.Dot{Replica: writer, Time: at}),
				Documents: []crdt.DocumentDelta{{Key: "d", Cells: codec.AppendCells(nil, []crdt.Field{{Path: "f\x00", Cell: crdt.Cell{
					Live: []crdt.Entry{{Dot: crdt.Dot{Replica: writer, Time: at}, Stamp: at, Author: writer, Value: crdt.IntValue(int64(at))}},
				}}})}},
			}})
			hear[*protocol.Ack](w)
			w.conn.Close(replica.CloseDone, "")
		}
		if a, b := show(t, p.sa, "d"), show(t, p.sb, "d"); a != "map[f:5]" || b != "map[f:9]" {
			t.Fatalf("before, a shows %s and b %s", a, b)
		}
		p.a.AddPeer(replica.Peer{ID: memnet.ID("b"), Addr: "mem:b"})
		<-time.After(2 * time.Minute) // in the time of the bubble
		for _, s := range []*replica.Space{p.sa, p.sb} {
			if got := show(t, s, "d"); got != "map[f:9]" {
				t.Errorf("d is %s", got)
			}
			if r := status(t, s).Repair; r.Repairs != 1 || r.Mismatches != 0 {
				t.Errorf("%+v: want one repair and no mismatch", r)
			}
		}
		p.sound(t)
	})
}
