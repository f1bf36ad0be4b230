package crdt_test

import (
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
)

func TestKeepingAMapKeepsTheEmptyMapThatLetsAMapAboveShow(t *testing.T) {
	number := crdt.IntValue
	before := merged(
		set(1, 10, number(1), "a", "b", "c"),
		set(2, 11, number(2), "a"),
		set(3, 9, number(3), "a", "b"),
		set(4, 12, crdt.EmptyMapValue(), "a", "b"), // newer than the plain value at /a: with it the map there shows
	)
	for name, at := range map[string]crdt.PathKey{"there": pack("a", "b"), "everywhere": pack()} {
		t.Run(name, func(t *testing.T) {
			d := reopened(before)
			if got := showLeaves(d); got != "/a/b/c=1" {
				t.Fatalf("before, %s shows", got)
			}
			d.Settle(crdt.EventAt(crdt.Dot{Replica: 9, Time: 20}), at, func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }, 0)
			if got := showLeaves(d); got != "/a/b/c=1" {
				t.Errorf("after settling at %q, %s shows", at, got)
			}
			for _, c := range d.Conflicts() {
				if at.Contains(c.Path) {
					t.Errorf("%v at %s is still a conflict", c.Value, c.Path)
				}
			}
		})
	}
}
