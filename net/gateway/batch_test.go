package gateway

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// mergedByRFC is MergePatch of RFC 7396, section 2.
func mergedByRFC(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if t, ok := target.(map[string]any); ok {
		for name, value := range t {
			merged[name] = value
		}
	}
	for name, value := range p {
		if value == nil {
			delete(merged, name)
		} else {
			merged[name] = mergedByRFC(merged[name], value)
		}
	}
	return merged
}

// anyJSON draws a value of few names, so that patches meet what is there.
func anyJSON(t *rapid.T, depth int) any {
	switch n := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case n == 0:
		return nil
	case n == 1:
		return []any{rapid.Bool().Draw(t, "element")}
	case n < 4 || depth == 0:
		return rapid.StringMatching(`[xy]?`).Draw(t, "text")
	}
	return anyObject(t, depth)
}

func anyObject(t *rapid.T, depth int) map[string]any {
	m := map[string]any{}
	for range rapid.IntRange(0, 3).Draw(t, "members") {
		m[rapid.SampledFrom([]string{"a", "b", "", "/"}).Draw(t, "name")] = anyJSON(t, depth-1)
	}
	return m
}

func TestMergePatchIsThatOfTheRFC(t *testing.T) {
	r, err := replica.Open(replica.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s, err := r.Space("notes")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		before, patch := anyObject(t, 3), anyObject(t, 3)
		text, err := json.Marshal(patch)
		if err != nil {
			t.Fatal(err)
		}
		leaves, err := crdt.ParseJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Update(context.Background(), func(tx *replica.Tx) error {
			if err := tx.Doc("k").Replace(before); err != nil {
				return err
			}
			return mergePatch(tx.Doc("k"), leaves)
		})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := s.Get(context.Background(), "k")
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(doc.AppendJSON(nil), &got); err != nil {
			t.Fatal(err)
		}
		if want := mergedByRFC(before, patch); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v with %s: %v, want %v", before, text, got, want)
		}
	})
}

// Whatever the text: no panic, and what is taken can be run.
func FuzzBatch(f *testing.F) {
	for _, s := range []string{
		``, `{"ops":[]}`, `{"ops":[{"op":"put","key":"a","value":{"x":1}}]}`, `{"ops":[{"op":"patch","key":"a","value":{"x":{"y":null}}},{"op":"delete","key":"a","ifMatch":"*"}]}`,
		`{"ops":[{"op":"set","key":"a","path":"/x","value":[1]},{"op":"increment","key":"a","path":"/n","by":-3},{"op":"remove","key":"a","path":"/x"}]}`,
	} {
		f.Add([]byte(s))
	}
	r, err := replica.Open(replica.Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = r.Close() })
	s, err := r.Space("notes")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		ops, err := parseBatch(text)
		if err != nil {
			if p := problemOf(err); p.Status < 400 || p.Status > 499 {
				t.Fatalf("%v is the fault of the node", err)
			}
			return
		}
		_, err = s.Update(context.Background(), func(tx *replica.Tx) error {
			for i := range ops {
				if err := ops[i].run(tx.Doc(ops[i].key)); err != nil {
					return errorAt(i, err)
				}
			}
			return nil
		})
		if err != nil {
			if p := problemOf(err); p.Status < 400 || p.Status > 499 {
				t.Fatalf("%v is the fault of the node", err)
			}
		}
	})
}

// Whatever the text: no panic, and no grant.
func FuzzToken(f *testing.F) {
	tokens, err := OpenTokens(TokensConfig{})
	if err != nil {
		f.Fatal(err)
	}
	text, _, err := tokens.Issue(TokenSpec{Space: "a", Rights: replica.ReadRights})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text[:len(text)-1])
	f.Add("v4.public.")
	f.Add("v4.public.AA.BB")
	f.Add("")
	f.Fuzz(func(t *testing.T, given string) {
		if gr, err := tokens.Authenticate(context.Background(), given); err == nil && given != text {
			t.Fatalf("%q is taken as %+v", given, gr)
		}
	})
}
