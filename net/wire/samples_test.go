package wire

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// sample is one frame of each kind, as it is written and read.
type sample struct {
	name  string
	value any
	write func() ([]byte, error)
}

func at(ms int64, logical int) hlc.Time { return hlc.FromUnixMilli(ms) + hlc.Time(logical) }

const (
	alice = crdt.ReplicaID(0xa11ce00000000001)
	bob   = crdt.ReplicaID(0x0b0b)
)

func sampleVector() crdt.VersionVector {
	return crdt.NewVersionVector(crdt.Dot{Replica: alice, Time: at(1_790_000_000_000, 3)}, crdt.Dot{Replica: bob, Time: at(1_789_999_999_000, 0)})
}

func samples() []sample {
	hello := Hello{
		Major: 1, Minor: 0, Wall: time.UnixMilli(1_790_000_000_123), Features: []string{"snapshot"},
		Addrs: []string{"192.0.2.1:7440", "[2001:db8::1]:7440"}, Software: "anabranch", Version: "1.0.0",
	}
	list := []sample{
		{"hello", hello, func() ([]byte, error) { return AppendHello(nil, hello) }},
		{"space-open", "inventory ä", func() ([]byte, error) { return AppendSpaceOpen(nil, "inventory ä") }},
	}
	join := protocol.JoinRequest{Space: [32]byte{1, 31: 2}, Ticket: [32]byte{3, 31: 4}, Proof: [64]byte{5, 63: 6}, Statements: []byte{}}
	introduce := protocol.JoinRequest{Space: [32]byte{1, 31: 2}, Statements: []byte("statements")}
	joined := protocol.JoinAnswer{Statements: []byte("statements")}
	refused := protocol.JoinAnswer{Code: protocol.JoinRevoked, Text: "the grant was revoked", Statements: []byte("statements")}
	list = append(list,
		sample{"join", join, func() ([]byte, error) { return AppendJoin(nil, join) }},
		sample{"join-introduction", introduce, func() ([]byte, error) { return AppendJoin(nil, introduce) }},
		sample{"joined", joined, func() ([]byte, error) { return AppendJoinAnswer(nil, joined) }},
		sample{"join-refused", refused, func() ([]byte, error) { return AppendJoinAnswer(nil, refused) }},
	)
	addresses := &protocol.Addresses{Seen: "198.51.100.7:7420", Peers: 5, Known: []protocol.Whereabouts{
		{Peer: protocol.PeerID{1, 2, 31: 3}, Addrs: []string{"192.0.2.1:7420", "[2001:db8::1]:7420"}},
		{Peer: protocol.PeerID{4}, Age: 90 * time.Second, Addrs: []string{"node.example.org:7420"}},
	}}
	list = append(list, sample{"addresses", addresses, func() ([]byte, error) { return MarshalControl(nil, addresses) }})
	for _, m := range []struct {
		name string
		m    protocol.Message
	}{
		{"grants", &protocol.Grants{Hash: [32]byte{1, 31: 2}, Statements: []byte("statements")}},
		{"vectors", &protocol.Vectors{Self: alice, VV: sampleVector(), Stable: crdt.NewVersionVector(crdt.Dot{Replica: bob, Time: at(1_789_000_000_000, 0)})}},
		{"vectors-empty", &protocol.Vectors{}},
		{"vectors-ahead", &protocol.Vectors{Self: bob, VV: sampleVector(), Ahead: crdt.NewVersionVector(crdt.Dot{Replica: bob, Time: at(1_790_000_000_000, 0)})}},
		{"vectors-open", &protocol.Vectors{
			Self: bob, VV: sampleVector(), Ahead: sampleVector(), Open: []crdt.Dot{{Replica: bob}, {Replica: alice, Time: at(1_789_999_990_000, 0)}},
		}},
		{"clock-question", &protocol.Clock{Asked: 7}},
		{"clock", &protocol.Clock{Asked: 7, Wall: time.UnixMilli(1_790_000_000_123)}},
		{"delta", &protocol.Delta{Delta: crdt.Delta{
			Origin: alice, From: at(1_789_999_990_000, 0), To: at(1_790_000_000_000, 3), Horizon: sampleVector(), Stable: at(1_789_999_980_000, 0),
			Documents: []crdt.DocumentDelta{
				{Key: "a", Cells: []byte{1, 2, 3}},
				{Key: "species/../ä\x00", Cells: nil},
				{Key: "species/7", Cells: make([]byte, 300)},
			},
		}}},
		{"packed", packedSample()},
		{"delta-empty", &protocol.Delta{Delta: crdt.Delta{Origin: bob, From: 5, To: 5}}},
		{"ack", &protocol.Ack{VV: sampleVector()}},
		{"ack-several", &protocol.Ack{VV: crdt.NewVersionVector(
			crdt.Dot{Replica: bob, Time: at(1_790_000_000_000, 0)}, crdt.Dot{Replica: 0xc0c0, Time: at(1_790_000_000_001, 3)}, crdt.Dot{Replica: alice, Time: at(1_790_000_000_001, 3)},
		)}},
		{"ack-open", &protocol.Ack{VV: sampleVector(), Open: []crdt.Dot{{Replica: bob}}}},
		{"level", &protocol.Level{VectorHash: [16]byte{1, 2, 15: 16}, Digest: crdt.Digest{Hi: 3, Lo: 4}, Closed: true}},
		{"refusal", &protocol.Refusal{Code: protocol.RefusedClock, Origin: bob, From: 1, To: at(1_790_000_000_000, 3), Text: "the clock of 0b0b is 3 h ahead"}},
		{"refusal-open", &protocol.Refusal{Code: protocol.RefusedOpen, Origin: bob, From: 1, To: at(1_790_000_000_000, 3), Text: "the sender forgot what 0b0b removed"}},
		{"snapshot-offer", &protocol.SnapshotOffer{Stable: sampleVector()}},
		{"snapshot-request", &protocol.SnapshotRequest{From: protocol.Position{Key: "species/7", Path: "name\x00common\x00"}, V: sampleVector()}},
		{"snapshot-request-known", &protocol.SnapshotRequest{From: protocol.Position{Key: "a", Path: "x\x00"}, V: sampleVector(), Known: &protocol.KnownRanges{
			Round: 1<<63 + 7, Stable: sampleVector(), Parts: []protocol.Part{
				{Range: protocol.Range{Lower: protocol.AfterDocument("a"), Upper: protocol.Position{Key: "sp\xc3"}}, Fingerprint: 1 << 63},
				{Range: protocol.Range{Lower: protocol.Position{Key: "sp\xc3"}, Upper: protocol.Position{Key: "t"}}, Damaged: true},
				{Range: protocol.Range{Lower: protocol.Position{Key: "t"}}, Fingerprint: 3},
			},
		}}},
		{"snapshot-begin-known", &protocol.SnapshotBegin{State: 3, VV: sampleVector(), Horizon: sampleVector(), Documents: 4, Bytes: 500, Round: 1<<63 + 7}},
		{"snapshot-piece-equal", &protocol.SnapshotPiece{
			State: 3, Range: protocol.Range{Lower: protocol.AfterDocument("a"), Upper: protocol.Position{Key: "sp\xc3"}}, Equal: true, Fingerprint: 1 << 63,
		}},
		{"snapshot-begin", &protocol.SnapshotBegin{
			State: 2, From: protocol.AfterDocument("species/7"), VV: sampleVector(), Stable: crdt.NewVersionVector(crdt.Dot{Replica: bob, Time: 7}),
			Horizon: sampleVector(), Documents: 40_000, Bytes: 5_000_000,
		}},
		{"snapshot-piece", &protocol.SnapshotPiece{
			State: 2, Range: protocol.Range{Lower: protocol.AfterDocument("a"), Upper: protocol.Position{Key: "b", Path: "x\x00"}},
			Documents: []crdt.DocumentDelta{{Key: "a\x00", Cells: []byte{1}}, {Key: "b", Cells: []byte{1, 2, 3}}},
		}},
		{"snapshot-part", &protocol.SnapshotPiece{
			State: 2, Range: protocol.Range{Lower: protocol.Position{Key: "b", Path: "x\x00"}, Upper: protocol.AfterDocument("b")},
			Documents: []crdt.DocumentDelta{{Key: "b", Cells: []byte{1, 2, 3}}}, Partial: true, Spared: sampleVector(),
		}},
		{"snapshot-last", &protocol.SnapshotPiece{State: 2, Range: protocol.Range{Lower: protocol.Position{Key: "b", Path: "x\x00"}}}},
		{"members", &protocol.Members{List: []protocol.MemberNews{
			{Peer: protocol.PeerID{1, 31: 2}, Heard: 1_790_000_000_000, Direct: true},
			{Peer: protocol.PeerID{3, 31: 4}, Heard: 1_789_000_000_000, Evicted: 1_789_500_000_000, Dots: []crdt.Dot{{Replica: bob}, {Replica: alice, Time: at(1_790_000_000_000, 3)}}},
			{Peer: protocol.PeerID{5, 31: 6}, Whole: true, Dots: []crdt.Dot{{Replica: bob, Time: 7}}},
		}}},
		{"opening", &protocol.Opening{Self: alice, VV: protocol.Summarize(sampleVector()), Stable: protocol.VectorSummary{Entries: MaxVectorEntries}}},
		{"opening-open", &protocol.Opening{
			Self: alice, VV: protocol.Summarize(sampleVector()), Ahead: sampleVector(), Open: []crdt.Dot{{Replica: bob, Time: 7}, {Replica: alice}},
		}},
		{"branches", &protocol.Branches{List: []protocol.Branch{
			{Hashes: &[protocol.FanOut]protocol.BranchHash{0: {1, 2, 3, 4, 5, 6}, 31: {7}}},
			{Place: protocol.Place{Prefix: 0xa << 60, Depth: 1}, Entries: []crdt.Dot{{Replica: alice, Time: at(1_790_000_000_000, 3)}}},
			{Place: protocol.Place{Prefix: 0xb08 << 52, Depth: 2}},
		}}},
		{"repair-open", &protocol.RepairOpen{Round: 7, Stable: sampleVector()}},
		{"range-digests", &protocol.RangeDigests{Round: 7, Parts: []protocol.Part{
			{Range: protocol.Range{Upper: protocol.Position{Key: "sp\xc3"}}, Fingerprint: 1 << 63},
			{Range: protocol.Range{Lower: protocol.Position{Key: "sp\xc3"}, Upper: protocol.Position{Key: "species/7", Path: "name\x00"}}, Damaged: true},
			{Range: protocol.Range{Lower: protocol.Position{Key: "t"}}},
		}}},
		{"range-digests-empty", &protocol.RangeDigests{Round: 7}},
		{"range-answer", &protocol.RangeAnswer{Round: 7, Stable: sampleVector(), Differs: []protocol.RangeDifference{{Index: 0, Pieces: 3}, {Index: 1023}}}},
		{"range-answer-refused", &protocol.RangeAnswer{Round: 7, Refused: true, Text: "this replica needs a snapshot"}},
		{"range-cells", &protocol.RangeCells{Round: 7, Reply: true, Claims: 300, Spans: []protocol.Range{{Lower: protocol.Position{Key: "a"}}}, Horizon: sampleVector(),
			Documents: []crdt.DocumentDelta{{Key: "a", Cells: []byte{1, 2, 3}}}}},
	} {
		list = append(list, sample{m.name, m.m, func() ([]byte, error) { return Marshal(nil, m.m) }})
	}
	return list
}

