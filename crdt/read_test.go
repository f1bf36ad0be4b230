package crdt_test

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func pack(elements ...string) crdt.PathKey {
	p, err := crdt.Path(elements).Pack()
	if err != nil {
		panic(err)
	}
	return p
}

func at(r crdt.ReplicaID, t hlc.Time) crdt.Event { return crdt.EventAt(crdt.Dot{Replica: r, Time: t}) }

// merged joins documents that never met: concurrent histories.
func merged(documents ...*crdt.Document) *crdt.Document {
	var d crdt.Document
	for _, o := range documents {
		for f := range o.Fields() {
			d.MergeField(crdt.VersionVector{}, f.Path, f.Cell)
		}
	}
	return &d
}

func edit(do func(d *crdt.Document)) *crdt.Document {
	var d crdt.Document
	do(&d)
	return &d
}

func set(r crdt.ReplicaID, t hlc.Time, v crdt.Value, elements ...string) *crdt.Document {
	return edit(func(d *crdt.Document) { d.Set(at(r, t), pack(elements...), v) })
}

func increment(r crdt.ReplicaID, t hlc.Time, n int64, elements ...string) *crdt.Document {
	return edit(func(d *crdt.Document) {
		if err := d.Increment(at(r, t), pack(elements...), n); err != nil {
			panic(err)
		}
	})
}

func showLeaves(d *crdt.Document) string {
	var b strings.Builder
	for p, v := range d.Leaves() {
		fmt.Fprintf(&b, "%s=%v ", p, v.Any())
	}
	return strings.TrimSuffix(b.String(), " ")
}

