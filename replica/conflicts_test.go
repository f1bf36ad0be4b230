package replica_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/memnet"
	"github.com/anabranch-db/anabranch/replica"
)

// apart lets two replicas write the same fields while they are cut, and meet.
func apart(t *testing.T, documents int) *pair {
	t.Helper()
	p := newPair(t, replica.Config{}, replica.Config{})
	p.level(t)
	p.network.Cut(memnet.ID("a"), memnet.ID("b"))
	for i := range documents {
		set(t, p.sa, fmt.Sprintf("doc/%03d", i), "title", fmt.Sprintf("a%d", i))
		set(t, p.sb, fmt.Sprintf("doc/%03d", i), "title", fmt.Sprintf("b%d", i))
	}
	set(t, p.sa, "calm", "title", "same")
	set(t, p.sb, "calm", "title", "same")
	p.network.Heal()
	p.level(t)
	return p
}

func inbox(t *testing.T, s *replica.Space, g replica.Range) []replica.Conflicted {
	t.Helper()
	var docs []replica.Conflicted
	for c, err := range s.ConflictDocs(t.Context(), g) {
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, c)
	}
	return docs
}

func TestInboxListsCountsAndPages(t *testing.T) {
	p := apart(t, 5)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		if c, d := s.ConflictCount(); c != 5 || d != 5 {
			t.Fatalf("%d conflicts in %d documents", c, d)
		}
		all := inbox(t, s, replica.Range{})
		if len(all) != 5 || all[0] != (replica.Conflicted{Key: "doc/000", Conflicts: 1}) {
			t.Fatalf("the inbox has %v", all)
		}
		first := inbox(t, s, replica.Range{Prefix: "doc/", Limit: 2})
		rest := inbox(t, s, replica.Range{Prefix: "doc/", After: first[1].Key})
		if !slices.Equal(append(first, rest...), all) {
			t.Fatalf("pages %v and %v of %v", first, rest, all)
		}
		mustVerify(t, s)
	}
}

func TestSettlingOneDocumentSettlesItEverywhere(t *testing.T) {
	p := apart(t, 1)
	lost := ""
	update(t, p.sa, func(tx *replica.Tx) {
		doc := tx.Doc("doc/000")
		n, err := doc.Settle(crdt.Path{"title"}, func(c crdt.Contest) crdt.Verdict {
			if len(c.Lost) != 1 || c.Author == c.Lost[0].Author || c.Time < c.Lost[0].Time {
				t.Errorf("contest %+v", c)
			}
			lost = fmt.Sprint(c.Lost[0].Value.Any())
			return crdt.TakeLost(0)
		})
		if n != 1 || err != nil {
			t.Errorf("settled %d: %v", n, err)
		}
	})
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		if got := show(t, s, "doc/000"); got != "map[title:"+lost+"]" {
			t.Errorf("shows %s, want %s", got, lost)
		}
		if c, d := s.ConflictCount(); c != 0 || d != 0 {
			t.Errorf("%d conflicts in %d documents remain", c, d)
		}
	}
}

func TestSettleAllGoesOnWhereItEnded(t *testing.T) {
	const documents = 150
	p := apart(t, documents)
	ctx, cancel := context.WithCancel(t.Context())
	rule := func(c crdt.Contest) crdt.Verdict {
		if shown := c.Shown.Any(); shown == "a3" || shown == "b3" {
			return crdt.LeaveOpen()
		}
		return crdt.KeepShown()
	}
	steps := 0
	done, err := p.sa.SettleAll(ctx, replica.SettleOptions{Prefix: "doc/", Rule: rule, Progress: func(replica.SettleProgress) {
		if steps++; steps == 1 {
			cancel()
		}
	}})
	if err == nil || done.Documents == 0 || done.Documents == documents || done.Left != 1 {
		t.Fatalf("broken off after %+v: %v", done, err)
	}
	rest, err := p.sa.SettleAll(t.Context(), replica.SettleOptions{Prefix: "doc/", Rule: rule, After: done.After})
	if err != nil || done.Settled+rest.Settled != documents-1 {
		t.Fatalf("%+v, then %+v: %v", done, rest, err)
	}
	p.level(t)
	for _, s := range []*replica.Space{p.sa, p.sb} {
		if left := inbox(t, s, replica.Range{}); len(left) != 1 || left[0].Key != "doc/003" {
			t.Errorf("left are %v", left)
		}
		mustVerify(t, s)
	}
}

func TestWatchConflictsTellsWhatEntersAndLeaves(t *testing.T) {
	p := apart(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []string
	for c, err := range p.sb.WatchConflicts(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, fmt.Sprintf("%s:%d", c.Key, c.Conflicts))
		switch len(seen) {
		case 2:
			set(t, p.sa, "calm", "other", 1) // has no conflicts before and after
			set(t, p.sa, "doc/001", "title", "settled")
		case 3:
			update(t, p.sa, func(tx *replica.Tx) { tx.Doc("doc/000").Delete() })
		case 4:
			cancel()
		}
		if len(seen) == 4 {
			break
		}
	}
	if want := []string{"doc/000:1", "doc/001:1", "doc/001:0", "doc/000:0"}; !slices.Equal(seen, want) {
		t.Errorf("told %v, want %v", seen, want)
	}
}
