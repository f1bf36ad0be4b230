package replica_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
)

// TestDamageDoesNotHoldWritesForEver: what is held is damaged before its clock is corrected. Neither can wait for the other: no repair
// may tell a peer of what is held, and no re-issue can go through what cannot be read.
func TestDamageDoesNotHoldWritesForEver(t *testing.T) {
	for name, change := range map[string]func(value, older []byte) []byte{
		"a byte changed":          func(value, _ []byte) []byte { return flipAByte(value) },
		"a record is gone":        func(_, _ []byte) []byte { return nil },
		"an older record is back": func(_, older []byte) []byte { return older },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var clock wallClock
				p := &storedPair{network: memnet.New(1), storeA: memstore.New(), storeB: memstore.New()}
				p.b = p.open(t, "b", "", p.storeB)
				tr := p.network.Node("a")
				tr.SetNow(clock.now)
				var err error
				p.a, err = replica.OpenOn(replica.Config{
					Transport: tr, Now: clock.now, ScrubInterval: time.Hour, Peers: []replica.Peer{{ID: memnet.ID("b"), Addr: "mem:b"}},
				}, p.storeA)
				if err != nil {
					t.Fatal(err)
				}
				defer p.close(t)
				p.sa, p.sb = space(t, p.a), space(t, p.b)
				set(t, p.sa, "shared", "f", "sound")
				waitLevel(t, p.sa, p.sb)
				clock.set(year)
				<-time.After(time.Minute)
				set(t, p.sa, "held", "f", 1)
				set(t, p.sa, "damaged", "f", 1)
				older := make(map[string][]byte)
				for _, key := range []string{"shared", "damaged"} {
					alter(t, p.storeA, key, func(value []byte) []byte { older[key] = value; return value })
					set(t, p.sa, key, "f", "held")
				}
				<-time.After(time.Minute)
				for key, value := range older {
					alter(t, p.storeA, key, func(now []byte) []byte { return change(now, value) })
				}
				clock.set(0)
				<-time.After(3 * time.Hour)
				if held := p.a.Clock().Held; len(held) > 0 {
					t.Fatalf("still held: %+v", held)
				}
				p.sound(t)
				for key, want := range map[string]string{"held": "map[f:1]", "shared": "map[f:sound]"} {
					if got := show(t, p.sa, key); got != want {
						t.Errorf("%s is %s, want %s", key, got, want)
					}
				}
			})
		})
	}
}
