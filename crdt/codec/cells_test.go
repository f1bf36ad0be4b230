package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func path(elements ...string) crdt.PathKey {
	p, err := crdt.Path(elements).Pack()
	if err != nil {
		panic(err)
	}
	return p
}

var now = hlc.FromUnixMilli(1_790_000_000_000) + 3

func dot(r crdt.ReplicaID, after int64) crdt.Dot {
	return crdt.Dot{Replica: r, Time: now + hlc.Time(after)}
}

func entry(d crdt.Dot, v crdt.Value) crdt.Entry {
	return crdt.Entry{Dot: d, Stamp: d.Time, Author: d.Replica, Value: v}
}

func live(entries ...crdt.Entry) crdt.Cell { return crdt.Cell{Live: entries} }

func observed(dots ...crdt.Dot) crdt.Cell {
	return crdt.Cell{Observed: crdt.NewVersionVector(dots...)}
}

// states are documents of every shape, by what they show.
func states() map[string][]crdt.Field {
	a, b, c := dot(7, 0), dot(900, -5000), dot(math.MaxUint64, 1<<30)
	reissued := crdt.Entry{Dot: a, Stamp: a.Time - 77, Author: 900, Value: crdt.StringValue("re-issued")}
	deep := make([]string, crdt.MaxDepth)
	for i := range deep {
		deep[i] = fmt.Sprint("e", i)
	}
	long := strings.Repeat("long", 300)
	several := live(entry(a, crdt.IntValue(1)), entry(b, crdt.StringValue("two")), entry(c, crdt.CounterValue(-3)))
	several.Observed = crdt.NewVersionVector(dot(8, 1), dot(900, 9))
	return map[string][]crdt.Field{
		"nothing": nil,
		"one transaction": {
			{Path: path("active"), Cell: live(entry(a, crdt.BoolValue(true)))},
			{Path: path("name", "common"), Cell: live(entry(a, crdt.StringValue("Oslo")))},
			{Path: path("name", "official"), Cell: live(entry(a, crdt.StringValue("Oslo kommune")))},
			{Path: path("population"), Cell: live(entry(a, crdt.IntValue(717710)))},
		},
		"every kind of value": {
			{Path: path("a"), Cell: live(entry(a, crdt.Value{}))},
			{Path: path("b"), Cell: live(entry(a, crdt.BoolValue(false)))},
			{Path: path("c"), Cell: live(entry(a, crdt.BoolValue(true)))},
			{Path: path("d"), Cell: live(entry(a, crdt.IntValue(math.MinInt64)))},
			{Path: path("e"), Cell: live(entry(a, crdt.FloatValue(math.Copysign(0, -1))))},
			{Path: path("f"), Cell: live(entry(a, crdt.StringValue(long)))},
			{Path: path("g"), Cell: live(entry(a, crdt.BytesValue([]byte{0, 255})))},
			{Path: path("h"), Cell: live(entry(a, crdt.ArrayValue(crdt.MapValue(crdt.Member{Key: "k", Value: crdt.ArrayValue()}))))},
			{Path: path("i"), Cell: live(entry(a, crdt.EmptyMapValue()))},
			{Path: path("j"), Cell: live(entry(a, crdt.CounterValue(math.MaxInt64)))},
		},
		"a written field in a pruned document": {
			{Path: path("a"), Cell: live(entry(a, crdt.IntValue(1)))},
			{Path: path("b"), Cell: live(entry(b, crdt.IntValue(2)))},
			{Path: path("c"), Cell: live(entry(b, crdt.IntValue(3)))},
			{Path: path("d"), Cell: live(entry(a, crdt.IntValue(4)))},
		},
		"siblings and observed dots": {
			{Path: path("a"), Cell: several},
			{Path: path("b"), Cell: live(entry(b, crdt.IntValue(2)))},
		},
		"a counter of two": {{Path: path("n"), Cell: live(entry(a, crdt.CounterValue(2)), entry(b, crdt.CounterValue(3)))}},
		"tombstones only": {
			{Path: path("a"), Cell: observed(b, c)},
			{Path: path("a", "b"), Cell: observed(a)},
		},
		"a client's write": {{Path: path("a"), Cell: live(reissued)}, {Path: path("b"), Cell: live(reissued)}},
		"a client's write beside another": {
			{Path: path("a"), Cell: live(entry(b, crdt.IntValue(1)))},
			{Path: path("b"), Cell: live(reissued)},
		},
		"a client's stamp of the own replica": {{Path: path("a"), Cell: live(crdt.Entry{Dot: a, Stamp: 1, Author: a.Replica})}},
		"an empty document that exists":       {{Path: "", Cell: live(entry(a, crdt.EmptyMapValue()))}},
		"the root beside empty elements": {
			{Path: "", Cell: live(entry(a, crdt.Value{}))},
			{Path: path(""), Cell: live(entry(a, crdt.Value{}))},
			{Path: path("", ""), Cell: live(entry(a, crdt.Value{}))},
			{Path: path("", "\x00\x01"), Cell: live(entry(a, crdt.Value{}))},
		},
		"paths as deep and long as they may be": {
			{Path: path(deep...), Cell: live(entry(a, crdt.IntValue(1)))},
			{Path: path(strings.Repeat("p", crdt.MaxPathBytes-1)), Cell: live(entry(a, crdt.IntValue(1)))},
		},
		"long paths in common": {
			{Path: path(long, "a"), Cell: live(entry(a, crdt.IntValue(1)))},
			{Path: path(long, "b"), Cell: live(entry(a, crdt.IntValue(1)))},
		},
		"times at both ends": {
			{Path: path("a"), Cell: live(entry(crdt.Dot{Replica: 1, Time: 1}, crdt.IntValue(1)))},
			{Path: path("b"), Cell: live(entry(crdt.Dot{Replica: 1, Time: hlc.Max}, crdt.IntValue(1)))},
		},
		"an observed dot newer than a live one of its writer": {
			{Path: path("a"), Cell: crdt.Cell{Live: []crdt.Entry{entry(a, crdt.IntValue(1))}, Observed: crdt.NewVersionVector(dot(7, 1))}},
		},
		"more replicas than fit on the stack": manyReplicas(20),
		"more replicas than 64":               manyReplicas(40),
	}
}

