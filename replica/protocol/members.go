package protocol

import (
	"bytes"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// Member is what is known of one node that keeps a replica of the space.
type Member struct {
	Peer PeerID
	// VV is durable there: a lower bound. It is not changed once it is here, so copies share it.
	VV crdt.VersionVector
	// Firm is what of that is held whole, and what stability goes by; also a lower bound. Nearly always it is VV.
	Firm    crdt.VersionVector
	Heard   int64 // when it was connected with somebody last, in Unix milliseconds
	Evicted int64 // when somebody decided to wait for it no longer; it counts again once it was heard of later
	Direct  bool  // the teller is in session with it
}

// Members tells a peer what is known of other nodes. What they hold durably and whole spreads in this way, so that all come to know what
// everybody holds: that is stable.
type Members struct{ List []MemberNews }

// MemberNews is a Member with its firm vector told as differences to what its teller has told of itself, in the same session. A
// member that has all of that, and more perhaps, needs no entry.
type MemberNews struct {
	Peer    PeerID
	Heard   int64
	Evicted int64
	Direct  bool
	// Whole: Dots is all that the member is said to have. Otherwise it has what the teller told of itself, and less of
	// the replicas in Dots: up to their times, which may be zero.
	Whole bool
	Dots  []crdt.Dot // ascending by replica, at most MaxMemberDots
}

// Bounds of a message.
const (
	// MaxMembersTold bounds the members of one message, MaxMemberDots the entries of one of them. A vector that differs in more
	// is told in part, as a lower bound.
	MaxMembersTold = 64
	MaxMemberDots  = 256
)

func (*Members) message() {}

// gossip is what a session has told its peer of other members, and what it still has to tell.
type gossip struct {
	told      map[PeerID]memberTold
	tell      []Member            // to be told, unless it is known by then
	elsewhere map[PeerID]struct{} // members that the peer is in session with itself: it knows better
}

// memberTold is what a peer was told of a member; of its vector a hash will do.
type memberTold struct {
	heard, evicted int64
	direct         bool
	vv             [16]byte
}

// TellMembers gives the session what is known of all members but the peer. It tells the peer those of which it does not know yet, once
// it has nothing else to say. A change of Heard alone is not worth it below refresh milliseconds; changes of vectors are told only if
// vectors is set. The caller keeps calls some time apart, which bounds what gossip costs.
func (s *Session) TellMembers(members []Member, refresh int64, vectors bool) {
	s.gossip.tell = nil
	if len(s.gossip.told) > 2*MaxMembers { // of members that came and went
		s.gossip.told = nil
	}
	for _, m := range members {
		if s.isNews(m, refresh, vectors) {
			s.gossip.tell = append(s.gossip.tell, m)
		}
	}
	slices.SortFunc(s.gossip.tell, func(a, b Member) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
}

func (s *Session) isNews(m Member, refresh int64, vectors bool) bool {
	told, known := s.gossip.told[m.Peer]
	if _, direct := s.gossip.elsewhere[m.Peer]; direct {
		return m.Evicted > told.evicted || m.Direct != told.direct
	}
	switch {
	case !known, m.Evicted > told.evicted, m.Heard >= told.heard+refresh, m.Direct != told.direct:
		return true
	}
	return vectors && told.vv != crdt.VectorHash(m.Firm.Meet(s.told))
}

// nextMembers tells some of what waits.
func (s *Session) nextMembers() Message {
	if !s.met || len(s.gossip.tell) == 0 {
		return nil
	}
	n := min(len(s.gossip.tell), MaxMembersTold)
	m := &Members{List: make([]MemberNews, n)}
	for i, member := range s.gossip.tell[:n] {
		m.List[i] = s.newsOf(member)
		if s.gossip.told == nil {
			s.gossip.told = make(map[PeerID]memberTold)
		}
		s.gossip.told[member.Peer] = memberTold{
			heard: member.Heard, evicted: member.Evicted, direct: member.Direct, vv: crdt.VectorHash(member.Firm.Meet(s.told)),
		}
	}
	s.gossip.tell = s.gossip.tell[n:]
	return m
}

// newsOf says what the member lacks of what the peer knows of us, or if that is shorter, what it has.
func (s *Session) newsOf(m Member) MemberNews {
	news := MemberNews{Peer: m.Peer, Heard: m.Heard, Evicted: m.Evicted, Direct: m.Direct}
	var lacks []crdt.Dot
	for d := range s.told.Beyond(m.Firm).All() {
		lacks = append(lacks, crdt.Dot{Replica: d.Replica, Time: m.Firm.Get(d.Replica)})
	}
	if len(lacks) <= MaxMemberDots && len(lacks) <= m.Firm.Len() {
		news.Dots = lacks
		return news
	}
	news.Whole = true
	for d := range m.Firm.Meet(s.told).All() {
		if len(news.Dots) == MaxMemberDots {
			break
		}
		news.Dots = append(news.Dots, d)
	}
	return news
}

// receiveMembers works out the vectors. What the peer said of itself is at hand as what it acknowledged.
func (s *Session) receiveMembers(m *Members) Step {
	list := make([]Member, 0, len(m.List))
	for _, news := range m.List {
		if news.Direct {
			if s.gossip.elsewhere == nil {
				s.gossip.elsewhere = make(map[PeerID]struct{})
			}
			if len(s.gossip.elsewhere) < MaxMembers {
				s.gossip.elsewhere[news.Peer] = struct{}{}
			}
		} else {
			delete(s.gossip.elsewhere, news.Peer)
		}
		vv := s.vectorOf(news)
		list = append(list, Member{
			Peer: news.Peer, VV: vv, Firm: vv, Heard: news.Heard, Evicted: news.Evicted, Direct: news.Direct,
		})
	}
	return Step{Members: list}
}

func (s *Session) vectorOf(news MemberNews) crdt.VersionVector {
	if news.Whole {
		return crdt.NewVersionVector(news.Dots...)
	}
	return Firm(s.acked.Clone(), news.Dots)
}
