package crdt_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

// reopened returns d as if it had been stored and loaded, so that Changes begins anew.
func reopened(d *crdt.Document) *crdt.Document {
	var fields []crdt.Field
	for f := range d.Fields() {
		fields = append(fields, f)
	}
	return crdt.NewDocument(fields)
}

func changed(d *crdt.Document) string {
	var paths []string
	for c := range d.Changes() {
		paths = append(paths, c.Path.String())
	}
	return strings.Join(paths, " ")
}

func leaf(v crdt.Value, elements ...string) crdt.Leaf {
	return crdt.Leaf{Path: pack(elements...), Value: v}
}

func TestReplaceWritesOnlyWhatDiffers(t *testing.T) {
	number, text := crdt.IntValue, crdt.StringValue
	counter := func() *crdt.Document { return merged(increment(1, 10, 5, "n"), increment(2, 11, 2, "n")) }
	for name, c := range map[string]struct {
		before  *crdt.Document
		leaves  []crdt.Leaf
		shows   string
		changes string
		left    string // conflicts
	}{
		"the same": {merged(set(1, 10, number(1), "a"), set(1, 11, number(2), "b", "c")),
			[]crdt.Leaf{leaf(number(1), "a"), leaf(number(2), "b", "c")}, "/a=1 /b/c=2", "", ""},
		"one field differs": {merged(set(1, 10, number(1), "a"), set(1, 11, number(2), "b", "c")),
			[]crdt.Leaf{leaf(number(1), "a"), leaf(number(3), "b", "c")}, "/a=1 /b/c=3", "/b/c", ""},
		"a float is not an integer": {set(1, 10, number(1), "a"), []crdt.Leaf{leaf(crdt.FloatValue(1), "a")}, "/a=1", "/a", ""},
		"fields go and come": {merged(set(1, 10, number(1), "b"), set(1, 11, number(2), "d")),
			[]crdt.Leaf{leaf(number(3), "a"), leaf(number(2), "d"), leaf(number(4), "e")}, "/a=3 /d=2 /e=4", "/a /b /e", ""},
		"everything goes":                     {set(1, 10, number(1), "a"), nil, "", "/a", ""},
		"to the empty document":               {set(1, 10, number(1), "a"), []crdt.Leaf{leaf(crdt.EmptyMapValue())}, "=map[]", " /a", ""},
		"from the empty document":             {set(1, 10, crdt.EmptyMapValue()), []crdt.Leaf{leaf(number(1), "a")}, "/a=1", " /a", ""},
		"a value becomes a map":               {set(1, 10, number(1), "a"), []crdt.Leaf{leaf(number(1), "a", "b")}, "/a/b=1", "/a /a/b", ""},
		"a map becomes a value":               {merged(set(1, 10, number(1), "a", "b"), set(1, 11, number(1), "a", "c")), []crdt.Leaf{leaf(number(1), "a")}, "/a=1", "/a /a/b /a/c", ""},
		"a conflict of another field remains": {merged(set(1, 10, number(1), "a"), set(2, 11, number(2), "a"), set(1, 12, number(3), "b")), []crdt.Leaf{leaf(number(2), "a"), leaf(number(4), "b")}, "/a=2 /b=4", "/b", "/a=1 by 1 at 10 for /a=2"},
		"a conflict of the field is settled":  {merged(set(1, 10, number(1), "a"), set(2, 11, number(2), "a")), []crdt.Leaf{leaf(number(3), "a")}, "/a=3", "/a", ""},
		"what a removed value hid goes too":   {merged(set(1, 10, number(1), "a", "b"), set(2, 11, number(2), "a")), nil, "", "/a /a/b", ""},
		"what a removed map hid goes too":     {merged(set(1, 12, number(1), "a", "b"), set(2, 11, number(2), "a")), nil, "", "/a /a/b", ""},
		"a map that shrinks does not lose to what it hid": {merged(set(1, 12, number(1), "a", "b"), set(3, 10, number(5), "a", "c"), set(2, 11, number(2), "a")),
			[]crdt.Leaf{leaf(number(5), "a", "c")}, "/a/c=5", "/a /a/b", ""},
		"below a value that hid other fields": {merged(set(1, 10, number(1), "a", "b"), set(2, 11, number(2), "a")),
			[]crdt.Leaf{leaf(number(3), "a", "c")}, "/a/c=3", "/a /a/b /a/c", ""},
		"a counter wanted as it shows":  {counter(), []crdt.Leaf{leaf(number(7), "n")}, "/n=7", "", ""},
		"a counter wanted as a counter": {counter(), []crdt.Leaf{leaf(crdt.CounterValue(7), "n")}, "/n=7", "", ""},
		"a counter is incremented":      {counter(), []crdt.Leaf{leaf(number(4), "n")}, "/n=4", "/n", ""},
		"a counter becomes a text":      {counter(), []crdt.Leaf{leaf(text("x"), "n")}, "/n=x", "/n", ""},
		"a counter with conflicts": {merged(increment(1, 20, 5, "n"), set(2, 15, text("x"), "n"), set(3, 16, text("y"), "n", "m"), set(4, 17, text("z"))),
			[]crdt.Leaf{leaf(number(6), "n")}, "/n=6", " /n /n/m", ""},
		"a counter without room":       {increment(9, 10, math.MaxInt64, "n"), []crdt.Leaf{leaf(number(math.MinInt64), "n")}, "/n=-9223372036854775808", "/n", ""},
		"a counter beyond its range":   {merged(increment(1, 10, math.MaxInt64, "n"), increment(2, 11, 5, "n")), []crdt.Leaf{leaf(number(3), "n")}, "/n=3", "/n", ""},
		"an integer wanted as counter": {set(1, 10, number(1), "n"), []crdt.Leaf{leaf(crdt.CounterValue(1), "n")}, "/n=1", "/n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := reopened(c.before)
			d.Replace(at(9, 100), c.leaves)
			if got := showLeaves(d); got != c.shows {
				t.Errorf("shows %q, want %q", got, c.shows)
			}
			if got := changed(d); got != c.changes {
				t.Errorf("changes %q, want %q", got, c.changes)
			}
			if got := showConflicts(d); got != c.left {
				t.Errorf("conflicts %q, want %q", got, c.left)
			}
			for f := range d.Fields() {
				if err := f.Cell.Check(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestReplaceCountsWithOthers: a counter that was replaced by a value one greater still counts the increment of another replica that
// came at the same time.
func TestReplaceCountsWithOthers(t *testing.T) {
	start := merged(increment(1, 10, 5, "n"), increment(2, 11, 2, "n"))
	a, b := reopened(start), reopened(start)
	a.Replace(at(1, 20), []crdt.Leaf{leaf(crdt.IntValue(8), "n")})
	if err := b.Increment(at(2, 21), pack("n"), 10); err != nil {
		t.Fatal(err)
	}
	if got := showLeaves(merged(a, b)); got != "/n=18" {
		t.Errorf("shows %s, want /n=18", got)
	}
}

// TestReplaceHoldsForOldStamps: a gateway re-issues a client's write with the client's stamp, which may be older than what is
// there. What the client has seen gives way all the same.
func TestReplaceHoldsForOldStamps(t *testing.T) {
	old := crdt.Event{Dot: crdt.Dot{Replica: 9, Time: 100}, Stamp: 2, Author: 77}
	for i, leaves := range [][]crdt.Leaf{
		{leaf(crdt.IntValue(3), "a", "b")}, {leaf(crdt.IntValue(3), "a")}, {leaf(crdt.IntValue(4), "n")}, {leaf(crdt.IntValue(1), "a", "c"), leaf(crdt.IntValue(9), "n")},
	} {
		d := merged(set(1, 12, crdt.IntValue(1), "a", "b"), set(3, 10, crdt.IntValue(1), "a", "c"), set(2, 11, crdt.IntValue(2), "a"),
			increment(1, 20, 5, "n"), set(2, 15, crdt.StringValue("x"), "n"), set(3, 16, crdt.StringValue("y"), "n", "m"))
		d.Replace(old, leaves)
		want := ""
		for _, l := range leaves {
			want += fmt.Sprintf("%s=%v ", l.Path, l.Value.Any())
		}
		if got := showLeaves(d); got != strings.TrimSpace(want) {
			t.Errorf("%d: shows %q, want %q", i, got, want)
		}
	}
}