func manyReplicas(n int) []crdt.Field {
	var c crdt.Cell
	var dead crdt.Cell
	for i := range n {
		c.Live = append(c.Live, entry(dot(crdt.ReplicaID(i+1)*1000, int64(i)), crdt.IntValue(int64(i))))
		dead.Observed.Advance(dot(crdt.ReplicaID(i+1)*1000+1, int64(i)))
	}
	return []crdt.Field{{Path: path("a"), Cell: c}, {Path: path("b"), Cell: dead}}
}

func equalFields(a, b []crdt.Field) bool {
	return slices.EqualFunc(a, b, func(a, b crdt.Field) bool { return a.Path == b.Path && a.Cell.Equal(b.Cell) })
}

func TestCellsRoundTrip(t *testing.T) {
	for name, fields := range states() {
		t.Run(name, func(t *testing.T) {
			b := codec.AppendCells([]byte("before"), fields)
			parsed, err := codec.ParseCells(b[len("before"):])
			if err != nil {
				t.Fatal(err)
			}
			if !equalFields(parsed, fields) {
				t.Fatalf("parsed %v, want %v", parsed, fields)
			}
		})
	}
}

func TestDotsAreThoseOfTheCells(t *testing.T) {
	for name, fields := range states() {
		t.Run(name, func(t *testing.T) {
			var want []crdt.Dot
			uniform := len(fields) > 0
			for _, f := range fields {
				for _, e := range f.Cell.Live {
					want = append(want, e.Dot)
				}
				want = slices.AppendSeq(want, f.Cell.Observed.All())
				first := fields[0].Cell
				uniform = uniform && len(f.Cell.Live) == 1 && len(first.Live) == 1 && f.Cell.Observed.Len() == 0 &&
					f.Cell.Live[0].Dot == first.Live[0].Dot && f.Cell.Live[0].Stamp == first.Live[0].Stamp && f.Cell.Live[0].Author == first.Live[0].Author
			}
			slices.SortFunc(want, crdt.Dot.Compare)
			want = slices.Compact(want)

			b := codec.AppendCells(nil, fields)
			kept := dot(1, 1)
			got, err := codec.AppendDots([]crdt.Dot{kept}, b)
			if err != nil {
				t.Fatal(err)
			}
			if got[0] != kept || !slices.Equal(got[1:], want) {
				t.Errorf("dots %v, want %v", got, want)
			}
			d, ok := codec.Uniform(b)
			if ok != uniform || ok && d != want[0] {
				t.Errorf("uniform %v %v, want %v", d, ok, uniform)
			}
		})
	}
}

