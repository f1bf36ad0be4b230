package replica_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// What is committed must be readable again, here and by every peer.
func TestLeavesThatNobodyCouldReadAreRefused(t *testing.T) {
	one := crdt.IntValue(1)
	deep := one
	for range crdt.MaxDepth + 1 {
		deep = crdt.ArrayValue(deep)
	}
	a, b, ab := crdt.PathKey("a\x00"), crdt.PathKey("b\x00"), crdt.PathKey("a\x00b\x00")
	for name, leaves := range map[string][]crdt.Leaf{
		"text that is not UTF-8":  {{Path: a, Value: crdt.StringValue("\xff")}},
		"not a number":            {{Path: a, Value: crdt.FloatValue(math.NaN())}},
		"map at a path":           {{Path: a, Value: crdt.MapValue(crdt.Member{Key: "k", Value: one})}},
		"counter inside an array": {{Path: a, Value: crdt.ArrayValue(crdt.CounterValue(1))}},
		"array too deep":          {{Path: a, Value: deep}},
		"path without an end":     {{Path: "a", Value: one}},
		"path too long":           {{Path: crdt.PathKey(strings.Repeat("a", crdt.MaxPathBytes)) + "\x00", Value: one}},
		"path not UTF-8":          {{Path: "\xff\x00", Value: one}},
		"out of order":            {{Path: b, Value: one}, {Path: a, Value: one}},
		"twice the same":          {{Path: a, Value: one}, {Path: a, Value: one}},
		"one above another":       {{Path: a, Value: one}, {Path: ab, Value: one}},
	} {
		t.Run(name, func(t *testing.T) {
			s := space(t, open(t, replica.Config{}))
			set(t, s, "d", "x", 1)
			for _, call := range []func(*replica.TxDoc) error{
				func(d *replica.TxDoc) error { return d.SetLeaves(nil, leaves) },
				func(d *replica.TxDoc) error { return d.Replace(leaves) },
			} {
				_, err := s.Update(t.Context(), func(tx *replica.Tx) error { return call(tx.Doc("d")) })
				if !errors.Is(err, crdt.ErrValue) && !errors.Is(err, crdt.ErrPath) && !errors.Is(err, crdt.ErrLimit) {
					t.Errorf("got %v", err)
				}
			}
			if got := show(t, s, "d"); got != "map[x:1]" {
				t.Error(got)
			}
		})
	}
	s := space(t, open(t, replica.Config{}))
	_, err := s.Update(t.Context(), func(tx *replica.Tx) error {
		return tx.Doc("d").SetLeaves(crdt.Path{"b"}, []crdt.Leaf{{Path: a, Value: one}})
	})
	if !errors.Is(err, crdt.ErrPath) {
		t.Errorf("a leaf outside the subtree: %v", err)
	}
}
