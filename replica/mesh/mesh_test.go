package mesh

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

var start = time.Unix(1_790_000_000, 0).UTC()

func id(n int) protocol.PeerID { return protocol.PeerID{byte(n >> 8), byte(n)} }

func all(_ protocol.PeerID, addrs []string) []string { return addrs }

func TestAddressesThatWorkedLastComeFirst(t *testing.T) {
	b := NewBook()
	b.Learn(id(1), FromPeers, start, "a", "b", "c")
	b.Learn(id(1), FromTicket, start.Add(time.Minute), "c")
	if got := fmt.Sprint(b.Addrs(id(1))); got != "[c a b]" {
		t.Error(got)
	}
	b.Missed(id(1), "c", start.Add(2*time.Minute))
	b.Reached(id(1), "b", start.Add(2*time.Minute))
	if got := fmt.Sprint(b.Addrs(id(1))); got != "[b a c]" {
		t.Error(got)
	}
}

func TestWhatANodeSaysOfItselfReplacesWhatOthersSaid(t *testing.T) {
	b := NewBook()
	b.Learn(id(1), FromPeers, start, "old")
	b.Learn(id(1), FromTicket, start, "ticket")
	b.Say(id(1), start.Add(time.Second), "new")
	if got := fmt.Sprint(b.Addrs(id(1))); got != "[new ticket]" {
		t.Error(got)
	}
}

func TestNodeThatCannotBeReachedIsLeftAloneLongerEachTime(t *testing.T) {
	b := NewBook()
	b.Learn(id(1), FromPeers, start, "a")
	now := start
	for want := minRetry; want < maxRetry; want *= 2 {
		b.Fail(id(1), now)
		if len(b.Candidates(now.Add(want-1))) != 0 || len(b.Candidates(now.Add(want))) != 1 {
			t.Fatalf("not left alone for %s", want)
		}
		now = now.Add(want)
	}
	b.Fail(id(1), now)
	b.Learn(id(1), FromPeers, now, "elsewhere")
	if len(b.Candidates(now)) != 1 {
		t.Error("it has moved, and is not dialled")
	}
}

func TestNodeThatOthersReachAgainIsTriedAgain(t *testing.T) {
	b := NewBook()
	b.Learn(id(1), FromPeers, start, "a")
	for range 20 {
		b.Fail(id(1), start)
	}
	b.See(id(1), start.Add(reviveAfter))
	if len(b.Candidates(start.Add(reviveAfter))) != 0 {
		t.Error("it was seen too soon after the failure")
	}
	b.See(id(1), start.Add(reviveAfter+1))
	if got := b.Candidates(start.Add(reviveAfter + 1)); len(got) != 1 || got[0].Alive {
		t.Errorf("candidates %+v", got)
	}
}

func TestBookIsBounded(t *testing.T) {
	b := NewBook()
	for i := range 2 * MaxPeers {
		b.Learn(id(i), FromPeers, start, "a")
		b.See(id(i), start.Add(time.Duration(i)))
		for j := range 20 {
			b.Learn(id(i), FromPeers, start, fmt.Sprint(j), strings.Repeat("x", protocol.MaxAddrBytes+1), "")
		}
	}
	peers := b.Peers()
	if len(peers) != MaxPeers || peers[0] != id(MaxPeers) {
		t.Errorf("%d nodes, from %s on", len(peers), peers[0])
	}
	for _, p := range peers {
		if n := len(b.Addrs(p)); n > protocol.MaxAddrs {
			t.Fatalf("%d addresses", n)
		}
	}
}

func TestNewsIsToldOnce(t *testing.T) {
	b, told := NewBook(), NewTeller()
	b.Say(id(1), start, "a")
	b.Say(id(2), start, "b")
	b.Learn(id(3), FromPeers, start.Add(-time.Hour), "c")
	b.See(id(3), start.Add(-time.Hour))
	told.Heard(protocol.Whereabouts{Peer: id(2), Addrs: []string{"b"}}, start)
	news := b.News(told, start.Add(90*time.Second), all)
	if len(news) != 1 || news[0].Peer != id(1) || news[0].Age != 90*time.Second {
		t.Fatalf("%+v", news)
	}
	if news := b.News(told, start.Add(2*time.Minute), all); len(news) != 0 {
		t.Errorf("told again: %+v", news)
	}
	b.Say(id(2), start.Add(time.Minute), "moved")
	if news := b.News(told, start.Add(2*time.Minute), all); len(news) != 1 || news[0].Peer != id(2) {
		t.Errorf("not told of the move: %+v", news)
	}
	b.See(id(1), start.Add(refreshAfter))
	if news := b.News(told, start.Add(refreshAfter), all); len(news) != 1 || news[0].Peer != id(1) || news[0].Age != 0 {
		t.Errorf("not told that it is still alive: %+v", news)
	}
}