// TestLayoutBudget holds the size of the common document: one transaction, at most 4 bytes a field beyond names and values
// and 20 a document.
func TestLayoutBudget(t *testing.T) {
	documents := map[string][]crdt.Field{"one transaction": states()["one transaction"], "every kind of value": states()["every kind of value"]}
	var many []crdt.Field
	for i := range 1000 {
		many = append(many, crdt.Field{Path: path("group", fmt.Sprintf("member%04d", i), "name"), Cell: live(entry(dot(5, 5), crdt.IntValue(int64(i))))})
	}
	documents["a thousand nested fields"] = many
	for name, fields := range documents {
		t.Run(name, func(t *testing.T) {
			content := 0
			for _, f := range fields {
				for _, e := range f.Path.Path() {
					content += len(e)
				}
				v := f.Cell.Live[0].Value
				content += v.PackedSize() - 1
				if n := len(v.Text()); n > 0 {
					content -= v.PackedSize() - 1 - n // a string's length counts as overhead
				}
			}
			size := len(codec.AppendCells(nil, fields))
			if limit := content + 4*len(fields) + 20; size > limit {
				t.Errorf("%d bytes for %d of names and values in %d fields, at most %d", size, content, len(fields), limit)
			}
		})
	}
}

// TestBytesParseAsWrittenOrNotAtAll changes a good blob in every single bit and cuts it at every byte: what still parses must be
// exactly what its cells are written as.
func TestBytesParseAsWrittenOrNotAtAll(t *testing.T) {
	accepted := 0
	check := func(t *testing.T, b []byte) {
		fields, err := codec.ParseCells(b)
		if _, scanErr := codec.AppendDots(nil, b); err == nil && scanErr != nil {
			t.Fatalf("%x parses, but its dots do not: %v", b, scanErr)
		}
		codec.Uniform(b)
		if err != nil {
			checkError(t, b, err)
			return
		}
		accepted++
		if again := codec.AppendCells(nil, fields); !bytes.Equal(again, b) {
			t.Fatalf("%x parses, but is written as\n%x", b, again)
		}
	}
	for name, fields := range states() {
		t.Run(name, func(t *testing.T) {
			good := codec.AppendCells(nil, fields)
			for i := range min(len(good), 400) {
				if i > 0 {
					if _, err := codec.ParseCells(good[:i]); err == nil {
						t.Fatalf("cut at %d of %d it still parses", i, len(good))
					}
				}
				for bit := range 8 {
					b := slices.Clone(good)
					b[i] ^= 1 << bit
					check(t, b)
				}
			}
			check(t, append(slices.Clone(good), 0))
		})
	}
	if accepted == 0 {
		t.Error("no changed blob parsed: the test compares nothing")
	}
}

func checkError(t *testing.T, b []byte, err error) {
	t.Helper()
	if strings.Contains(err.Error(), "PANIC") {
		t.Fatalf("error of %x cannot be printed: %v", b, err)
	}
	var at *codec.Error
	if !errors.As(err, &at) || at.Offset < 0 || at.Offset > len(b) {
		t.Fatalf("error %v of %x does not say where", err, b)
	}
	for _, kind := range []error{codec.ErrFormat, crdt.ErrValue, crdt.ErrPath, crdt.ErrLimit} {
		if errors.Is(err, kind) {
			return
		}
	}
	t.Fatalf("error %v wraps none of the documented ones", err)
}

