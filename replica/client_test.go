package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/memstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// leaf is a client that is not a replica: it makes transactions one after the other.
type leaf struct {
	t   *testing.T
	s   *replica.Space
	id  crdt.ReplicaID
	seq uint64
	at  time.Time
}

func newLeaf(t *testing.T, s *replica.Space, id crdt.ReplicaID) *leaf {
	return &leaf{t: t, s: s, id: id}
}

func at(p string) crdt.PathKey {
	path, err := crdt.ParsePath(p)
	if err != nil {
		panic(err)
	}
	k, err := path.Pack()
	if err != nil {
		panic(err)
	}
	return k
}

func (l *leaf) next(ops ...replica.ClientOp) replica.ClientTransaction {
	l.seq++
	return replica.ClientTransaction{Client: l.id, Subject: "user", Seq: l.seq, At: l.at, Ops: ops}
}

func (l *leaf) give(t replica.ClientTransaction) replica.ClientResult {
	l.t.Helper()
	res, err := l.s.ApplyClient(l.t.Context(), t)
	if err != nil {
		l.t.Fatal(err)
	}
	return res
}

// do makes a transaction that has to be accepted.
func (l *leaf) do(ops ...replica.ClientOp) replica.ClientResult {
	l.t.Helper()
	res := l.give(l.next(ops...))
	if res.Rejected != nil || res.Duplicate {
		l.t.Fatalf("transaction %d: %+v, %+v", res.Seq, res, res.Rejected)
	}
	return res
}

func setOp(key, p string, v int64, seen ...crdt.SeenDot) replica.ClientOp {
	return replica.ClientOp{Kind: replica.ClientSet, Key: key, Path: at(p), Leaves: []crdt.Leaf{{Path: at(p), Value: crdt.IntValue(v)}}, Seen: seen}
}

func removeOp(key, p string, seen ...crdt.SeenDot) replica.ClientOp {
	return replica.ClientOp{Kind: replica.ClientRemove, Key: key, Path: at(p), Seen: seen}
}

func countOp(key, p string, by int64) replica.ClientOp {
	return replica.ClientOp{Kind: replica.ClientIncrement, Key: key, Path: at(p), By: by}
}

// readAll returns what a client that reads a document now has seen.
func readAll(t *testing.T, s *replica.Space, key string) (seen []crdt.SeenDot) {
	t.Helper()
	doc, err := s.Get(t.Context(), key)
	if errors.Is(err, replica.ErrNotFound) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	for f := range doc.Fields() {
		for _, e := range f.Cell.Live {
			seen = append(seen, crdt.SeenDot{Path: f.Path, Dot: e.Dot})
		}
	}
	return seen
}

