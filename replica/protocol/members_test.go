package protocol

import (
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func vectorOf(times ...hlc.Time) crdt.VersionVector {
	var vv crdt.VersionVector
	for i, at := range times {
		vv.Advance(crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: at})
	}
	return vv
}

// meetings returns two sessions that have told each other what they hold.
func meetings(t *testing.T, a, b crdt.VersionVector) (*Session, *Session) {
	t.Helper()
	sa, sb := NewSession(State{VV: a}), NewSession(State{VV: b})
	for i, s := range []*Session{sa, sb} {
		s.Mute(true) // nothing is sent but what they say
		m, err := s.Next(nil)
		if err == nil {
			_, err = []*Session{sb, sa}[i].Receive(m)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sa, sb
}

// tell returns what b learns of the members that a is given.
func tell(t *testing.T, a, b *Session, vectors bool, members ...Member) []Member {
	t.Helper()
	for i := range members {
		members[i].Firm = members[i].VV
	}
	a.TellMembers(members, 1000, vectors)
	var learned []Member
	for {
		m, err := a.Next(nil)
		if err != nil {
			t.Fatal(err)
		}
		if m == nil {
			return learned
		}
		step, err := b.Receive(m)
		if err != nil {
			t.Fatal(err)
		}
		learned = append(learned, step.Members...)
	}
}

func TestMembersAreToldAsDifferences(t *testing.T) {
	a, b := meetings(t, vectorOf(10, 20, 30), vectorOf(10))
	for _, c := range []struct {
		name string
		has  crdt.VersionVector
		want crdt.VersionVector
	}{
		{"level", vectorOf(10, 20, 30), vectorOf(10, 20, 30)},
		{"ahead, of which nothing can be said", vectorOf(11, 20, 30, 40), vectorOf(10, 20, 30)},
		{"behind in one", vectorOf(10, 15, 30), vectorOf(10, 15, 30)},
		{"without anything", crdt.VersionVector{}, crdt.VersionVector{}},
	} {
		peer := PeerID{byte(len(c.name))}
		got := tell(t, a, b, true, Member{Peer: peer, VV: c.has, Heard: 5})
		if len(got) != 1 || got[0].Peer != peer || got[0].Heard != 5 || !got[0].VV.Equal(c.want) {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestMembersAreToldOnlyWhatIsNews(t *testing.T) {
	a, b := meetings(t, vectorOf(10, 20), vectorOf(10))
	m := Member{Peer: PeerID{7}, VV: vectorOf(10, 15), Heard: 5000}
	steps := []struct {
		name    string
		change  func()
		vectors bool
		told    int
	}{
		{"the first time", func() {}, false, 1},
		{"again", func() {}, true, 0},
		{"heard of a little later", func() { m.Heard += 999 }, true, 0},
		{"heard of much later", func() { m.Heard++ }, true, 1},
		{"it holds more, among many writes", func() { m.VV = vectorOf(10, 16) }, false, 0},
		{"it holds more, in a pause", func() {}, true, 1},
		{"it holds more than we told of ourselves", func() { m.VV = vectorOf(10, 20, 5) }, true, 1},
		{"and still more of that", func() { m.VV = vectorOf(10, 20, 6) }, true, 0},
		{"evicted", func() { m.Evicted = m.Heard + 1 }, false, 1},
		{"met", func() { m.Direct = true }, false, 1},
	}
	for _, s := range steps {
		s.change()
		if got := tell(t, a, b, s.vectors, m); len(got) != s.told {
			t.Errorf("%s: %d were told of, want %d", s.name, len(got), s.told)
		}
	}
	// b says that it is in session with the member itself: then it needs to hear no more of it.
	tell(t, b, a, true, Member{Peer: m.Peer, VV: vectorOf(10), Direct: true})
	m.VV, m.Heard = vectorOf(10, 17), m.Heard+5000
	if got := tell(t, a, b, true, m); len(got) != 0 {
		t.Errorf("of a member that the peer is in session with it is told %+v", got)
	}
}

// A vector that differs in very many entries is told as a lower bound, however long it is.
func TestMessageOfMembersIsBounded(t *testing.T) {
	var own, half crdt.VersionVector
	for i := range 5000 {
		d := crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: 9}
		own.Advance(d)
		if i%2 == 0 {
			half.Advance(d)
		}
	}
	a := NewSession(State{VV: own})
	a.told = own
	if news := a.newsOf(Member{VV: half, Firm: half}); !news.Whole || len(news.Dots) != MaxMemberDots {
		t.Errorf("it has %d entries", len(news.Dots))
	} else if vv := a.vectorOf(news); !vv.LessOrEqual(half) {
		t.Error("it says more than is known")
	}
	var many []Member
	for i := range 3 * MaxMembersTold {
		many = append(many, Member{Peer: PeerID{byte(i), 1}})
	}
	a, b := meetings(t, vectorOf(1), vectorOf(1))
	if got := tell(t, a, b, true, many...); len(got) != len(many) {
		t.Errorf("%d of %d members were told of", len(got), len(many))
	}
}

func TestRoster(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	const day = 24 * time.Hour
	p, q, self := PeerID{1}, PeerID{2}, PeerID{9}
	r := NewRoster(self, nil)
	own := vectorOf(10, 20)
	expect := func(name string, at time.Time, want crdt.VersionVector) {
		t.Helper()
		if got := r.Stable(own, at, 30*day); !got.Equal(want) {
			t.Errorf("%s: stable is %s, want %s", name, got, want)
		}
	}
	expect("alone", now, own)
	r.Meet(p, now)
	expect("with one that has said nothing", now, crdt.VersionVector{})
	r.Acknowledge(p, vectorOf(10, 20), vectorOf(10, 20))
	expect("with one that is level", now, own)
	r.Learn([]Member{{Peer: q, VV: vectorOf(10, 15), Firm: vectorOf(10, 15), Heard: now.UnixMilli()}, {Peer: self}}, now)
	expect("with one that is known from another", now, vectorOf(10, 15))
	r.Acknowledge(p, vectorOf(8), vectorOf(8)) // as after restoring a backup
	expect("with one that holds less than before, by its own word", now, vectorOf(8))
	r.Learn([]Member{{Peer: p, VV: vectorOf(10, 20), Firm: vectorOf(10, 20), Heard: now.UnixMilli()}}, now)
	expect("others know less of one that is here than it does", now, vectorOf(8))
	r.Leave(p, now)
	expect("with one that has just left", now.Add(day), vectorOf(8))
	expect("with members that are away for long", now.Add(31*day), own)
	if err := r.Evict(p, now.Add(day)); err != nil {
		t.Fatal(err)
	}
	expect("after evicting one", now.Add(day), vectorOf(10, 15))
	r.Learn([]Member{{Peer: p, Heard: now.Add(100 * day).UnixMilli()}}, now.Add(2*day))
	expect("with an evicted one that was heard of by a clock that is ahead", now.Add(2*day), vectorOf(8))
	if m, _ := r.Get(p); m.Heard != now.Add(2*day).UnixMilli() {
		t.Errorf("it was heard of at %d", m.Heard)
	}
	if n := r.Holding(crdt.NewVersionVector(crdt.Dot{Replica: 2, Time: 15})); n != 1 {
		t.Errorf("%d members hold a dot", n)
	}
}

func TestRosterKeepsThoseThatWereHeardOfLast(t *testing.T) {
	r := NewRoster(PeerID{}, nil)
	for i := range MaxMembers + 10 {
		r.Learn([]Member{{Peer: PeerID{1, byte(i), byte(i >> 8)}, Heard: int64(i + 1)}}, time.UnixMilli(1<<40))
	}
	if list := r.List(time.UnixMilli(1 << 40)); len(list) != MaxMembers {
		t.Errorf("%d members are kept", len(list))
	}
	if _, ok := r.Get(PeerID{1, 3}); ok {
		t.Error("one of the oldest is kept")
	}
}