func TestParserRefuses(t *testing.T) {
	single := "\x13" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x01\x00\x00\x00\x00\x00\x00\x00"
	two := "\x10" + "\x02" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x00\x00\x00\x00\x00\x00\x00\x06"
	base := "\x01\x00\x00\x00\x00\x00\x00\x00"
	if _, err := codec.ParseCells([]byte(single + "\x01" + "\x00a\x00")); err != nil {
		t.Fatalf("the good blob: %v", err)
	}
	if _, err := codec.ParseCells([]byte(two + "\x00" + base + "\x02" + "\x00a\x00" + "\x10b\x00\x02\x00")); err != nil {
		t.Fatalf("the good blob of two replicas: %v", err)
	}
	for name, c := range map[string]struct {
		blob string
		want error
		text string
	}{
		"a newer version":                   {"\x23" + single[1:] + "\x01\x00a\x00", codec.ErrFormat, "version 2"},
		"an unknown flag":                   {"\x1b" + single[1:] + "\x01\x00a\x00", codec.ErrFormat, "flags"},
		"no cells":                          {single + "\x00", codec.ErrFormat, "0 cells"},
		"more cells than bytes":             {single + "\xff\xff\xff\xff\x7f\x00a\x00", codec.ErrFormat, "cells in"},
		"a count in two bytes":              {single + "\x81\x00\x00a\x00", codec.ErrFormat, "shortest"},
		"bytes after the end":               {single + "\x01\x00a\x00\x00", codec.ErrFormat, "after the last"},
		"replica zero":                      {"\x13" + strings.Repeat("\x00", 8) + base + "\x01\x00a\x00", codec.ErrFormat, "ascending"},
		"base of no time":                   {"\x13" + single[1:9] + strings.Repeat("\x00", 8) + "\x01\x00a\x00", codec.ErrFormat, "no time"},
		"a table of one written as several": {"\x11\x01" + single[1:9] + "\x00" + base + "\x01\x00a\x00", codec.ErrFormat, "not marked as single"},
		"a table beyond the bytes":          {"\x10\xff\xff\xff\x7f" + single[1:], codec.ErrFormat, "a table of"},
		"a table out of order":              {two[:2] + two[10:] + two[2:10] + "\x00" + base + "\x02\x00a\x00\x10b\x00\x02\x00", codec.ErrFormat, "ascending"},
		"a replica that is not used":        {two + "\x00" + base + "\x01\x00a\x00", codec.ErrFormat, "uniform"},
		"a replica not used, uniform":       {"\x11" + two[1:] + "\x00" + base + "\x01\x00a\x00", codec.ErrFormat, "not in a cell"},
		"an index beyond the table":         {two + "\x02" + base + "\x01\x00a\x00", codec.ErrFormat, "index"},
		"an index of an event beyond it":    {two + "\x00" + base + "\x02\x00a\x00\x10b\x00\x04\x00", codec.ErrFormat, "index"},
		"an event that goes without saying": {two + "\x00" + base + "\x02\x00a\x00\x10b\x00\x00\x00", codec.ErrFormat, "without saying"},
		"an event before the base":          {two + "\x00" + base + "\x02\x10a\x00\x02\x00\x00b\x00", codec.ErrFormat, "without saying"},
		"not uniform, not marked":           {"\x12" + single[1:] + "\x01\x00a\x00", codec.ErrFormat, "uniform"},
		"one path twice":                    {single + "\x02\x00a\x00\x00a\x00", codec.ErrFormat, "ascending"},
		"paths that descend":                {single + "\x02\x00b\x00\x00a\x00", codec.ErrFormat, "ascending"},
		"a prefix that is not repeated":     {single + "\x02\x80\x02a\x00b\x00\x80\x02a\x00c\x00", codec.ErrFormat, "where it could"},
		"a prefix of half an element":       {single + "\x02\x00aa\x00\x40\x01b\x00", codec.ErrFormat, "where it could"},
		"a prefix longer than the path":     {single + "\x02\x00a\x00\x40\x03b\x00", codec.ErrFormat, "repeats 3 bytes"},
		"a prefix before the first path":    {single + "\x01\x40\x02a\x00", codec.ErrFormat, "repeats 2 bytes"},
		"a prefix of no bytes":              {single + "\x02\x00a\x00\x40\x00b\x00", codec.ErrFormat, "outside"},
		"one element, counted":              {single + "\x01\x80\x01a\x00", codec.ErrFormat, "number of elements"},
		"65 elements":                       {single + "\x01\x80\x41" + strings.Repeat("a\x00", 65), codec.ErrFormat, "number of elements"},
		"a path over the limit":             {single + "\x01\x00" + strings.Repeat("a", crdt.MaxPathBytes) + "\x00", crdt.ErrLimit, "over the limit"},
		"a path that is not UTF-8":          {single + "\x01\x00\xff\x00", crdt.ErrPath, "UTF-8"},
		"a broken escape":                   {single + "\x01\x00\x01\x03\x00", crdt.ErrPath, "escape"},
		"an escape cut short":               {single + "\x01\x00\x01\x00", crdt.ErrPath, "field 0 (\"\\x01\\x00\"), byte 21"},
		"an unknown kind":                   {single + "\x01\x0fa\x00", crdt.ErrValue, "kind"},
		"a map as a value":                  {single + "\x01\x0aa\x00\x04\x01\x01a\x00", crdt.ErrValue, "map"},
		"a string beyond the bytes":         {single + "\x01\x05a\x00\xff\xff\xff\xff\x0fx", crdt.ErrValue, "left"},
		"an unknown form":                   {single + "\x01\x30a\x00", codec.ErrFormat, "first byte"},
		"an empty cell":                     {"\x12" + single[1:] + "\x01\x20a\x00\x00\x00", codec.ErrFormat, "empty"},
		"a plain cell in the long form":     {"\x12" + single[1:] + "\x01\x20a\x00\x01\x00\x00\x00\x00", codec.ErrFormat, "plain"},
		"a kind in the long form":           {"\x12" + single[1:] + "\x01\x21a\x00\x00\x01\x00\x00", codec.ErrFormat, "first byte"},
		"a base from nowhere":               {"\x12" + single[1:] + "\x01\x20a\x00\x00\x01\x00\x02", codec.ErrFormat, "base"},
		"siblings of one writer":            {"\x10" + two[1:] + "\x00" + base + "\x01\x20a\x00\x02\x00\x00\x00\x00\x02\x00\x00", crdt.ErrValue, "invariant 1"},
		"observed as old as the live entry": {"\x12" + single[1:] + "\x01\x20a\x00\x01\x00\x00\x00\x01\x00\x00", crdt.ErrValue, "invariant 3"},
		"observed dots of one replica":      {"\x10" + two[1:] + "\x00" + base + "\x01\x20a\x00\x00\x02\x00\x00\x00\x02", codec.ErrFormat, "sorted"},
		"more entries than replicas":        {"\x12" + single[1:] + "\x01\x20a\x00\xff\xff\xff\xff\x0f\x00\x00\x00", codec.ErrFormat, "of 1 replicas"},
		"a stamp that is the dot's":         {"\x17" + single[1:] + "\x00\x01\x00a\x00", codec.ErrFormat, "stamp"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := codec.ParseCells([]byte(c.blob))
			if err == nil {
				t.Fatal("it parses")
			}
			checkError(t, []byte(c.blob), err)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %q, want one with %q that wraps %q", err, c.text, c.want)
			}
		})
	}
}