// entries tells what is live in a cell: value and author of each.
func entries(t *testing.T, s *replica.Space, key, p string) string {
	t.Helper()
	doc, err := s.Get(t.Context(), key)
	if errors.Is(err, replica.ErrNotFound) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range doc.Cell(at(p)).Live {
		author := fmt.Sprint(uint64(e.Author))
		if e.Author == e.Dot.Replica {
			author = "self"
		}
		all = append(all, fmt.Sprintf("%v by %s", e.Value.Any(), author))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestClientsOfOneHomeDoNotOverwriteEachOther: two clients write one field through one node, and neither has seen the other's value.
func TestClientsOfOneHomeDoNotOverwriteEachOther(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	a, b := newLeaf(t, s, 1), newLeaf(t, s, 2)
	a.do(setOp("d", "/f", 1))
	b.do(setOp("d", "/f", 2))
	expect(t, "both", entries(t, s, "d", "/f"), "1 by 1, 2 by 2")
	a.do(setOp("d", "/f", 3)) // it has seen what it wrote itself
	expect(t, "a again", entries(t, s, "d", "/f"), "2 by 2, 3 by 1")
	b.do(removeOp("d", ""))
	expect(t, "b deletes", entries(t, s, "d", "/f"), "3 by 1")
	b.do(setOp("d", "/f", 4, readAll(t, s, "d")...))
	expect(t, "b has read", entries(t, s, "d", "/f"), "4 by 2")
	set(t, s, "d", "f", 5) // this node itself sees everything
	expect(t, "the node", entries(t, s, "d", "/f"), "5 by self")
	checkSpace(t, s)
}

func checkSpace(t *testing.T, s *replica.Space) {
	t.Helper()
	report, err := s.Verify(t.Context(), replica.VerifyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Error(p)
	}
}

func TestClientsCountTogether(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	a, b := newLeaf(t, s, 1), newLeaf(t, s, 2)
	a.do(countOp("d", "/n", 3))
	expect(t, "a counts", entries(t, s, "d", "/n"), "3 by 1")
	b.do(countOp("d", "/n", 4))
	expect(t, "b counts", entries(t, s, "d", "/n"), "7 by self")
	a.do(removeOp("d", "/n")) // has not seen what b added
	expect(t, "a removes", entries(t, s, "d", "/n"), "7 by self")
	seen := readAll(t, s, "d")
	b.do(countOp("d", "/n", 1))
	a.do(removeOp("d", "/n", seen...))
	expect(t, "a removes what it had read before the last one", entries(t, s, "d", "/n"), "8 by self")
	a.do(removeOp("d", "/n", readAll(t, s, "d")...))
	expect(t, "a removes what it has read", entries(t, s, "d", "/n"), "")
	checkSpace(t, s)
}

// TestTransactionIsMadeOnce gives transactions again, before and after the store was opened anew.
func TestTransactionIsMadeOnce(t *testing.T) {
	st := memstore.New()
	r, err := replica.OpenOn(replica.Config{}, st)
	if err != nil {
		t.Fatal(err)
	}
	s := space(t, r)
	a := newLeaf(t, s, 1)
	first, second := a.next(countOp("d", "/n", 1)), a.next(countOp("d", "/n", 2))
	bad := a.next(replica.ClientOp{Kind: replica.ClientSet, Key: "", Path: at("/x"), Leaves: []crdt.Leaf{{Path: at("/x")}}})
	made := a.give(first)
	if made.Receipt.Dot.IsZero() || made.Receipt.Vector.Len() != 1 || !made.Receipt.Vector.Covers(made.Receipt.Dot) || made.Receipt.Cursor != s.Cursor() {
		t.Errorf("receipt %+v", made.Receipt)
	}
	a.give(second)
	if res := a.give(bad); res.Rejected == nil || res.Rejected.Code != replica.RejectBadRequest || res.Duplicate {
		t.Errorf("a bad transaction: %+v", res)
	}
	again := func(when string, s *replica.Space) {
		t.Helper()
		b := newLeaf(t, s, 1)
		for _, tx := range []replica.ClientTransaction{first, second} {
			if res := b.give(tx); !res.Duplicate || res.Rejected != nil || res.Receipt.Vector.Len() == 0 {
				t.Errorf("%s, transaction %d: %+v", when, tx.Seq, res)
			}
		}
		bad.Ops = nil // what it says now does not matter
		if res := b.give(bad); !res.Duplicate || res.Rejected == nil || res.Rejected.Code != replica.RejectBadRequest {
			t.Errorf("%s, the bad transaction: %+v", when, res)
		}
		expect(t, when, entries(t, s, "d", "/n"), "3 by 1")
	}
	again("at once", s)
	kept := st.Clone()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r, err = replica.OpenOn(replica.Config{}, kept)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	again("opened anew", space(t, r))
}

// TestClientIDBelongsToASubject also after it had nothing accepted.
func TestClientIDBelongsToASubject(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	a := newLeaf(t, s, 1)
	if res, err := s.RejectClient(t.Context(), a.id, "user", 1, replica.ClientRejection{Code: "bad-request", Detail: strings.Repeat("ä", 600)}); err != nil || res.Rejected == nil || len(res.Rejected.Detail) != 512 {
		t.Errorf("%+v, error %v", res, err)
	}
	a.seq = 1
	other := a.next(setOp("d", "/f", 1))
	other.Subject = "somebody else"
	if res := a.give(other); res.Rejected == nil || res.Rejected.Code != replica.RejectClientTaken {
		t.Errorf("%+v", res)
	}
	other.Subject = "user"
	if res := a.give(other); res.Rejected != nil || res.Duplicate {
		t.Errorf("%+v", res)
	}
	expect(t, "after that", entries(t, s, "d", "/f"), "1 by 1")
	if res, err := s.RejectClient(t.Context(), a.id, "user", 2, replica.ClientRejection{Code: "bad-request"}); err != nil || !res.Duplicate || res.Rejected != nil {
		t.Errorf("rejecting what was accepted: %+v, error %v", res, err)
	}
}

func TestRejectionsOfClients(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	a := newLeaf(t, s, 1)
	many := make([]replica.ClientOp, crdt.MaxTransactionDocuments+1)
	for i := range many {
		many[i] = setOp(fmt.Sprint("d", i), "/f", 1)
	}
	large := setOp("d", "/f", 1)
	large.Leaves[0].Value = crdt.StringValue(strings.Repeat("x", crdt.MaxValueBytes))
	for name, c := range map[string]struct {
		ops  []replica.ClientOp
		code string
	}{
		"no key":               {[]replica.ClientOp{setOp("", "/f", 1)}, replica.RejectBadRequest},
		"a broken path":        {[]replica.ClientOp{{Kind: replica.ClientRemove, Key: "d", Path: "a"}}, replica.RejectBadRequest},
		"no value":             {[]replica.ClientOp{{Kind: replica.ClientSet, Key: "d", Path: at("/f")}}, replica.RejectBadRequest},
		"no kind":              {[]replica.ClientOp{{Key: "d"}}, replica.RejectBadRequest},
		"too many documents":   {many, replica.RejectTooLarge},
		"a value too large":    {[]replica.ClientOp{large}, replica.RejectTooLarge},
		"a counter too large":  {[]replica.ClientOp{countOp("n", "/n", 1<<62), countOp("n", "/n", 1<<62)}, replica.RejectCounterRange},
		"half of it would do":  {[]replica.ClientOp{setOp("half", "/f", 1), setOp("", "/f", 1)}, replica.RejectBadRequest},
		"too many things seen": {[]replica.ClientOp{removeOp("d", "", make([]crdt.SeenDot, crdt.MaxTransactionFields+1)...)}, replica.RejectTooLarge},
	} {
		if res := a.give(a.next(c.ops...)); res.Rejected == nil || res.Rejected.Code != c.code || res.Rejected.Detail == "" {
			t.Errorf("%s: %+v", name, res.Rejected)
		}
	}
	if _, err := s.Get(t.Context(), "half"); !errors.Is(err, replica.ErrNotFound) {
		t.Errorf("a part of a rejected transaction was made: error %v", err)
	}
	for i := 0; ; i++ {
		tx := a.next(setOp("", "/f", 1))
		_, err := s.ApplyClient(t.Context(), tx)
		if errors.Is(err, replica.ErrTooManyRejections) {
			tx.Floor = tx.Seq
			if res := a.give(tx); res.Rejected == nil || res.Duplicate {
				t.Errorf("once the client knows of the others: %+v", res)
			}
			return
		}
		if err != nil || i > 300 {
			t.Fatalf("after %d more: error %v", i, err)
		}
	}
}

// TestClientIsAheadOfItsHome: it has read something elsewhere.
func TestClientIsAheadOfItsHome(t *testing.T) {
	home, other := space(t, open(t, replica.Config{})), space(t, open(t, replica.Config{}))
	set(t, other, "d", "f", 1)
	seen := readAll(t, other, "d")
	a := newLeaf(t, home, 1)
	tx := a.next(setOp("d", "/f", 2, seen...))
	if _, err := home.ApplyClient(t.Context(), tx); !errors.Is(err, replica.ErrBehind) {
		t.Fatalf("error %v", err)
	}
	tx.Force = true
	if res := a.give(tx); res.Rejected != nil || res.Duplicate {
		t.Errorf("%+v", res)
	}
	expect(t, "forced", entries(t, home, "d", "/f"), "2 by 1")
}

// TestLanesRunOut writes one field for more clients than there are lanes, none of which has seen any other.
func TestLanesRunOut(t *testing.T) {
	s := space(t, open(t, replica.Config{}))
	for i := range crdt.MaxLanes {
		newLeaf(t, s, crdt.ReplicaID(100+i)).do(setOp("d", "/f", int64(i)))
	}
	late := newLeaf(t, s, 1)
	if res := late.give(late.next(setOp("d", "/f", 1))); res.Rejected == nil || res.Rejected.Code != replica.RejectTooManySiblings {
		t.Errorf("%+v", res)
	}
	doc, err := s.Get(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Cell(at("/f")).Live); n != crdt.MaxLanes {
		t.Errorf("%d siblings", n)
	}
	late.do(setOp("other", "/f", 1))
	late.do(setOp("d", "/f", 1, readAll(t, s, "d")...))
	expect(t, "after reading", entries(t, s, "d", "/f"), "1 by 1")
	checkSpace(t, s)
}

// TestClientStamps: the client's clock decides what shows, as far as it is not ahead.
func TestClientStamps(t *testing.T) {
	now := time.UnixMilli(1_790_000_000_000)
	s := space(t, open(t, replica.Config{Now: func() time.Time { return now }}))
	late, early, wrong := newLeaf(t, s, 1), newLeaf(t, s, 2), newLeaf(t, s, 3)
	late.at, early.at, wrong.at = now.Add(-time.Minute), now.Add(-time.Hour), now.Add(time.Hour)
	late.do(setOp("d", "/f", 1))
	early.do(setOp("d", "/f", 2)) // it was offline for an hour
	expect(t, "made an hour ago", show(t, s, "d"), "map[f:1]")
	wrong.do(setOp("d", "/f", 3))
	now = now.Add(time.Second)
	newLeaf(t, s, 4).do(setOp("d", "/f", 4))
	expect(t, "made by a clock that is ahead, and later now", show(t, s, "d"), "map[f:4]")
	now = now.Add(-time.Minute)
	wrong.at = now
	wrong.do(setOp("d", "/f", 5))
	expect(t, "once that clock is right", entries(t, s, "d", "/f"), "1 by 1, 2 by 2, 4 by 4, 5 by 3")
}

// TestTransactionsOfAClientAreDurableTogether: what cannot be committed is not settled.
func TestTransactionsOfAClientAreDurableTogether(t *testing.T) {
	st := memstore.New()
	r, err := replica.OpenOn(replica.Config{}, st)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := space(t, r)
	a := newLeaf(t, s, 1)
	a.do(countOp("d", "/n", 1))
	tx := a.next(countOp("d", "/n", 1))
	st.FailCommits(store.ErrNoSpace)
	if _, err := s.ApplyClient(t.Context(), tx); !errors.Is(err, store.ErrNoSpace) {
		t.Fatalf("error %v", err)
	}
	st.FailCommits(nil)
	if res := a.give(tx); res.Duplicate || res.Rejected != nil {
		t.Errorf("%+v", res)
	}
	all := []replica.ClientTransaction{a.next(countOp("d", "/n", 1)), a.next(countOp("d", "/n", 1)), tx}
	results, err := s.ApplyClientAll(t.Context(), all)
	if err != nil || len(results) != 3 || results[0].Duplicate || results[1].Duplicate || !results[2].Duplicate {
		t.Errorf("%+v, error %v", results, err)
	}
	doc, err := s.Get(t.Context(), "d")
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := doc.Get(crdt.Path{"n"}); fmt.Sprint(v) != "4" {
		t.Errorf("counted %v", v)
	}
}
