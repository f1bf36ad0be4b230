package docstore

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

func sampleClient() ClientRecord {
	return ClientRecord{
		Subject: "user", Last: 9, Stamp: 77, Used: 1_790_000_000_000,
		Given:    crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 70}, crdt.Dot{Replica: 5, Time: 76}),
		Rejected: []ClientRejection{{3, "bad-request", "no key"}, {8, "too-large", ""}},
	}
}

func packClient(c *ClientRecord) (key, value []byte) {
	b := new(store.Batch)
	(&Space{number: 1}).PutClient(b, 7, c)
	key = clientKey(1, 7)
	value, _, _ = b.Get(key)
	return key, value
}

func TestClientRecordRoundTrip(t *testing.T) {
	full := sampleClient()
	for _, want := range []ClientRecord{{}, full, {Subject: "", Last: 1}} {
		key, value := packClient(&want)
		got, err := parseClient(key, value)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v became %+v, error %v", want, got, err)
		}
	}
	key, value := packClient(&full)
	for n := range value[4:] {
		cutOff := seal(key, append(make([]byte, 4), value[4:4+n]...))
		if c, err := parseClient(key, cutOff); err == nil && len(c.Rejected) == len(full.Rejected) {
			t.Errorf("%d bytes of %d were taken as %+v", n, len(value)-4, c)
		}
	}
}

func FuzzParseClient(f *testing.F) {
	c := sampleClient()
	key, value := packClient(&c)
	f.Add(value[4:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseClient(key, seal(key, append(make([]byte, 4), b...)))
		if err != nil {
			return
		}
		_, packed := packClient(&c)
		if again, err := parseClient(key, packed); err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%+v became %+v, error %v", c, again, err)
		}
	})
}

func TestGivenDotsStayFew(t *testing.T) {
	var c ClientRecord
	var stable crdt.VersionVector
	for i := range 1000 {
		c.Settle(uint64(i+1), crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: hlc.Time(i + 1)}, nil, stable)
	}
	if n := c.Given.Len(); n > maxGiven || !c.Given.Covers(crdt.Dot{Replica: 1000, Time: 1000}) {
		t.Errorf("%d entries", n)
	}
	stable = c.Given.Clone()
	c.Settle(1001, crdt.Dot{Replica: 1001, Time: 1001}, nil, stable)
	if n := c.Given.Len(); n != 1 {
		t.Errorf("%d entries, of which all but one are stable", n)
	}
}

func TestClientsAreForgotten(t *testing.T) {
	n := newNode(t, 1)
	b := new(store.Batch)
	for i, used := range []int64{100, 300, 100, 300} {
		n.space.PutClient(b, crdt.ReplicaID(i+1), &ClientRecord{Subject: "user", Last: 1, Used: used})
	}
	n.space.putRenamed(b, crdt.Dot{Replica: 1, Time: 5}, crdt.Dot{Replica: 2, Time: hlc.FromUnixMilli(100)})
	n.space.putRenamed(b, crdt.Dot{Replica: 1, Time: 6}, crdt.Dot{Replica: 2, Time: hlc.FromUnixMilli(300)})
	n.commit(b)
	over := &Overlay{Batch: new(store.Batch), Snapshot: n.snapshot()}
	n.space.PutClient(over.Batch, 3, &ClientRecord{Subject: "user", Last: 2, Used: 300}) // used just now
	steps := 0
	for next := []byte(nil); ; {
		var err error
		if next, err = n.space.ForgetClients(over, next, 200, 2); err != nil {
			t.Fatal(err)
		}
		if steps++; next == nil {
			break
		}
	}
	n.commit(over.Batch)
	if steps < 3 {
		t.Errorf("6 records were looked at in %d steps of 2", steps)
	}
	keys := n.keys()
	if keys[kindClient] != 3 || keys[kindRenamed] != 1 {
		t.Errorf("%d clients and %d names are left", keys[kindClient], keys[kindRenamed])
	}
	if c, ok, err := n.space.Client(n.snapshot(), 3); err != nil || !ok || c.Last != 2 {
		t.Errorf("the client that was used just now: %+v, %v, error %v", c, ok, err)
	}
}

func TestVerifyReadsClients(t *testing.T) {
	n := newNode(t, 1)
	b := new(store.Batch)
	c := sampleClient()
	n.space.PutClient(b, 7, &c)
	n.commit(b)
	n.verify()
	n.alter(clientKey(1, 7), func(v []byte) []byte { return append(bytes.Clone(v), 1) })
	report, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{})
	if err != nil || len(report.Problems) != 1 || report.Problems[0].Derived {
		t.Errorf("%v, error %v", report.Problems, err)
	}
}

// TestUnnamedOfAnOpenReplica: its vectors have entries of the longer form.
func TestUnnamedOfAnOpenReplica(t *testing.T) {
	_, _, _, e, _ := leftOut(t)
	b := new(store.Batch)
	e.space.Flush(b)
	e.commit(b)
	got, err := Unnamed(e.snapshot(), 1)
	if err != nil || !got.Equal(e.space.Stable()) {
		t.Errorf("%s, and %s is stable; error %v", got, e.space.Stable(), err)
	}
}
