package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func frameWith(t testing.TB, size int) []byte {
	t.Helper()
	b, err := Marshal(nil, &protocol.Delta{Delta: crdt.Delta{Origin: 1, Documents: []crdt.DocumentDelta{{Key: "k", Cells: bytes.Repeat([]byte{byte(size)}, size)}}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReaderCutsFrames(t *testing.T) {
	var all []byte
	var frames [][]byte
	for _, size := range []int{0, 10, 1 << 20, 5, 100_000, 3 << 20, 1, 1, 40_000, 0} {
		f := frameWith(t, size)
		frames = append(frames, f)
		all = append(all, f...)
	}
	for name, r := range map[string]io.Reader{
		"all at once":       bytes.NewReader(all),
		"byte by byte":      iotest.OneByteReader(bytes.NewReader(all)),
		"half of each read": iotest.HalfReader(bytes.NewReader(all)),
		"error with data":   iotest.DataErrReader(bytes.NewReader(all)),
	} {
		reader := NewReader(r, 0)
		got := make([][]byte, len(frames))
		for i := range frames {
			var err error
			if got[i], err = reader.ReadFrame(); err != nil {
				t.Fatalf("%s: frame %d: %v", name, i, err)
			}
		}
		for i, want := range frames { // only now: they are the caller's
			if !bytes.Equal(got[i], want) {
				t.Fatalf("%s: frame %d: %d other bytes, want %d", name, i, len(got[i]), len(want))
			}
		}
		for range 2 {
			if _, err := reader.ReadFrame(); !errors.Is(err, io.EOF) {
				t.Errorf("%s: after the last frame: %v", name, err)
			}
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	whole := frameWith(t, 100)
	for _, c := range []struct {
		name  string
		bytes []byte
		limit int
		want  error
	}{
		{"within the length", whole[:3], 0, ErrTruncated},
		{"within the body", whole[:50], 0, ErrTruncated},
		{"no type", []byte{0, 0, 0, 0, 1}, 0, ErrTruncated},
		{"one byte over its limit", whole, len(whole) - 1, ErrTooLarge},
		{"over the limit of all frames", binary.BigEndian.AppendUint32(nil, MaxFrameBytes-headerBytes+1), 1 << 30, ErrTooLarge},
		{"2^32-1", binary.BigEndian.AppendUint32(nil, math.MaxUint32), 0, ErrTooLarge},
	} {
		// After the bytes the stream stays silent: a refusal must not wait for more.
		var typed *FrameError
		_, err := NewReader(io.MultiReader(bytes.NewReader(c.bytes), silent(errors.Is(c.want, ErrTruncated))), c.limit).ReadFrame()
		if !errors.Is(err, c.want) || !errors.As(err, &typed) {
			t.Errorf("%s: %v, want a *FrameError of %v", c.name, err, c.want)
		}
	}
	if _, err := NewReader(bytes.NewReader(whole), len(whole)).ReadFrame(); err != nil {
		t.Errorf("a frame at the limit: %v", err)
	}
	broken := errors.New("cable pulled")
	if _, err := NewReader(iotest.ErrReader(broken), 0).ReadFrame(); !errors.Is(err, broken) {
		t.Errorf("an error of the stream: %v", err)
	}
}

// silent ends, or fails the test of whoever reads on.
func silent(ends bool) io.Reader {
	if ends {
		return bytes.NewReader(nil)
	}
	return iotest.ErrReader(errors.New("read on after the refusal"))
}

func TestReaderBufferGrowsAsBytesArrive(t *testing.T) {
	header := append(binary.BigEndian.AppendUint32(nil, MaxFrameBytes-headerBytes), byte(TypeDelta))
	r := NewReader(io.MultiReader(bytes.NewReader(header), bytes.NewReader(make([]byte, 100_000))), 0)
	if _, err := r.ReadFrame(); !errors.Is(err, ErrTruncated) {
		t.Fatalf("ReadFrame: %v", err)
	}
	if cap(r.buf) > 256<<10 {
		t.Errorf("a buffer of %d bytes for the 100,005 that came", cap(r.buf))
	}
}

func TestReaderAnnouncesLargeFrames(t *testing.T) {
	var all []byte
	for _, size := range []int{10, 3 << 20, 1 << 20, 100, 4 << 20} {
		all = append(all, frameWith(t, size)...)
	}
	arrived := bytes.NewReader(all)
	r := NewReader(iotest.HalfReader(arrived), 0)
	told := 0
	r.BeforeLarge(2<<20, func() {
		told++
		if n := len(r.buf) - r.pos; n < keepBuffer || n > 2<<20 {
			t.Errorf("announced when %d bytes have arrived", n)
		}
	})
	for i, want := range []int{0, 1, 1, 1, 2} {
		if _, err := r.ReadFrame(); err != nil || told != want {
			t.Errorf("frame %d: %v; %d were announced, want %d", i, err, told, want)
		}
	}
}

func TestReaderGivesUpALargeBuffer(t *testing.T) {
	r := NewReader(io.MultiReader(bytes.NewReader(frameWith(t, 4<<20)), bytes.NewReader(frameWith(t, 10))), 0)
	for range 2 {
		if _, err := r.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	if cap(r.buf) > keepBuffer {
		t.Errorf("a buffer of %d bytes after the large frame has gone", cap(r.buf))
	}
}
