package storetest

import (
	"slices"
	"testing"

	"github.com/anabranch-db/anabranch/replica/store"
)

// awkwardKeys in byte order: prefixes of each other, the smallest and greatest bytes, and names that Badger
// uses for itself.
var awkwardKeys = []string{
	"\x00", "\x00\x00", "\x00\x01", "\x00\xff", "!badger!", "!badger!banned", "!badger!txn", "a", "a\x00", "a\x00\x00",
	"a\x00b", "aa", "ab", "b", "d", "i", "\u00e4", "\xfe", "\xff", "\xff\x00", "\xff\xff", "\xff\xff\xff\xff\xff\xff\xff\xff\xff",
}

func testKeyOrder(t *testing.T, s store.Store) {
	// Some from one commit, some from another, not in their order.
	for _, step := range []int{2, -1} {
		var b store.Batch
		for i := range awkwardKeys {
			if step < 0 {
				i = len(awkwardKeys) - 1 - i
			} else if i%step == 0 {
				continue
			}
			b.Put([]byte(awkwardKeys[i]), []byte("v"))
		}
		commit(t, s, &b)
	}
	var want []string
	for _, k := range awkwardKeys {
		want = append(want, k+"=v")
	}
	sn := snapshot(t, s)
	wantEqual(t, "scan", scan(t, sn, "", ""), want)
	for _, k := range awkwardKeys {
		wantEqual(t, "get", get(t, sn, k), "v")
	}
	// Every pair of bounds, also those that are no keys.
	bounds := append(slices.Clone(awkwardKeys), "", "\x00\x00\x00", "!", "ac", "zz", "\xff\xff\x01")
	for _, start := range bounds {
		for _, end := range bounds {
			var want []string
			for _, k := range awkwardKeys {
				if k >= start && (end == "" || k < end) {
					want = append(want, k+"=v")
				}
			}
			wantEqual(t, "scan "+start+" to "+end, scan(t, sn, start, end), want)
		}
	}
}

func testBounds(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1", "b=2", "c=3", "d=4"))
	commit(t, s, pairs("-c"))
	sn := snapshot(t, s)
	tests := []struct {
		name, start, end string
		want             []string
	}{
		{"everything", "", "", []string{"a=1", "b=2", "d=4"}},
		{"start is included", "b", "", []string{"b=2", "d=4"}},
		{"end is not", "", "b", []string{"a=1"}},
		{"start between keys", "aa", "", []string{"b=2", "d=4"}},
		{"end between keys", "", "bb", []string{"a=1", "b=2"}},
		{"end is a deleted key", "b", "c", []string{"b=2"}},
		{"start is a deleted key", "c", "", []string{"d=4"}},
		{"only a deleted key", "c", "d", nil},
		{"start is end", "b", "b", nil},
		{"start after end", "d", "a", nil},
		{"after everything", "e", "", nil},
		{"before everything", "", "A", nil},
	}
	for _, test := range tests {
		wantEqual(t, test.name, scan(t, sn, test.start, test.end), test.want)
	}
	n := 0
	for _, err := range sn.Scan([]byte{}, []byte{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	wantEqual(t, "entries within empty, not nil, bounds", n, 3)
}

func testEarlyBreak(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1", "b=2", "c=3"))
	sn := snapshot(t, s)
	seq := sn.Scan(nil, nil)
	for range 3 {
		for e, err := range seq {
			if err != nil || string(e.Key) != "a" {
				t.Fatalf("first step: %q, %v", e.Key, err)
			}
			break
		}
	}
	for key, err := range sn.Keys([]byte("b"), nil) {
		if err != nil || string(key) != "b" {
			t.Fatalf("first step: %q, %v", key, err)
		}
		break
	}
	n := 0
	for _, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	wantEqual(t, "entries of a sequence that was left early before", n, 3)
}

func testNestedScans(t *testing.T, s store.Store) {
	commit(t, s, pairs("a=1", "b=2", "c=3"))
	sn := snapshot(t, s)
	var got []string
	for outer, err := range sn.Scan(nil, nil) {
		if err != nil {
			t.Fatal(err)
		}
		for inner, err := range sn.Keys(outer.Key, nil) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(outer.Key)+string(inner)+get(t, sn, string(inner)))
		}
		// The loop's body may write, too; the snapshot does not see it.
		commit(t, s, pairs("b=changed", "d=new"))
	}
	wantEqual(t, "pairs", got, []string{"aa1", "ab2", "ac3", "bb2", "bc3", "cc3"})
}
