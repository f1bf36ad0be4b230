package codec_test

import (
	"bytes"
	"testing"

	"github.com/anabranch-db/anabranch/crdt/codec"
)

func FuzzParseCells(f *testing.F) {
	for _, fields := range states() {
		f.Add(codec.AppendCells(nil, fields))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := codec.ParseCells(b)
		dots, scanErr := codec.AppendDots(nil, b)
		d, uniform := codec.Uniform(b)
		if err != nil {
			checkError(t, b, err)
			return
		}
		if again := codec.AppendCells(nil, fields); !bytes.Equal(again, b) {
			t.Fatalf("%x parses, but is written as\n%x", b, again)
		}
		if scanErr != nil {
			t.Fatalf("%x parses, but its dots do not: %v", b, scanErr)
		}
		if uniform && (len(dots) != 1 || dots[0] != d) {
			t.Fatalf("uniform of %v, but the dots are %v", d, dots)
		}
		for _, field := range fields {
			if err := field.Cell.Check(); err != nil {
				t.Fatal(err)
			}
			if err := field.Path.Check(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseVector(f *testing.F) {
	for _, vv := range vectors() {
		f.Add(codec.AppendVector(nil, vv))
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkVector(t, b) })
}
