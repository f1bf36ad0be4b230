package crdt_test

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func TestReissueKeepsWhatATransactionDid(t *testing.T) {
	const old, fresh, other, client = 1, 7, 2, 9
	dot := func(r crdt.ReplicaID, at hlc.Time) crdt.Dot { return crdt.Dot{Replica: r, Time: at} }
	live := func(d crdt.Dot, v int64) crdt.Entry {
		return crdt.Entry{Dot: d, Stamp: d.Time, Author: d.Replica, Value: crdt.IntValue(v)}
	}
	onBehalf := crdt.Entry{Dot: dot(old, 1003), Stamp: 1002, Author: client, Value: crdt.IntValue(1)}
	clamped, early := onBehalf, onBehalf
	clamped.Dot, clamped.Stamp = dot(fresh, 13), 13
	early.Stamp = 5
	kept := early
	kept.Dot = dot(fresh, 13)
	for _, c := range []struct {
		name     string
		in, want crdt.Cell
	}{
		{"a value", crdt.Cell{Live: []crdt.Entry{live(dot(old, 1001), 1)}},
			crdt.Cell{Live: []crdt.Entry{live(dot(fresh, 11), 1)}, Observed: crdt.NewVersionVector(dot(old, 10))}},
		{"beside another's, which it had not seen", crdt.Cell{Live: []crdt.Entry{live(dot(old, 1001), 1), live(dot(other, 3), 2)}},
			crdt.Cell{Live: []crdt.Entry{live(dot(other, 3), 2), live(dot(fresh, 11), 1)}, Observed: crdt.NewVersionVector(dot(old, 10))}},
		{"what it had replaced", crdt.Cell{Live: []crdt.Entry{live(dot(old, 1001), 1)}, Observed: crdt.NewVersionVector(dot(other, 3))},
			crdt.Cell{Live: []crdt.Entry{live(dot(fresh, 11), 1)}, Observed: crdt.NewVersionVector(dot(old, 10), dot(other, 3))}},
		{"a removal", crdt.Cell{Observed: crdt.NewVersionVector(dot(old, 1002), dot(other, 3))},
			crdt.Cell{Observed: crdt.NewVersionVector(dot(fresh, 12), dot(old, 10), dot(other, 3))}},
		{"one that others have stays", crdt.Cell{Live: []crdt.Entry{live(dot(old, 10), 1)}}, crdt.Cell{Live: []crdt.Entry{live(dot(old, 10), 1)}}},
		{"one beyond stays", crdt.Cell{Live: []crdt.Entry{live(dot(old, 1009), 1)}}, crdt.Cell{Live: []crdt.Entry{live(dot(old, 1009), 1)}}},
		{"on somebody's behalf", crdt.Cell{Live: []crdt.Entry{onBehalf}},
			crdt.Cell{Live: []crdt.Entry{clamped}, Observed: crdt.NewVersionVector(dot(old, 10))}},
		{"on somebody's behalf, long ago", crdt.Cell{Live: []crdt.Entry{early}},
			crdt.Cell{Live: []crdt.Entry{kept}, Observed: crdt.NewVersionVector(dot(old, 10))}},
	} {
		before := crdt.Cell{Live: append([]crdt.Entry(nil), c.in.Live...), Observed: c.in.Observed.Clone()}
		got, changed := c.in.Reissue(old, 10, 1008, func(t hlc.Time) crdt.Dot { return dot(fresh, t-990) })
		if !got.Equal(c.want) || changed != !c.want.Equal(c.in) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if err := got.Check(); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.in.Equal(before) {
			t.Errorf("%s: it was changed in place", c.name)
		}
	}
}

// The counter's part that others have, 5, and the held sum that had replaced it, 7: wherever the two meet, the sum is 7.
func TestReissuedSumTakesThePlaceOfTheOneThatOthersHave(t *testing.T) {
	old, fresh := crdt.ReplicaID(1), crdt.ReplicaID(7)
	event := func(r crdt.ReplicaID, at hlc.Time) crdt.Event { return crdt.EventAt(crdt.Dot{Replica: r, Time: at}) }
	var theirs crdt.Cell
	if err := theirs.Increment(event(old, 10), 5); err != nil {
		t.Fatal(err)
	}
	held := theirs
	if err := held.Increment(event(old, 1001), 2); err != nil {
		t.Fatal(err)
	}
	got, _ := held.Reissue(old, 10, 1001, func(hlc.Time) crdt.Dot { return crdt.Dot{Replica: fresh, Time: 11} })
	none := crdt.VersionVector{}
	for _, m := range []crdt.Cell{crdt.Merge(got, none, theirs, none), crdt.Merge(theirs, none, got, none)} {
		if len(m.Live) != 1 || m.Live[0].Value != crdt.CounterValue(7) {
			t.Errorf("%+v", m.Live)
		}
	}
	if err := got.Increment(event(fresh, 12), 1); err != nil || len(got.Live) != 1 || got.Live[0].Value != crdt.CounterValue(8) {
		t.Errorf("it goes on as %+v, %v", got.Live, err)
	}
}
