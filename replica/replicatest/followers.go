package replicatest

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// reading is what a client reads from the feed of a home that does not have all that the client has of another.
type reading struct {
	node    *node
	life    int // of the node's store
	arrival uint64
	breach  uint64
	copies  map[string]string
}

// follow brings the client's copies of all documents up to what is durable at its home, by nothing but the vector that it had at
// another, or the feed.
func (s *simulation) follow(c *client) {
	n := c.home
	if n.isDown || n.isAbsent || len(s.hurt[c.space]) > 0 {
		return
	}
	snap, err := n.store.Snapshot()
	if err != nil {
		s.failf("node %d: %v", n.index, err)
		return
	}
	defer snap.Close()
	if err := s.followIn(c, snap); err != nil {
		s.failf("node %d: %v", n.index, err)
	}
}

func (s *simulation) followIn(c *client, snap store.Snapshot) error {
	c.begins = false
	number := spaceNumber(c.space)
	state, err := docstore.Load(snap, number)
	if err != nil {
		return err
	}
	if c.ahead != nil {
		return s.readOn(c, snap, state)
	}
	unnamed, err := docstore.Unnamed(snap, number)
	if err != nil || state.Rejoining() != nil {
		return err
	}
	has, had := c.vector, c.copies
	switch {
	case !unnamed.LessOrEqual(has) || s.chance(0.1):
		s.counts[FollowersReset]++
		has, had = crdt.VersionVector{}, nil
	case !has.LessOrEqual(state.Firm()):
		if s.leaves.readers {
			return nil
		}
		return s.readAhead(c, snap, state)
	default:
		s.counts[Followed]++
	}
	beyond, _, err := docstore.Beyond(snap, number, has, math.MaxInt)
	if err != nil {
		return err
	}
	copies, there := make(map[string]string), make(map[string]string)
	for doc, err := range docstore.Scan(snap, number, docstore.Range{}) {
		if err != nil {
			return err
		}
		there[doc.Key] = shownTo(doc.Document)
		if _, found := slices.BinarySearch(beyond, doc.Arrival); found == doc.Document.IsCovered(has) && unnamed.LessOrEqual(has) {
			return fmt.Errorf("by the log document %q is beyond %s: %v", doc.Key, has, found)
		}
		if has.Len() > 0 && doc.Document.IsCovered(has) {
			copies[doc.Key] = had[doc.Key]
		} else {
			copies[doc.Key] = there[doc.Key]
		}
	}
	for _, key := range s.clientKeys() {
		if _, ok := there[key]; !ok {
			copies[key] = had[key]
		}
	}
	s.compareCopies(c, has, copies, there, state)
	if state.IsClosed() {
		c.copies, c.vector = copies, state.VV().Clone()
	}
	return nil
}

func (s *simulation) compareCopies(c *client, has crdt.VersionVector, copies, there map[string]string, state *docstore.Space) {
	for _, key := range s.clientKeys() {
		if copies[key] != there[key] {
			s.failf("client %d, with %s, has %q of document %q, and node %d at %s has %q",
				c.index, has, copies[key], key, c.home.index, state.VV(), there[key])
		}
	}
}

// readAhead begins to read at a home that has less, once the home has noted that. It keeps what it has, for the home gets that later.
func (s *simulation) readAhead(c *client, snap store.Snapshot, state *docstore.Space) error {
	n := c.home
	if state.NoteReader(c.vector) { // it is not durable yet
		if r := n.replicas[c.space]; r.state.NoteReader(c.vector) {
			n.group.parts[c.space].touched = true
		}
		c.begins = true
		return nil
	}
	_, breach, err := docstore.Floors(snap, spaceNumber(c.space))
	if err != nil {
		return err
	}
	s.counts[ReadersAhead]++
	s.tracef("client %d reads at node %d, which has less", c.index, n.index)
	c.ahead = &reading{node: n, life: n.lives, breach: breach, copies: maps.Clone(c.copies)}
	return s.readFeed(c.ahead, snap, spaceNumber(c.space), func(d *crdt.Document) bool { return !d.IsCovered(c.vector) })
}

// readOn reads what is new at such a home. Once the home has got all that the client had, both have the same.
func (s *simulation) readOn(c *client, snap store.Snapshot, state *docstore.Space) error {
	number := spaceNumber(c.space)
	floor, breach, err := docstore.Floors(snap, number)
	if err != nil {
		return err
	}
	ahead := c.ahead
	if ahead.node != c.home || ahead.life != c.home.lives {
		c.ahead = nil // the cursor says nothing here; the vector does
		return nil
	}
	if breach > ahead.breach || 0 < ahead.arrival && ahead.arrival < floor {
		s.counts[FollowersReset]++
		s.tracef("client %d begins anew at node %d", c.index, c.home.index)
		c.ahead, c.copies, c.vector = nil, nil, crdt.VersionVector{}
		return nil
	}
	if err := s.readFeed(ahead, snap, number, func(*crdt.Document) bool { return true }); err != nil {
		return err
	}
	if state.Rejoining() != nil || !state.IsClosed() || !c.vector.LessOrEqual(state.VV()) {
		return nil
	}
	s.counts[ReadersOvertaken]++
	there := make(map[string]string)
	for doc, err := range docstore.Scan(snap, number, docstore.Range{}) {
		if err != nil {
			return err
		}
		there[doc.Key] = shownTo(doc.Document)
	}
	s.compareCopies(c, c.vector, ahead.copies, there, state)
	c.copies, c.vector, c.ahead = ahead.copies, state.VV().Clone(), nil
	return nil
}

// readFeed takes what the feed tells after the place that was reached.
func (s *simulation) readFeed(at *reading, snap store.Snapshot, number uint32, wants func(*crdt.Document) bool) error {
	for e, err := range docstore.Feed(snap, number, at.arrival) {
		if err != nil {
			return err
		}
		doc, ok, err := docstore.Read(snap, number, e.Key)
		if err != nil {
			return err
		}
		switch at.arrival = e.Arrival; {
		case !ok:
			delete(at.copies, e.Key)
		case wants(doc.Document):
			at.copies[e.Key] = shownTo(doc.Document)
		}
	}
	return nil
}

// shownTo returns all that is live in a document; "" for one that is deleted.
func shownTo(doc *crdt.Document) string {
	var b strings.Builder
	for f := range doc.Fields() {
		if len(f.Cell.Live) > 0 {
			fmt.Fprint(&b, f.Path, f.Cell.Live)
		}
	}
	return b.String()
}