func TestHostileBlobsCostLittleMemory(t *testing.T) {
	var small []crdt.Field // the smallest cells there are: null under names of two bytes or three
	for i := range 40_000 {
		small = append(small, crdt.Field{Path: path(string([]byte{byte(2 + i/125/125), byte(2 + i/125%125), byte(2 + i%125)})), Cell: live(entry(now3, crdt.Value{}))})
	}
	prefix := strings.Repeat("p", 125)
	var shared []crdt.Field
	for i := range 15_000 {
		shared = append(shared, crdt.Field{Path: path(prefix, string([]byte{byte(2 + i/125), byte(2 + i%125)})), Cell: live(entry(now3, crdt.Value{}))})
	}
	lie := []byte("\x13" + "\x00\x00\x00\x00\x00\x00\x00\x05" + "\x01\x00\x00\x00\x00\x00\x00\x00" + "\x80\x80\x10")
	lie = append(lie, make([]byte, 1<<20)...)
	for name, b := range map[string][]byte{
		"small cells": codec.AppendCells(nil, small), "long common paths": codec.AppendCells(nil, shared), "a count that lies": lie,
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := codec.ParseCells(b)
			runtime.ReadMemStats(&after)
			if spent := after.TotalAlloc - before.TotalAlloc; spent > uint64(len(b))*100 {
				t.Errorf("%d bytes for a blob of %d (error %v)", spent, len(b), err)
			} else {
				t.Logf("%d times the blob (error %v)", spent/uint64(len(b)), err)
			}
		})
	}
}

