package trace

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// Difference is a field that is not as it should be.
type Difference struct {
	Key  string
	Path crdt.PathKey
	Want *crdt.Value // nil: it should not be there
	Got  *crdt.Value // nil: it is not there
}

// Diff compares got with want. It returns no more than most differences, those of the first documents, sorted by key and
// path, and how many documents differ.
func Diff(want, got State, most int) (differences []Difference, documents int) {
	keys := slices.Collect(maps.Keys(want))
	for key := range got {
		if _, ok := want[key]; !ok {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		found := diffFields(key, want[key], got[key])
		if len(found) == 0 {
			continue
		}
		documents++
		differences = append(differences, found[:min(len(found), most-len(differences))]...)
	}
	return differences, documents
}

func diffFields(key string, want, got Fields) []Difference {
	var found []Difference
	for p, w := range want {
		g, ok := got[p]
		switch {
		case !ok:
			found = append(found, Difference{Key: key, Path: p, Want: &w})
		case g != w:
			found = append(found, Difference{Key: key, Path: p, Want: &w, Got: &g})
		}
	}
	for p, g := range got {
		if _, ok := want[p]; !ok {
			found = append(found, Difference{Key: key, Path: p, Got: &g})
		}
	}
	slices.SortFunc(found, func(a, b Difference) int { return cmp.Compare(a.Path, b.Path) })
	return found
}

// String returns the difference on one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s %s: %s, want %s", d.Key, d.Path, ShowValue(d.Got), ShowValue(d.Want))
}

// ShowValue returns the value of a Difference for people: as JSON, cut short if it is long.
func ShowValue(v *crdt.Value) string {
	if v == nil {
		return "nothing"
	}
	return clip(v.AppendJSON(nil))
}