// packedSample repeats itself, as the documents of a bulk frame do.
func packedSample() *protocol.Delta {
	d := &protocol.Delta{Delta: crdt.Delta{Origin: alice, From: 1, To: at(1_790_000_000_000, 3), Horizon: sampleVector()}}
	for i := range 20 {
		cells := fmt.Appendf(nil, "a stand-in for the cells of document %d, which like all others has a name, a price and a colour", i)
		d.Documents = append(d.Documents, crdt.DocumentDelta{Key: fmt.Sprintf("species/%03d", i), Cells: cells})
	}
	return d
}

// parse reads any frame.
func parse(b []byte) (any, error) {
	if t, _, err := split(b); err == nil {
		switch t {
		case TypeHello:
			return ParseHello(b)
		case TypeSpaceOpen:
			return ParseSpaceOpen(b)
		case TypeJoin:
			return orNil(ParseJoin(b))
		case TypeJoined, TypeJoinRefused:
			return orNil(ParseJoinAnswer(b))
		case TypeAddresses:
			return UnmarshalControl(b)
		}
	}
	m, err := Unmarshal(b)
	if m == nil {
		return nil, err
	}
	return m, err
}

func orNil[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// write is the inverse of parse.
func write(v any) ([]byte, error) {
	switch v := v.(type) {
	case Hello:
		return AppendHello(nil, v)
	case string:
		return AppendSpaceOpen(nil, v)
	case protocol.JoinRequest:
		return AppendJoin(nil, v)
	case protocol.JoinAnswer:
		return AppendJoinAnswer(nil, v)
	case protocol.Control:
		return MarshalControl(nil, v)
	case protocol.Message:
		return Marshal(nil, v)
	}
	return nil, fmt.Errorf("cannot write a %T", v)
}

// same compares values as messages: nil and empty cells are one.
func same(a, b any) bool {
	x, errX := write(a)
	y, errY := write(b)
	return errX == nil && errY == nil && reflect.TypeOf(a) == reflect.TypeOf(b) && string(x) == string(y)
}

func must(t testing.TB, s sample) []byte {
	t.Helper()
	b, err := s.write()
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return b
}