var now3 = dot(3, 0)

func TestCellsShareNoRoom(t *testing.T) {
	b := codec.AppendCells(nil, states()["a written field in a pruned document"])
	fields, err := codec.ParseCells(b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = 0xff // the caller may use its bytes again
	}
	want := fields[1].Cell.Live[0]
	fields[0].Cell.Live = append(fields[0].Cell.Live, entry(dot(99, 1), crdt.IntValue(1)))
	if fields[1].Cell.Live[0] != want || fields[1].Path != path("b") {
		t.Error("growing one cell or reusing the blob changed another cell")
	}
}

func randomFields(r *rand.Rand, n int) []crdt.Field {
	ids := []crdt.ReplicaID{3, 1 << 40, 1 << 63}
	seen := map[crdt.PathKey]bool{}
	var fields []crdt.Field
	for range n {
		var p crdt.Path
		for range r.IntN(4) {
			p = append(p, string(rune('a'+r.IntN(3))))
		}
		k := path(p...)
		if seen[k] {
			continue
		}
		seen[k] = true
		var c crdt.Cell
		for _, id := range ids {
			ev := crdt.EventAt(dot(id, r.Int64N(3)))
			if r.IntN(4) == 0 {
				ev.Author, ev.Stamp = 77, ev.Stamp-2
			}
			switch r.IntN(5) {
			case 0, 1:
				c.Write(ev, crdt.IntValue(r.Int64()))
			case 2:
				_ = c.Increment(ev, 2)
			case 3:
				c.Remove(ev)
			}
		}
		if !c.IsEmpty() {
			fields = append(fields, crdt.Field{Path: k, Cell: c})
		}
	}
	slices.SortFunc(fields, func(a, b crdt.Field) int { return strings.Compare(string(a.Path), string(b.Path)) })
	return fields
}

func TestRandomCellsRoundTrip(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		fields := randomFields(r, 1+r.IntN(12))
		b := codec.AppendCells(nil, fields)
		parsed, err := codec.ParseCells(b)
		if err != nil || !equalFields(parsed, fields) {
			t.Fatalf("%v is parsed as %v, error %v", fields, parsed, err)
		}
	}
}

// TestDocumentedExample holds the bytes that the package's documentation shows.
func TestDocumentedExample(t *testing.T) {
	d := crdt.Dot{Replica: 5, Time: 0x0102030405060708}
	got := codec.AppendCells(nil, []crdt.Field{
		{Path: path("n"), Cell: live(entry(d, crdt.IntValue(7)))},
		{Path: path("name"), Cell: live(entry(d, crdt.StringValue("Oslo")))},
	})
	want := "\x13\x00\x00\x00\x00\x00\x00\x00\x05\x01\x02\x03\x04\x05\x06\x07\x08\x02" + "\x03n\x00\x0e" + "\x05name\x00\x04Oslo"
	if string(got) != want || len(want) != 33 {
		t.Errorf("%d bytes %x, want %x", len(got), got, want)
	}
}
