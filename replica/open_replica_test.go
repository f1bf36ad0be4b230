package replica_test

import (
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// fieldOf returns a document of one field, written by a transaction that had seen others.
func fieldOf(t *testing.T, d crdt.Dot, text string, observed ...crdt.Dot) []crdt.DocumentDelta {
	t.Helper()
	path, err := crdt.Path{"f"}.Pack()
	if err != nil {
		t.Fatal(err)
	}
	cell := crdt.Cell{
		Live:     []crdt.Entry{{Dot: d, Stamp: d.Time, Author: d.Replica, Value: crdt.StringValue(text)}},
		Observed: crdt.NewVersionVector(observed...),
	}
	return []crdt.DocumentDelta{{Key: "d", Cells: codec.AppendCells(nil, []crdt.Field{{Path: path, Cell: cell}})}}
}

// b tells of the first transactions of some writer, and leaves out what a later one took over; then of that one, by somebody who has
// forgotten what the former removed; and after the refusal by somebody who has not.
func TestDeltaThatForgotTooMuchEndsNoSession(t *testing.T) {
	network := memnet.New(1)
	s := space(t, open(t, replica.Config{Transport: network.Node("a")}))
	p := dialAs(t, network, "b", "mem:a", "notes")
	p.say(&protocol.Vectors{})
	const writer, former crdt.ReplicaID = 7, 8
	removed := crdt.Dot{Replica: former, Time: 5}
	first := crdt.Delta{Origin: former, To: 5, Horizon: crdt.NewVersionVector(removed), Documents: fieldOf(t, removed, "removed")}
	last := crdt.Dot{Replica: writer, Time: 9}
	early := crdt.Delta{Origin: writer, To: 8, Horizon: crdt.NewVersionVector(last)}
	late := crdt.Delta{Origin: writer, From: 8, To: 9, Stable: 3, Horizon: early.Horizon, Documents: fieldOf(t, last, "anew")}
	for _, d := range []crdt.Delta{first, early, late} {
		p.say(&protocol.Delta{Delta: d})
	}
	var refusal *protocol.Refusal
	var ack *protocol.Ack
	for refusal == nil || ack == nil { // what is refused is told at once, and what is held once it is durable
		switch m := p.next().(type) {
		case *protocol.Refusal:
			refusal = m
		case *protocol.Ack:
			if m.VV.Get(writer) == 8 {
				ack = m
			}
		}
	}
	if refusal.Code != protocol.RefusedOpen || refusal.Origin != writer || refusal.From != 0 || refusal.To != 9 {
		t.Fatalf("got %+v", refusal)
	}
	if len(ack.Open) != 1 || ack.Open[0] != (crdt.Dot{Replica: writer}) {
		t.Errorf("it says that it is open at %v", ack.Open)
	}
	late.Stable, late.Documents = 0, fieldOf(t, last, "anew", removed)
	p.say(&protocol.Delta{Delta: late})
	for {
		if ack := hear[*protocol.Ack](p); ack.VV.Get(writer) == 9 {
			if len(ack.Open) > 0 {
				t.Errorf("it says that it is open at %v", ack.Open)
			}
			break
		}
	}
	if st := s.Summary(); !st.Closed {
		t.Error("it is not closed")
	}
	if got := show(t, s, "d"); !strings.Contains(got, "anew") {
		t.Errorf("it shows %s", got)
	}
	if n := s.Summary().Conflicts; n != 0 {
		t.Errorf("%d conflicts: what was removed is back", n)
	}
}

// A writer is lost, and a node that has a part of what it wrote last says that it forgets no more of that.
func TestStatusSaysThatPruningWaitsForWhatIsMissingHere(t *testing.T) {
	network := memnet.New(1)
	s := space(t, open(t, replica.Config{Transport: network.Node("a")}))
	p := dialAs(t, network, "b", "mem:a", "notes")
	p.say(&protocol.Vectors{})
	p.say(&protocol.Delta{Delta: crdt.Delta{
		Origin: 7, To: 8 << 16, Horizon: crdt.NewVersionVector(crdt.Dot{Replica: 7, Time: 9 << 16}),
		Documents: fieldOf(t, crdt.Dot{Replica: 7, Time: 5 << 16}, "x"),
	}})
	hear[*protocol.Ack](p)
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := st.Stability.OpenSince; got.UnixMilli() != 5 {
		t.Errorf("it is open since %v", got)
	}
}