func showConflicts(d *crdt.Document) string {
	var b strings.Builder
	for _, c := range d.Conflicts() {
		fmt.Fprintf(&b, "%s=%v by %d at %d for %s=%v; ", c.Path, c.Value.Any(), uint64(c.Author), uint64(c.Time), c.ShownAt, c.Shown.Any())
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func TestReadingResolvesSiblings(t *testing.T) {
	text, number := crdt.StringValue, crdt.IntValue
	reissued := edit(func(d *crdt.Document) {
		d.Set(crdt.Event{Dot: crdt.Dot{Replica: 9, Time: 90}, Stamp: 5, Author: 77}, pack("a"), text("late"))
	})
	for name, c := range map[string]struct {
		documents []*crdt.Document
		leaves    string
		conflicts string
	}{
		"no document":                    {nil, "", ""},
		"the later of two shows":         {[]*crdt.Document{set(1, 10, text("x"), "a"), set(2, 11, text("y"), "a")}, "/a=y", "/a=x by 1 at 10 for /a=y"},
		"at one time the greater author": {[]*crdt.Document{set(1, 10, text("x"), "a"), set(2, 10, text("y"), "a")}, "/a=y", "/a=x by 1 at 10 for /a=y"},
		"equal values are no conflict":   {[]*crdt.Document{set(1, 10, text("x"), "a"), set(2, 11, text("x"), "a"), set(3, 9, text("y"), "a")}, "/a=x", "/a=y by 3 at 9 for /a=x"},
		"a stamp decides, not the dot":   {[]*crdt.Document{set(1, 10, text("x"), "a"), reissued}, "/a=x", "/a=late by 77 at 5 for /a=x"},
		"conflicts of a path come newest first": {[]*crdt.Document{set(1, 10, number(1), "a"), set(2, 30, number(2), "a"), set(3, 20, number(3), "a")},
			"/a=2", "/a=3 by 3 at 20 for /a=2; /a=1 by 1 at 10 for /a=2"},
		"a value newer than the map below hides it": {[]*crdt.Document{set(1, 10, text("x"), "a", "b"), set(2, 9, text("y"), "a", "c", "d"), set(3, 11, text("z"), "a"), set(4, 1, number(1), "z")},
			"/a=z /z=1", "/a/b=x by 1 at 10 for /a=z; /a/c/d=y by 2 at 9 for /a=z"},
		"a map with a newer field hides the value": {[]*crdt.Document{set(1, 12, text("x"), "a", "b"), set(2, 9, text("y"), "a", "c", "d"), set(3, 11, text("z"), "a")},
			"/a/b=x /a/c/d=y", "/a=z by 3 at 11 for /a=map[]"},
		"maps are resolved level by level": {[]*crdt.Document{set(1, 12, text("x"), "a", "b", "c"), set(2, 13, text("y"), "a", "b"), set(3, 11, text("z"), "a"), set(4, 1, number(1), "a", "d")},
			"/a/b=y /a/d=1", "/a=z by 3 at 11 for /a=map[]; /a/b/c=x by 1 at 12 for /a/b=y"},
		"an empty map does not hide fields":      {[]*crdt.Document{set(1, 10, text("x"), "a", "b"), set(2, 20, crdt.EmptyMapValue(), "a")}, "/a/b=x", ""},
		"an empty document does not hide fields": {[]*crdt.Document{set(1, 10, text("x"), "a"), set(2, 20, crdt.EmptyMapValue())}, "/a=x", ""},
		"an empty map counts for the fields": {[]*crdt.Document{set(1, 10, text("x"), "a", "b"), set(2, 20, crdt.EmptyMapValue(), "a"), set(3, 15, text("z"), "a")},
			"/a/b=x", "/a=z by 3 at 15 for /a=map[]"},
		"an empty map is hidden with the fields": {[]*crdt.Document{set(1, 10, text("x"), "a", "b"), set(2, 20, crdt.EmptyMapValue(), "a"), set(3, 25, text("z"), "a")},
			"/a=z", "/a=map[] by 2 at 20 for /a=z; /a/b=x by 1 at 10 for /a=z"},
		"an empty map is a value where no field is": {[]*crdt.Document{set(2, 20, crdt.EmptyMapValue(), "a"), set(3, 25, text("z"), "a")},
			"/a=z", "/a=map[] by 2 at 20 for /a=z"},
		"a counter is the sum":       {[]*crdt.Document{increment(1, 10, 5, "n"), increment(2, 11, -2, "n")}, "/n=3", ""},
		"a sum that leaves int64":    {[]*crdt.Document{increment(1, 10, math.MaxInt64, "n"), increment(2, 11, 2, "n")}, "/n=9223372036854775807", ""},
		"a sum that leaves it below": {[]*crdt.Document{increment(1, 10, math.MinInt64, "n"), increment(2, 11, -2, "n")}, "/n=-9223372036854775808", ""},
		"a sum that comes back":      {[]*crdt.Document{increment(1, 10, math.MaxInt64, "n"), increment(2, 11, 2, "n"), increment(3, 12, -3, "n")}, "/n=9223372036854775806", ""},
		"a counter newer than a value": {[]*crdt.Document{increment(1, 10, 5, "n"), increment(2, 30, 2, "n"), set(3, 20, text("x"), "n")},
			"/n=7", "/n=x by 3 at 20 for /n=7"},
		"a value newer than a counter": {[]*crdt.Document{increment(1, 10, 5, "n"), increment(2, 15, 2, "n"), set(3, 20, text("x"), "n")},
			"/n=x", "/n=7 by 2 at 15 for /n=x"},
		"all three at one path": {[]*crdt.Document{increment(1, 10, 5, "n"), set(2, 11, text("x"), "n"), set(3, 12, text("y"), "n", "m"), increment(4, 3, 4, "n", "o"), increment(5, 4, 4, "n", "o")},
			"/n/m=y /n/o=8", "/n=x by 2 at 11 for /n=map[]; /n=5 by 1 at 10 for /n=map[]"},
		"a counter in a map that is hidden": {[]*crdt.Document{set(2, 11, text("x"), "n"), increment(4, 3, 4, "n", "o"), increment(5, 4, 4, "n", "o")},
			"/n=x", "/n/o=8 by 5 at 4 for /n=x"},
		"a value at the root": {[]*crdt.Document{set(1, 10, text("x"), "a"), set(2, 11, text("y"))}, "=y", "/a=x by 1 at 10 for =y"},
	} {
		t.Run(name, func(t *testing.T) {
			d := merged(c.documents...)
			if got := showLeaves(d); got != c.leaves {
				t.Errorf("leaves %q, want %q", got, c.leaves)
			}
			if got := showConflicts(d); got != c.conflicts {
				t.Errorf("conflicts %q, want %q", got, c.conflicts)
			}
		})
	}
}

func TestRemovedFieldsDoNotShow(t *testing.T) {
	d := set(1, 10, crdt.IntValue(1), "a", "b")
	d.Set(at(1, 11), pack("c"), crdt.IntValue(2))
	d.Remove(at(1, 12), pack("a"))
	if got := showLeaves(d); got != "/c=2" {
		t.Errorf("leaves %q", got)
	}
	// The tombstone of a/b stands between c and its own neighbours, and must not count as a field below a.
	if err := d.Increment(at(1, 13), pack("a"), 1); err != nil {
		t.Fatal(err)
	}
	if got := showLeaves(d); got != "/a=1 /c=2" {
		t.Errorf("leaves %q", got)
	}
}

func TestLeavesMayBeLeftEarly(t *testing.T) {
	d := merged(set(1, 1, crdt.IntValue(1), "a"), set(1, 2, crdt.IntValue(1), "b"), set(2, 2, crdt.IntValue(2), "b"), set(1, 3, crdt.IntValue(1), "c"))
	for stop := 1; stop <= 3; stop++ {
		n := 0
		for range d.Leaves() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("left after %d, want %d", n, stop)
		}
	}
}

func TestGet(t *testing.T) {
	d := merged(
		set(1, 10, crdt.StringValue("Oslo"), "name", "common"),
		set(1, 11, crdt.StringValue("Oslo kommune"), "name", "long", "official"),
		set(1, 12, crdt.ArrayValue(crdt.IntValue(1), crdt.Value{}), "list"),
		set(1, 13, crdt.EmptyMapValue(), "nothing"),
		set(1, 14, crdt.BytesValue([]byte{1, 2}), "a/b", ""),
		set(1, 15, crdt.FloatValue(1), "name", "z"),
		set(1, 16, crdt.StringValue("namesake"), "names"),
	)
	name := map[string]any{"common": "Oslo", "long": map[string]any{"official": "Oslo kommune"}, "z": 1.0}
	for _, c := range []struct {
		path crdt.Path
		want any
	}{
		{crdt.Path{"name"}, name},
		{crdt.Path{"name", "long"}, name["long"]},
		{crdt.Path{"name", "common"}, "Oslo"},
		{crdt.Path{"list"}, []any{int64(1), nil}},
		{crdt.Path{"nothing"}, map[string]any{}},
		{crdt.Path{"a/b"}, map[string]any{"": []byte{1, 2}}},
		{crdt.Path{}, map[string]any{"name": name, "names": "namesake", "list": []any{int64(1), nil}, "nothing": map[string]any{}, "a/b": map[string]any{"": []byte{1, 2}}}},
	} {
		got, ok := d.Get(c.path)
		if !ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("Get(%q) = %#v, %v, want %#v", c.path.String(), got, ok, c.want)
		}
	}
	for _, p := range []crdt.Path{{"nam"}, {"name", "common", "x"}, {"list", "0"}, {"zz"}, {"\xff"}, make(crdt.Path, crdt.MaxDepth+1)} {
		if got, ok := d.Get(p); ok {
			t.Errorf("Get(%q) = %#v, want nothing", p, got)
		}
	}
	if !reflect.DeepEqual(d.Value(), mustGet(d)) {
		t.Errorf("Value %v differs from Get of the empty path %v", d.Value(), mustGet(d))
	}
	if v := new(crdt.Document).Value(); len(v) != 0 || v == nil {
		t.Errorf("the value of no document is %#v", v)
	}
	if _, ok := new(crdt.Document).Get(nil); ok {
		t.Error("there is something in no document")
	}
	if v := set(1, 1, crdt.EmptyMapValue()).Value(); len(v) != 0 || v == nil {
		t.Errorf("the value of an empty document is %#v", v)
	}
	if v := set(1, 1, crdt.IntValue(3)).Value(); !reflect.DeepEqual(v, map[string]any{"": int64(3)}) {
		t.Errorf("a value at the root reads %#v", v)
	}
}

func mustGet(d *crdt.Document) any { v, _ := d.Get(nil); return v }
