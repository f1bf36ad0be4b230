package crdt_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/anabranch-db/anabranch/crdt"
)

func between(t interface{ Fatalf(string, ...any) }, a, b string) string {
	k, err := crdt.OrderKeyBetween(a, b)
	if err != nil {
		t.Fatalf("between %q and %q: %v", a, b, err)
	}
	if k <= a || b != "" && k >= b {
		t.Fatalf("%q is not between %q and %q", k, a, b)
	}
	return k
}

func TestOrderKeysOfAGrowingList(t *testing.T) {
	first := between(t, "", "")
	if first != "V0" {
		t.Errorf("the first key is %q", first)
	}
	last := first
	length := map[int]int{}
	for range 100_000 {
		last = between(t, last, "")
		length[len(last)]++
	}
	if len(last) > 4 {
		t.Errorf("after 100,000 appended elements the key is %q", last)
	}
	if length[2] != 61 || length[3] != 62*62 {
		t.Errorf("keys by length: %v", length)
	}
	lowest := first
	for range 100_000 {
		lowest = between(t, "", lowest)
	}
	if len(lowest) > 4 {
		t.Errorf("after 100,000 prepended elements the key is %q", lowest)
	}
}

func TestOrderKeyGrowsSlowlyAtOnePlace(t *testing.T) {
	for name, next := range map[string]func(a, b, k string) (string, string){
		"before the last one": func(a, b, k string) (string, string) { return a, k },
		"after the last one":  func(a, b, k string) (string, string) { return k, b },
	} {
		a, b := "V0", "V1"
		for range 600 {
			a, b = next(a, b, between(t, a, b))
		}
		if longest := max(len(a), len(b)); longest > 600/5+3 {
			t.Errorf("%s: after 600 insertions keys have %d characters", name, longest)
		}
	}
}

// TestOrderKeysSortAsTheListDoes inserts at random places and compares with a list that is kept by hand.
func TestOrderKeysSortAsTheListDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []string
		for range rapid.IntRange(1, 60).Draw(t, "insertions") {
			i := rapid.IntRange(0, len(list)).Draw(t, "place")
			a, b := "", ""
			if i > 0 {
				a = list[i-1]
			}
			if i < len(list) {
				b = list[i]
			}
			var keys []string
			switch rapid.IntRange(0, 2).Draw(t, "how") {
			case 0:
				keys = []string{between(t, a, b)}
			case 1:
				k, err := crdt.OrderKeyUnique(a, b, rapid.Uint64().Draw(t, "jitter"))
				if err != nil {
					t.Fatal(err)
				}
				keys = []string{k}
			case 2:
				n := rapid.IntRange(0, 20).Draw(t, "number")
				var err error
				if keys, err = crdt.OrderKeys(a, b, n); err != nil || len(keys) != n {
					t.Fatalf("%d keys of %d, error %v", len(keys), n, err)
				}
			}
			list = slices.Insert(list, i, keys...)
		}
		for i := 1; i < len(list); i++ {
			if list[i-1] >= list[i] {
				t.Fatalf("%q stands before %q", list[i-1], list[i])
			}
		}
		for _, k := range list { // each is a bound that is accepted
			between(t, k, "")
			between(t, "", k)
		}
	})
}

func TestUniqueKeysDiffer(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, bounds := range [][2]string{{"", ""}, {"V0", ""}, {"", "V0"}, {"V0", "V1"}, {"V0", "V1V"}, {"V0V", "V0V1"}, {"V0", "V001"}} {
		seen := map[string]bool{}
		for range 2000 {
			k, err := crdt.OrderKeyUnique(bounds[0], bounds[1], r.Uint64())
			if err != nil {
				t.Fatal(err)
			}
			if seen[k] || k <= bounds[0] || bounds[1] != "" && k >= bounds[1] {
				t.Fatalf("%q between %q is not in order or came twice", k, bounds)
			}
			seen[k] = true
		}
	}
}

func TestManyOrderKeysStayShort(t *testing.T) {
	keys, err := crdt.OrderKeys("V0", "V1", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if len(k) > 6 {
			t.Fatalf("one of 10,000 keys between two is %q", k)
		}
	}
}

func TestOrderKeysRefuse(t *testing.T) {
	highest := "z" + strings.Repeat("z", 31)
	lowest := "0" + strings.Repeat("0", 31)
	for _, bounds := range [][2]string{{"V1", "V0"}, {"V1", "V1"}, {"V", ""}, {"", "V00"}, {"V0/", ""}, {"W0", ""}, {"", "é"}, {"", lowest}} {
		if k, err := crdt.OrderKeyBetween(bounds[0], bounds[1]); !errors.Is(err, crdt.ErrOrderKey) {
			t.Errorf("between %q: %q, error %v", bounds, k, err)
		}
		if k, err := crdt.OrderKeyUnique(bounds[0], bounds[1], 1); !errors.Is(err, crdt.ErrOrderKey) {
			t.Errorf("between %q: %q, error %v", bounds, k, err)
		}
		if k, err := crdt.OrderKeys(bounds[0], bounds[1], 2); !errors.Is(err, crdt.ErrOrderKey) {
			t.Errorf("between %q: %q, error %v", bounds, k, err)
		}
	}
	if _, err := crdt.OrderKeys("", "", -1); !errors.Is(err, crdt.ErrOrderKey) {
		t.Errorf("-1 keys: error %v", err)
	}
	if k := between(t, highest, ""); len(k) != len(highest)+1 {
		t.Errorf("above the highest integer: %q", k)
	}
	if k := between(t, lowest, lowest+"1"); k != lowest+"0V" {
		t.Errorf("above the lowest integer: %q", k)
	}
}
