package replica

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

func openOn(t *testing.T, st store.Store, anchor string) (*Replica, *Space) {
	t.Helper()
	return openConfig(t, Config{}, st, anchor)
}

func openConfig(t *testing.T, cfg Config, st store.Store, anchor string) (*Replica, *Space) {
	t.Helper()
	cfg, err := cfg.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	r, err := openWith(cfg, st, anchor)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s, err := r.Space("notes")
	if err != nil {
		t.Fatal(err)
	}
	return r, s
}

func setX(t *testing.T, s *Space, key string, v any) error {
	t.Helper()
	_, err := s.Update(t.Context(), func(tx *Tx) error { return tx.Doc(key).Set(crdt.Path{"x"}, v) })
	return err
}

// dialledBy stands for a connection, of which it is known who dialled it and whether it has ended.
type dialledBy struct {
	Conn
	us  bool
	err error
}

func (d dialledBy) Dialled() bool { return d.us }
func (d dialledBy) Err() error    { return d.err }

func TestWhichOfTwoConnectionsStays(t *testing.T) {
	for name, c := range map[string]struct {
		old, young dialledBy
		after      time.Duration
		smaller    bool // this node
		want       bool // the younger one stays
	}{
		"both dialled at once, and we are smaller":           {dialledBy{us: true}, dialledBy{}, time.Second, true, false},
		"both dialled at once, and the peer is smaller":      {dialledBy{us: true}, dialledBy{}, time.Second, false, true},
		"the same, seen in the other order":                  {dialledBy{}, dialledBy{us: true}, time.Second, true, true},
		"the old one has ended":                              {dialledBy{us: true, err: errors.New("lost")}, dialledBy{}, time.Second, true, true},
		"we had dialled, and the peer dials after a restart": {dialledBy{us: true}, dialledBy{}, time.Minute, true, true},
		"the peer dials once more":                           {dialledBy{}, dialledBy{}, time.Second, true, true},
	} {
		old, young := &peerConn{Conn: c.old}, &peerConn{Conn: c.young}
		young.since = old.since.Add(c.after)
		if got := young.replaces(old, c.smaller); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// Replicas that begin to repair together do not all come back together.
func TestPausesBetweenRepairsVary(t *testing.T) {
	least, most := time.Hour, time.Duration(0)
	for range 1000 {
		d := jittered(minRepairPause)
		least, most = min(least, d), max(most, d)
	}
	if least < 45*time.Second || most > 75*time.Second || most-least < 25*time.Second {
		t.Errorf("from %s to %s", least, most)
	}
}

func TestFailedCommitIsReportedAndLeavesTheStateOfTheStore(t *testing.T) {
	st := memstore.New()
	_, s := openOn(t, st, "a")
	if err := setX(t, s, "kept", 1); err != nil {
		t.Fatal(err)
	}
	before, _ := s.Status(t.Context())
	st.FailCommits(store.ErrNoSpace)
	const writers = 8
	failed := make(chan error, writers)
	for i := range writers {
		go func() {
			_, err := s.Update(t.Context(), func(tx *Tx) error { return tx.Doc(fmt.Sprint(i)).Set(crdt.Path{"x"}, i) })
			failed <- err
		}()
	}
	for range writers {
		if err := <-failed; !errors.Is(err, store.ErrNoSpace) {
			t.Fatalf("got %v", err)
		}
	}
	after, _ := s.Status(t.Context())
	if !after.Vector.Equal(before.Vector) || after.Digest != before.Digest {
		t.Fatalf("a failed commit changed %v to %v", before, after)
	}
	if _, err := s.Get(t.Context(), "0"); !errors.Is(err, ErrNotFound) {
		t.Fatalf("got %v", err)
	}
	st.FailCommits(nil)
	if err := setX(t, s, "later", 1); err != nil {
		t.Fatalf("there is space again: %v", err)
	}
	report, err := s.Verify(t.Context(), VerifyOptions{})
	if err != nil || len(report.Problems) > 0 {
		t.Fatal(report.Problems, err)
	}
}

func TestDisturbedStoreWritesUnderAnotherReplicaIDAndKeepsCursorsHonest(t *testing.T) {
	st := memstore.New()
	r, s := openOn(t, st, "boot 1")
	for i := range 3 {
		if err := setX(t, s, fmt.Sprint(i), i); err != nil {
			t.Fatal(err)
		}
	}
	id, early := r.ReplicaID(), s.Cursor()
	backup := st.Clone()
	if err := setX(t, s, "3", 3); err != nil {
		t.Fatal(err)
	}
	late := s.Cursor()

	same, sameSpace := openOn(t, st.Clone(), "boot 1")
	if same.ReplicaID() != id || sameSpace.Cursor() != late {
		t.Fatal("an undisturbed store must keep its replica ID and its cursors")
	}

	restored, rs := openOn(t, backup, "boot 2")
	if restored.ReplicaID() == id {
		t.Fatal("a restored store goes on under its old replica ID")
	}
	if !rs.serves(early) {
		t.Error("a cursor from before the backup is refused")
	}
	if rs.serves(late) {
		t.Error("a cursor to what the backup lacks is served: changes would be skipped")
	}
	if err := setX(t, rs, "4", 4); err != nil {
		t.Fatal(err)
	}
	if rs.serves(late) {
		t.Error("after one more change the arrival numbers are equal, and the cursor must still be refused")
	}
	n := 0
	for c, err := range rs.Watch(t.Context(), early) {
		if err != nil || c.Key != "4" {
			t.Fatal(c, err)
		}
		n++
		break
	}
	if n != 1 || restored.ReplicaID() == 0 || restored.ReplicaID() == id {
		t.Fatalf("%d changes, replica ID %s after %s", n, restored.ReplicaID(), id)
	}
}

func TestDoubtedIdentityIsReplacedBeforeTheNextWrite(t *testing.T) {
	r, s := openOn(t, memstore.New(), "a")
	if err := setX(t, s, "a", 1); err != nil {
		t.Fatal(err)
	}
	id := r.ReplicaID()
	r.mu.Lock()
	r.doubtIdentity("notes", "a test says so")
	r.mu.Unlock()
	r.poke()
	if err := setX(t, s, "a", 2); err != nil {
		t.Fatal(err)
	}
	if r.ReplicaID() == id {
		t.Fatal("it wrote on under the doubted ID")
	}
	doc, err := s.Get(t.Context(), "a")
	if err != nil || len(doc.Conflicts()) != 0 || doc.Value()["x"] != int64(2) {
		t.Fatal(doc, err)
	}
}

func TestDoubtOfTheIdentityOutlivesACrash(t *testing.T) {
	st := memstore.New()
	r, s := openOn(t, st, "a")
	if err := setX(t, s, "a", 1); err != nil {
		t.Fatal(err)
	}
	id := r.ReplicaID()
	// A delta of the own replica that names a time beyond what is here: this store went back in time.
	lost := crdt.Dot{Replica: id, Time: s.durableNow().VV.Get(id) + 1}
	e := crdt.Entry{Dot: lost, Stamp: lost.Time, Author: id, Value: crdt.IntValue(7)}
	path, err := crdt.Path{"lost"}.Pack()
	if err != nil {
		t.Fatal(err)
	}
	d := &liveDelta{message: &protocol.Delta{Delta: crdt.Delta{
		Origin: id, From: lost.Time - 1, To: lost.Time, Horizon: crdt.NewVersionVector(lost),
		Documents: []crdt.DocumentDelta{{Key: "b", Cells: codec.AppendCells(nil, []crdt.Field{{Path: path, Cell: crdt.Cell{Live: []crdt.Entry{e}}}})}},
	}}}
	if err := s.merge(d); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitSynced(t.Context(), Receipt{}, 0); err != nil {
		t.Fatal(err)
	}
	r.Close()
	again, _ := openOn(t, st.Clone(), "a") // the same undisturbed store, as far as its anchor tells
	if got := again.ReplicaID(); got == id {
		t.Fatal("the doubted replica ID came back")
	}
}
