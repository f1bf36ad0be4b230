package codec_test

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

func vectors() map[string]crdt.VersionVector {
	var many crdt.VersionVector
	for i := range 300 {
		many.Advance(dot(crdt.ReplicaID(i+1)<<32, int64(i*i)))
	}
	return map[string]crdt.VersionVector{
		"empty":         {},
		"one":           crdt.NewVersionVector(dot(7, 0)),
		"three":         crdt.NewVersionVector(dot(7, 0), dot(8, -1000), dot(math.MaxUint64, 5)),
		"times far off": crdt.NewVersionVector(crdt.Dot{Replica: 1, Time: 1}, crdt.Dot{Replica: 2, Time: hlc.Max}),
		"three hundred": many,
	}
}

func TestVectorRoundTrip(t *testing.T) {
	for name, vv := range vectors() {
		t.Run(name, func(t *testing.T) {
			b := codec.AppendVector([]byte("x"), vv)[1:]
			parsed, rest, err := codec.ParseVector(append(slices.Clone(b), "rest"...))
			if err != nil || !parsed.Equal(vv) || string(rest) != "rest" {
				t.Fatalf("parsed %v, rest %q, error %v; want %v", parsed, rest, err, vv)
			}
			for i := range b {
				if _, _, err := codec.ParseVector(b[:i]); !errors.Is(err, codec.ErrFormat) {
					t.Fatalf("cut at %d: %v", i, err)
				}
				for bit := range 8 {
					changed := slices.Clone(b)
					changed[i] ^= 1 << bit
					checkVector(t, changed)
				}
			}
		})
	}
}

// checkVector checks that what parses is what the vector is written as.
func checkVector(t *testing.T, b []byte) {
	vv, rest, err := codec.ParseVector(b)
	if err != nil {
		var at *codec.VectorError
		if !errors.As(err, &at) || !errors.Is(err, codec.ErrFormat) && !errors.Is(err, crdt.ErrLimit) {
			t.Fatalf("%x: error %v is none of the documented ones", b, err)
		}
		return
	}
	if again := codec.AppendVector(nil, vv); !bytes.Equal(again, b[:len(b)-len(rest)]) {
		t.Fatalf("%x parses, but is written as %x", b[:len(b)-len(rest)], again)
	}
}

func TestVectorParserRefuses(t *testing.T) {
	top := "\x01\x00\x00\x00\x00\x00\x00\x00"
	one, two := "\x00\x00\x00\x00\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x00\x00\x02"
	if _, _, err := codec.ParseVector([]byte("\x02" + top + one + "\x00" + two + "\x03")); err != nil {
		t.Fatalf("the good vector: %v", err)
	}
	for name, c := range map[string]struct {
		b    string
		want error
		text string
	}{
		"nothing":                    {"", codec.ErrFormat, "short"},
		"100,001 replicas":           {"\xa1\x8d\x06" + top, crdt.ErrLimit, "100001"},
		"2^64-1 replicas":            {strings.Repeat("\xff", 9) + "\x01" + top, crdt.ErrLimit, "replicas"},
		"100,000 in 8 bytes":         {"\xa0\x8d\x06" + top, codec.ErrFormat, "short"},
		"replica zero":               {"\x01" + top + "\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00", codec.ErrFormat, "ascending"},
		"replicas out of order":      {"\x02" + top + two + "\x00" + one + "\x00", codec.ErrFormat, "ascending"},
		"a replica twice":            {"\x02" + top + one + "\x00" + one + "\x00", codec.ErrFormat, "ascending"},
		"nobody has the greatest":    {"\x02" + top + one + "\x01" + two + "\x01", codec.ErrFormat, "greatest"},
		"a time of zero":             {"\x02" + "\x00\x00\x00\x00\x00\x00\x00\x01" + one + "\x00" + two + "\x01", codec.ErrFormat, "zero"},
		"a greatest time of zero":    {"\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + one + "\x00", codec.ErrFormat, "zero"},
		"a difference in two bytes":  {"\x02" + top + one + "\x80\x00" + two + "\x00", codec.ErrFormat, "shortest"},
		"a difference below nothing": {"\x02" + top + one + "\x00" + two + strings.Repeat("\xff", 9) + "\x01", codec.ErrFormat, "zero"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := codec.ParseVector([]byte(c.b))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("error %v, want one with %q that wraps %q", err, c.text, c.want)
			}
		})
	}
}

func TestVectorOfTheGreatestSizeParses(t *testing.T) {
	dots := make([]crdt.Dot, codec.MaxVectorEntries)
	for i := range dots {
		dots[i] = dot(crdt.ReplicaID(i+1), int64(i))
	}
	vv, ok := crdt.SortedVector(dots)
	if !ok {
		t.Fatal("the vector is not sorted")
	}
	parsed, rest, err := codec.ParseVector(codec.AppendVector(nil, vv))
	if err != nil || len(rest) > 0 || !parsed.Equal(vv) {
		t.Fatalf("error %v, %d bytes left", err, len(rest))
	}
}
