package bench

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"
)

func TestDocumentsHaveFiveFieldsAndTheSizeTheyShould(t *testing.T) {
	g := generator{seed: 7}
	for n := range 5000 {
		d := g.document(n, n%4)
		text, err := json.Marshal(d.goValue())
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Fields) != 5 || len(text) < minJSONBytes || len(text) > maxJSONBytes {
			t.Fatalf("document %d has %d fields and %d bytes of JSON: %s", n, len(d.Fields), len(text), text)
		}
		if !slices.IsSortedFunc(d.Fields, func(a, b field) int { return compare(a.Name, b.Name) }) {
			t.Fatalf("document %d: fields are not sorted", n)
		}
	}
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func TestSeedNumberAndRevisionAloneMakeADocument(t *testing.T) {
	a, b := generator{seed: 1}, generator{seed: 2}
	if !reflect.DeepEqual(a.document(3, 1), a.document(3, 1)) {
		t.Error("the same document twice differs")
	}
	if reflect.DeepEqual(a.document(3, 1), b.document(3, 1)) {
		t.Error("the seed makes no difference")
	}
	first, second := a.document(3, 1), a.document(3, 2)
	if first.Key != second.Key || first.field("note") == second.field("note") {
		t.Errorf("two revisions: %v and %v: want one key and other notes", first, second)
	}
}

func TestKeysAreDistinctAndOutOfOrder(t *testing.T) {
	g := generator{}
	seen := make(map[string]bool)
	ascending := 0
	last := ""
	for n := range 100_000 {
		k := g.key(n)
		if seen[k] {
			t.Fatalf("key %q comes twice", k)
		}
		seen[k] = true
		if k > last {
			ascending++
		}
		last = k
	}
	if ascending > 80_000 {
		t.Errorf("%d of 100000 keys follow the one before", ascending)
	}
}
