package docstore

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// mended is what a repair came to.
type mended struct {
	outcome  [2]protocol.RepairOutcome
	bytes    int
	messages int
}

// mend lets a repair what differs from b, as two sessions do it, over frames.
func mend(t *testing.T, a, b *node) mended {
	t.Helper()
	nodes := [2]*node{a, b}
	var sessions [2]*protocol.Session
	for i, n := range nodes {
		sessions[i] = protocol.NewSession(protocol.State{VV: n.space.VV().Clone(), Stable: n.space.Stable().Clone()})
		if _, err := sessions[i].Next(nil); err != nil {
			t.Fatal(err)
		}
	}
	for i, n := range nodes { // each thinks that the other has what it has, so that no deltas are sent
		if _, err := sessions[i].Receive(&protocol.Vectors{VV: n.space.VV().Clone()}); err != nil {
			t.Fatal(err)
		}
	}
	var m mended
	damaged := [2]bool{}
	sessions[0].StartRepair(77)
	for moved := true; moved; {
		moved = false
		for i, s := range sessions {
			for job := s.RepairJob(); job != nil; job = s.RepairJob() {
				moved = true
				res := RepairJob(context.Background(), nodes[i].snapshot(), 1, job)
				if job.Merge != nil && res.Err == nil {
					joined := nodes[i].join(job.Merge, nodes[1-i].space.VV())
					res.Changed, res.Damaged = joined.Changed, len(joined.Damaged)
					damaged[i] = damaged[i] || len(joined.Damaged) > 0
				}
				s.RepairDone(job, res)
			}
			msg, err := s.Next(nil)
			if err != nil {
				t.Fatal(err)
			}
			if msg == nil {
				continue
			}
			if _, ok := msg.(*protocol.Level); ok {
				continue
			}
			moved = true
			frame, err := wire.Marshal(nil, msg)
			if err != nil {
				t.Fatal(err)
			}
			m.bytes += len(frame)
			m.messages++
			if msg, err = wire.Unmarshal(frame); err != nil {
				t.Fatal(err)
			}
			if _, err := sessions[1-i].Receive(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i, s := range sessions {
		ended := s.RepairEnded()
		if len(ended) != 1 {
			t.Fatalf("%d repairs ended at side %d, want 1", len(ended), i)
		}
		m.outcome[i] = ended[0]
		if damaged[i] {
			nodes[i].verifyRepairs()
		}
	}
	return m
}

// join merges the cells of a peer, and rebuilds what is damaged.
func (n *node) join(cells *protocol.RangeCells, theirs crdt.VersionVector) JoinedCells {
	n.t.Helper()
	var all JoinedCells
	for {
		b := new(store.Batch)
		m, err := n.space.JoinCells(&Overlay{Batch: b, Snapshot: n.snapshot()}, b, cells, theirs, n.id, anyTime)
		if err != nil {
			n.t.Fatal(err)
		}
		n.commit(b)
		all.Changed += m.Changed
		if !m.Partial {
			all.Damaged = m.Damaged
			break
		}
	}
	if len(all.Damaged) > 0 {
		if err := n.space.Rebuild(n.snapshot(), n.store.Commit, all.Damaged); err != nil {
			n.t.Fatal(err)
		}
	}
	return all
}

func (n *node) verifyRepairs() {
	n.t.Helper()
	if _, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{Repair: n.store.Commit}); err != nil {
		n.t.Fatal(err)
	}
	n.reload()
}

// alter changes what is stored under a key behind everybody's back.
func (n *node) alter(key []byte, change func(value []byte) []byte) {
	n.t.Helper()
	value, ok, err := n.snapshot().Get(key)
	if err != nil || !ok {
		n.t.Fatalf("nothing is stored under %q: %v", key, err)
	}
	b := new(store.Batch)
	if value = change(bytes.Clone(value)); value == nil {
		b.Delete(key)
	} else {
		b.Put(key, value)
	}
	if err := n.store.Commit(b); err != nil {
		n.t.Fatal(err)
	}
}

func flipAByte(value []byte) []byte { value[len(value)/2] ^= 1; return value }
func lose([]byte) []byte            { return nil }

// checkSound checks that everything that derives from the documents is what it should be.
func (n *node) checkSound() {
	n.t.Helper()
	report, err := Verify(context.Background(), n.snapshot(), 1, VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		n.t.Errorf("node %d: %v %v", n.id, err, report.Problems)
	}
}

func TestRepairMendsWhatIsDamaged(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(b *node)
	}{
		{"a document is gone", func(b *node) { b.alter(documentKey(1, "d050"), lose) }},
		{"a byte of a document changed", func(b *node) { b.alter(documentKey(1, "d050"), flipAByte) }},
		{"a byte of the record of a large document changed", func(b *node) { b.alter(documentKey(1, "large"), flipAByte) }},
		{"its directory is gone", func(b *node) { b.alter(directoryKey(1, "large"), lose) }},
		{"a byte of its directory changed", func(b *node) { b.alter(directoryKey(1, "large"), flipAByte) }},
		{"a chunk is gone", func(b *node) { b.alter(b.chunkOf("large", 3), lose) }},
		{"a byte of its first chunk changed", func(b *node) { b.alter(b.chunkOf("large", 0), flipAByte) }},
		{"a byte of a chunk changed", func(b *node) { b.alter(b.chunkOf("large", 2), flipAByte) }},
		{"many documents are gone", func(b *node) {
			for i := range 60 {
				b.alter(documentKey(1, fmt.Sprintf("d%03d", i)), lose)
			}
		}},
	} {
		for _, asker := range []string{"the damaged one asks", "the sound one asks"} {
			t.Run(c.name+", "+asker, func(t *testing.T) {
				a, b := newNode(t, 1), newNode(t, 2)
				a.populate(200)
				b.pull(a)
				b.set(1000, "own", "f", "written by b")
				a.pull(b)
				equal(t, a, b)
				c.damage(b)
				before := a.space.Digest()
				if asker == "the sound one asks" {
					mend(t, a, b)
				} else {
					mend(t, b, a)
				}
				b.verifyRepairs() // what derives from a document that is gone without a trace nobody could know
				b.checkSound()
				a.checkSound()
				equal(t, a, b)
				if a.space.Digest() != before {
					t.Error("the sound replica was changed")
				}
			})
		}
	}
}

// populate writes some small documents and a large one.
func (n *node) populate(documents int) {
	n.t.Helper()
	for i := range documents {
		n.set(hlc.Time(10+i), fmt.Sprintf("d%03d", i), "f", fmt.Sprint("value ", i))
	}
	n.write(900, func(tx *Transaction) error {
		for i := range 300 {
			p := mustPack(n.t, crdt.Path{fmt.Sprintf("field%04d", i)})
			if err := tx.SetLeaves("large", p, []crdt.Leaf{{Path: p, Value: crdt.StringValue(strings.Repeat("x", 60))}}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (n *node) chunkOf(key string, i int) []byte {
	n.t.Helper()
	parts, _, err := readDirectory(n.snapshot(), 1, key)
	if err != nil {
		n.t.Fatal(err)
	}
	return chunkKey(1, key, parts[i].start)
}

// TestRepairOfUnequalHistories: two replicas that have parts of each other's writes, by frames that were lost half way, become
// equal, and nothing that either removed knowingly comes back.
func TestRepairOfUnequalHistories(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.populate(100)
	b.pull(a)
	b.write(2000, func(tx *Transaction) error { return tx.Remove("d007", "") })
	b.set(2001, "d008", "g", "by b")
	a.set(2002, "d009", "f", "again")
	c := newNode(t, 3)
	c.pull(b)
	m := mend(t, a, b)
	if a.space.Digest() != b.space.Digest() {
		t.Error("they differ")
	}
	a.checkSound()
	b.checkSound()
	if ok, err := Exists(a.snapshot(), 1, "d007"); err != nil || ok {
		t.Errorf("d007 exists: %v, %v", ok, err)
	}
	if a.space.IsClosed() || b.space.IsClosed() {
		t.Error("a replica that shows what its vv does not cover is closed")
	}
	if m.outcome[0].Changed != 2 || m.outcome[1].Changed != 1 {
		t.Errorf("changed %d and %d documents, want 2 and 1", m.outcome[0].Changed, m.outcome[1].Changed)
	}
	a.pull(b)
	b.pull(a)
	equal(t, a, b)
	if !a.space.IsClosed() || !b.space.IsClosed() {
		t.Error("not closed though all is there")
	}
}

// TestFingerprintsIgnoreWhatMayBePruned: a replica that has pruned and one that has not agree.
func TestFingerprintsIgnoreWhatMayBePruned(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.populate(50)
	b.pull(a)
	b.write(2000, func(tx *Transaction) error { return tx.Remove("d007", "") })
	b.set(2001, "d008", "f", "replaced")
	a.pull(b)
	a.set(2002, "d008", "f", "replaced again")
	b.pull(a)
	stable := b.space.VV().Clone()
	stable.Remove(1)
	stable.Advance(crdt.Dot{Replica: 1, Time: 800})
	b.pruneAt(stable)
	whole, err := SplitRange(context.Background(), a.snapshot(), 1, stable, 5, protocol.Range{})
	if err != nil {
		t.Fatal(err)
	}
	differs, err := CompareRanges(context.Background(), b.snapshot(), 1, stable, 5, whole)
	if err != nil || len(differs) > 0 {
		t.Errorf("a pruned replica and one that is not differ in %v, %v", differs, err)
	}
	if differs, err = CompareRanges(context.Background(), b.snapshot(), 1, crdt.VersionVector{}, 5, whole); err != nil || len(differs) == 0 {
		t.Errorf("fingerprints at another vector: %v, %v, want differences", differs, err)
	}
	if m := mend(t, a, b); m.outcome[0].Sent+m.outcome[1].Sent != 0 || m.outcome[0].Err != nil {
		t.Errorf("%+v: cells were sent though nothing differs", m.outcome)
	}
}

// pruneAt forgets what is stable at a vector.
func (n *node) pruneAt(stable crdt.VersionVector) {
	n.t.Helper()
	b := new(store.Batch)
	n.space.RaiseStable(stable)
	n.commit(b)
	for more := true; more; {
		b := new(store.Batch)
		p, err := n.space.Prune(&Overlay{Batch: b, Snapshot: n.snapshot()}, 1000)
		if err != nil {
			n.t.Fatal(err)
		}
		n.commit(b)
		more = p.More
	}
}

// TestRepairRefusesWhatNeedsASnapshot: below the other's stable vector a replica may hold what was removed and pruned there.
func TestRepairRefusesWhatNeedsASnapshot(t *testing.T) {
	a, b := newNode(t, 1), newNode(t, 2)
	a.populate(10)
	b.pull(a)
	b.write(2000, func(tx *Transaction) error { return tx.Remove("d007", "") })
	b.pruneAt(b.space.VV())
	for _, pair := range [][2]*node{{a, b}, {b, a}} {
		if m := mend(t, pair[0], pair[1]); m.outcome[0].Err == nil || m.outcome[0].Changed+m.outcome[1].Changed > 0 {
			t.Errorf("%+v: want a refusal", m.outcome)
		}
	}
	if ok, err := Exists(b.snapshot(), 1, "d007"); err != nil || ok {
		t.Errorf("the removed document came back: %v, %v", ok, err)
	}
}

// TestRepairCostsWhatDiffers counts the bytes of a repair.
func TestRepairCostsWhatDiffers(t *testing.T) {
	for _, c := range []struct{ documents, differing, limit int }{
		{20_000, 0, 2 << 10}, {20_000, 1, 8 << 10}, {20_000, 20, 64 << 10}, {20_000, 2000, 1 << 20},
	} {
		a, b := newNode(t, 1), newNode(t, 2)
		d := a.write(1, func(tx *Transaction) error { return tx.SetLeaves("x", "", []crdt.Leaf{{Value: crdt.IntValue(1)}}) })
		_ = d
		const each = 1000
		for i := range c.documents / each {
			a.write(hlc.Time(10+i), func(tx *Transaction) error {
				for k := range each {
					key := fmt.Sprintf("species/%06d", i*each+k)
					for _, f := range []string{"a", "b", "c"} {
						p := mustPack(t, crdt.Path{f})
						if err := tx.SetLeaves(key, p, []crdt.Leaf{{Path: p, Value: crdt.StringValue("some value of " + key)}}); err != nil {
							return err
						}
					}
				}
				return nil
			})
		}
		b.pull(a)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range c.differing {
			key := fmt.Sprintf("species/%06d", rng.IntN(c.documents))
			n := a
			if i%2 == 1 {
				n = b
			}
			n.set(hlc.Time(100_000+i), key, "a", "changed")
		}
		m := mend(t, a, b)
		if a.space.Digest() != b.space.Digest() {
			t.Error("they differ")
		}
		t.Logf("%d of %d documents differ: %d bytes, %d messages", c.differing, c.documents, m.bytes, m.messages)
		if m.bytes > c.limit {
			t.Errorf("%d of %d differ: %d bytes, want at most %d", c.differing, c.documents, m.bytes, c.limit)
		}
	}
}

// A record comes back from before its writes were re-issued. Nobody has them under the names that it knows them by, so they get those that they
// have now, or vanish once these are forgotten; the space is not open at them.
func TestRecordFromBeforeARebaseIsBroughtUpToDate(t *testing.T) {
	for _, c := range []struct {
		name    string
		large   bool // the document is in chunks
		forgets bool // the former names
		want    any
	}{
		{"a small one", false, false, "held"},
		{"a small one whose names are forgotten", false, true, nil},
		{"a chunk of a large one", true, false, "held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newNode(t, 1)
			if c.large {
				a.populate(0)
			}
			a.own(1000, "large", "held")
			key := documentKey(1, "large")
			if c.large {
				parts, _, err := readDirectory(a.snapshot(), 1, "large")
				if err != nil {
					t.Fatal(err)
				}
				key = a.chunkOf("large", len(parts)-1) // the one that x is in
			}
			old, ok, err := a.snapshot().Get(key)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			old = bytes.Clone(old)
			if !a.rebase(950, 9) {
				t.Fatal("the rebase has not ended")
			}
			if c.forgets {
				a.forgetNames()
			}
			a.alter(key, func([]byte) []byte { return old })
			broken, err := Broken(context.Background(), a.snapshot(), 1)
			if err != nil || len(broken) != 1 || broken[0].Key != "large" {
				t.Fatalf("%v is broken, %v", broken, err)
			}
			if report, err := Scrub(context.Background(), a.snapshot(), 1, func(int) error { return nil }); err != nil || report.Broken != 1 {
				t.Errorf("a scrub finds %+v, %v", report, err)
			}
			if err := a.space.Rebuild(a.snapshot(), a.store.Commit, broken); err != nil {
				t.Fatal(err)
			}
			a.verifyRepairs()
			a.checkSound()
			if !a.space.IsClosed() {
				t.Errorf("open at %v", a.space.OpenEntries())
			}
			doc, _, err := Read(a.snapshot(), 1, "large")
			if err != nil {
				t.Fatal(err)
			}
			var got any
			if doc.Document != nil {
				got, _ = doc.Document.Get(crdt.Path{"x"})
			}
			if got != c.want {
				t.Errorf("it shows %v, want %v", got, c.want)
			}
		})
	}
}

// forgetNames deletes the former names of transactions that were re-issued.
func (n *node) forgetNames() {
	n.t.Helper()
	b := new(store.Batch)
	prefix := spaceKey(kindRenamed, 1, 0)
	for k, err := range n.snapshot().Keys(prefix, after(prefix)) {
		if err != nil {
			n.t.Fatal(err)
		}
		b.Delete(bytes.Clone(k))
	}
	n.commit(b)
}

// A record comes back from before, with a place in the feed that another document has got since.
func TestDocumentsThatClaimOnePlaceInTheFeed(t *testing.T) {
	for _, lost := range []bool{false, true} { // the entry of the feed, too
		a := newNode(t, 1)
		a.set(10, "a", "f", "1")
		arrival := a.space.arrival
		a.set(11, "b", "f", "2")
		key := documentKey(1, "b")
		a.alter(key, func(value []byte) []byte {
			rec, err := parseRecord(key, value)
			if err != nil {
				t.Fatal(err)
			}
			rec.arrival = arrival
			return rec.pack(key)
		})
		if lost {
			a.alter(feedKey(1, arrival), lose)
		}
		a.verifyRepairs()
		a.checkSound()
		a.set(12, "c", "f", "3")
		a.checkSound()
		var feed []string
		for e, err := range Feed(a.snapshot(), 1, 0) {
			if err != nil {
				t.Fatal(err)
			}
			feed = append(feed, e.Key)
		}
		if got := strings.Join(feed, " "); got != "a b c" {
			t.Errorf("the feed is %s", got)
		}
	}
}