func TestNewsGoesOutInPiecesThatFitIntoAFrame(t *testing.T) {
	b, told := NewBook(), NewTeller()
	long := strings.Repeat("x", protocol.MaxAddrBytes-3)
	for i := range 300 {
		b.Say(id(i), start, long+"a", long+"b")
	}
	seen := 0
	for news := b.News(told, start, all); len(news) > 0; news = b.News(told, start, all) {
		size := 0
		for _, w := range news {
			size += len(w.Addrs) * protocol.MaxAddrBytes
		}
		if size > newsBytes+2*protocol.MaxAddrBytes || len(news) > protocol.MaxKnown {
			t.Fatalf("%d nodes with %d bytes in one message", len(news), size)
		}
		seen += len(news)
	}
	if seen != 300 {
		t.Errorf("told of %d nodes", seen)
	}
}

func TestPlanKeepsToTheCircleAndFillsUpToTheDegree(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var candidates []Candidate
	for i := range 20 {
		candidates = append(candidates, Candidate{Peer: id(10 * i), Alive: i != 5})
	}
	m := Plan(id(45), nil, candidates, Limits{Degree: 4, Max: 8}, rng)
	if len(m.Dial) != 4 || m.Dial[0] != id(60) || m.Dial[1] != id(40) {
		t.Errorf("dials %v; its neighbours alive are 40 and 60", m.Dial)
	}
	var links []Link
	for i := range 12 {
		links = append(links, Link{Peer: id(10 * i), Up: true, Age: time.Minute, Peers: 4 + i, Keep: i == 11})
	}
	links[4].Peers, links[5].Peers = 20, 20 // the neighbours
	m = Plan(id(45), links, candidates, Limits{Degree: 4, Max: 8}, rng)
	if len(m.Dial) != 0 || len(m.Drop) != 4 || slices.Contains(m.Drop, id(110)) || slices.Contains(m.Drop, id(40)) || slices.Contains(m.Drop, id(50)) || m.Drop[0] != id(100) {
		t.Errorf("dials %v, drops %v", m.Dial, m.Drop)
	}
	for i := range links {
		links[i].Peers = 3
	}
	if m = Plan(id(45), links, nil, Limits{Degree: 4, Max: 8}, rng); len(m.Drop) != 0 {
		t.Errorf("drops %v, which have few others", m.Drop)
	}
}

// Whatever links there are besides, those that Plan wants on the circle connect all that know of each other.
func TestNodesThatKnowEachOtherAreConnected(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for n := 2; n < 60; n++ {
		var candidates []Candidate
		for range n {
			candidates = append(candidates, Candidate{Peer: id(rng.IntN(1 << 16)), Alive: true})
		}
		reach := map[protocol.PeerID]protocol.PeerID{}
		var root func(p protocol.PeerID) protocol.PeerID
		root = func(p protocol.PeerID) protocol.PeerID {
			if q, ok := reach[p]; ok {
				return root(q)
			}
			return p
		}
		for _, c := range candidates {
			m := Plan(c.Peer, nil, candidates, Limits{}, rng)
			for _, q := range m.Dial {
				if a, b := root(c.Peer), root(q); a != b {
					reach[a] = b
				}
			}
		}
		for _, c := range candidates {
			if root(c.Peer) != root(candidates[0].Peer) {
				t.Fatalf("%d nodes are not connected", n)
			}
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	b := NewBook()
	b.Say(id(1), start, "192.0.2.1:7420", strings.Repeat("x", protocol.MaxAddrBytes))
	b.Learn(id(1), FromTicket, start.Add(-time.Hour), "example.org:7420")
	b.Reached(id(1), "192.0.2.1:7420", start)
	record, ok := b.Record(nil, id(1))
	if !ok {
		t.Fatal("nothing to store")
	}
	again := NewBook()
	if err := again.Restore(id(1), record); err != nil {
		t.Fatal(err)
	}
	was, _ := b.Known(id(1))
	is, _ := again.Known(id(1))
	if fmt.Sprint(was) != fmt.Sprint(is) {
		t.Errorf("stored %v, restored %v", was, is)
	}
	for n := range record {
		if err := again.Restore(id(2), record[:n]); err != nil && !errors.Is(err, ErrRecord) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if got := b.Dirty(10); len(got) != 1 || len(b.Dirty(10)) != 0 {
		t.Errorf("dirty: %v", got)
	}
}

// The bytes are in stores.
func TestRecordIsStoredAsBefore(t *testing.T) {
	const golden = "01" + "80f7c4d506" + "0280f7c4d5060005613a37343230" + "03f0dac4d5060004623a373432"
	b := NewBook()
	b.Say(id(1), start, "a:7420")
	b.Learn(id(1), FromTicket, start.Add(-time.Hour), "b:742")
	if record, _ := b.Record(nil, id(1)); hex.EncodeToString(record) != golden {
		t.Errorf("stored %x, want %s", record, golden)
	}
}

func FuzzRecord(f *testing.F) {
	b := NewBook()
	b.Say(id(1), start, "192.0.2.1:7420", "mem:a")
	record, _ := b.Record(nil, id(1))
	f.Add(record)
	f.Add(record[:len(record)-3])
	f.Fuzz(func(t *testing.T, record []byte) {
		b := NewBook()
		if err := b.Restore(id(1), record); err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatal(err)
			}
			return
		}
		again, ok := b.Record(nil, id(1))
		if !ok {
			return
		}
		c := NewBook()
		if err := c.Restore(id(1), again); err != nil {
			t.Fatalf("%x was read and written as %x: %v", record, again, err)
		}
	})
}
