package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func TestErrorAtEachTruncation(t *testing.T) {
	for _, s := range samples() {
		b := must(t, s)
		for n := range b {
			if _, err := parse(b[:n]); err == nil {
				t.Errorf("%s: no error after %d of %d bytes", s.name, n, len(b))
			}
			if n <= headerBytes {
				continue
			}
			// The same with a length that fits, so that the body itself is short.
			if _, err := parse(seal(append([]byte(nil), b[:n]...))); err == nil {
				t.Errorf("%s: no error with a body of %d bytes of %d", s.name, n, len(b))
			}
		}
	}
}

// TestEveryBitFlip checks that a damaged frame gives a typed error, or a message that can itself be sent.
func TestEveryBitFlip(t *testing.T) {
	for _, s := range samples() {
		b := must(t, s)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			v, err := parse(b)
			var typed *FrameError
			switch {
			case err != nil && !errors.As(err, &typed):
				t.Errorf("%s, bit %d: %v is no *FrameError", s.name, bit, err)
			case err == nil && v != nil:
				if _, err := write(v); err != nil {
					t.Errorf("%s, bit %d: parsed, but cannot be written: %v", s.name, bit, err)
				}
			}
			b[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// Pieces of msgpack, for bodies that no encoder makes.

func arr(n int) []byte { return []byte{0xdc, byte(n >> 8), byte(n)} }

func u(n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{0xcf}, n) }

func bin(b ...byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xc6}, uint32(len(b))), b...)
}

func str(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0xdb}, uint32(len(s))), s...)
}

func dots(of ...uint64) []byte {
	var b []byte
	for _, n := range of {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return bin(b...)
}

func frameOf(t Type, parts ...[]byte) []byte {
	b := []byte{0, 0, 0, 0, byte(t)}
	for _, p := range parts {
		b = append(b, p...)
	}
	return seal(b)
}

func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b, uint32(len(b)-headerBytes))
	return b
}

func header(length uint32) []byte {
	return append(binary.BigEndian.AppendUint32(nil, length), byte(TypeAck))
}

func delta(documents ...[]byte) []byte {
	parts := append([][]byte{arr(6), u(1), u(1), u(1), u(0), dots()}, documents...)
	return frameOf(TypeDelta, parts...)
}

func TestBadFrames(t *testing.T) {
	long := strings.Repeat("k", crdt.MaxKeyBytes+1)
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"nothing", nil, ErrTruncated},
		{"a length alone", []byte{0, 0, 0, 1}, ErrTruncated},
		{"length 0", header(0), ErrTrailing},
		{"length one too small", header(0), ErrTrailing},
		{"length one too large", header(2), ErrTruncated},
		{"length at the limit", header(MaxFrameBytes - headerBytes), ErrTruncated},
		{"length over the limit", header(MaxFrameBytes - headerBytes + 1), ErrTooLarge},
		{"length 2^31", header(1 << 31), ErrTooLarge},
		{"length 2^32-1", header(math.MaxUint32), ErrTooLarge},
		{"no body", frameOf(TypeAck), ErrTruncated},
		{"body is no array", frameOf(TypeAck, u(1)), ErrKind},
		{"body is a map", frameOf(TypeAck, []byte{0x81}, u(1), dots()), ErrKind},
		{"body without elements", frameOf(TypeAck, arr(0)), ErrTruncated},
		{"bytes after the body", frameOf(TypeAck, arr(1), dots(), []byte{0}), ErrTrailing},
		{"a byte that msgpack never uses", frameOf(TypeAck, arr(1), []byte{0xc1}), ErrKind},
		{"bin of 2^32-1 bytes", frameOf(TypeAck, arr(1), []byte{0xc6, 0xff, 0xff, 0xff, 0xff}), ErrTruncated},
		{"array of 2^32-1 elements", frameOf(TypeAck, []byte{0xdd, 0xff, 0xff, 0xff, 0xff}), ErrTruncated},
		{"map of 2^32-1 elements", frameOf(TypeAck, arr(2), dots(), []byte{0xdf, 0xff, 0xff, 0xff, 0xff}), ErrTruncated},
		{"ext of 2^32-1 bytes", frameOf(TypeAck, arr(2), dots(), []byte{0xc9, 0xff, 0xff, 0xff, 0xff, 0}), ErrTruncated},
		{"nesting over the limit", frameOf(TypeAck, arr(2), dots(), deep(maxBodyDepth)), ErrTooLarge},
		{"four million nested arrays", frameOf(TypeAck, arr(2), dots(), deep(4<<20)), ErrTooLarge},
		{"a million elements", frameOf(TypeAck, arr(2), dots(), []byte{0xdd, 0, 0x10, 0, 0}, make([]byte, 1<<20)), ErrTooLarge},
		{"Hello in a session", frameOf(TypeHello, arr(0)), ErrUnexpected},
		{"SpaceOpen in a session", frameOf(TypeSpaceOpen, arr(0)), ErrUnexpected},

		{"vector as an array", frameOf(TypeAck, arr(1), arr(0)), ErrKind},
		{"vector as a string", frameOf(TypeAck, arr(1), str("")), ErrKind},
		{"vector as nil", frameOf(TypeAck, arr(1), []byte{0xc0}), ErrKind},
		{"vector of half an entry", frameOf(TypeAck, arr(1), bin(make([]byte, 8)...)), ErrTruncated},
		{"vector with replica 0", frameOf(TypeAck, arr(1), dots(0, 1)), ErrValue},
		{"vector with time 0", frameOf(TypeAck, arr(1), dots(1, 0)), ErrValue},
		{"vector with one replica twice", frameOf(TypeAck, arr(1), dots(1, 1, 1, 2)), ErrOrder},
		{"vector out of order", frameOf(TypeAck, arr(1), dots(2, 1, 1, 1)), ErrOrder},
		{"open with replica 0", frameOf(TypeAck, arr(2), dots(), dots(0, 1)), ErrOrder},
		{"open with one replica twice", frameOf(TypeAck, arr(2), dots(), dots(1, 1, 1, 2)), ErrOrder},
		{"open of half an entry", frameOf(TypeVectors, arr(5), u(1), dots(), dots(), dots(), bin(make([]byte, 8)...)), ErrTruncated},
		{"open with too many entries", frameOf(TypeAck, arr(2), dots(), bin(make([]byte, dotBytes*(MaxVectorEntries+1))...)), ErrTooLarge},
		{"others without a newest", frameOf(TypeAck, arr(3), dots(), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 1)), ErrValue},
		{"others beside two", frameOf(TypeAck, arr(3), dots(1, 9, 2, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 3, 1)), ErrValue},
		{"others that are no bytes", frameOf(TypeAck, arr(3), dots(1, 9), dots(), u(1)), ErrKind},
		{"others: half a replica", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2)), ErrTruncated},
		{"others: half an age", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 0x80)), ErrTruncated},
		{"others: an age with a needless byte", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 0x81, 0)), ErrValue},
		{"others: an age over 64 bits", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2)), ErrValue},
		{"others: older than time", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 9)), ErrValue},
		{"others: replica 0", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 0, 1)), ErrValue},
		{"others: the newest again", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 1, 1)), ErrOrder},
		{"others: one twice", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 2, 1)), ErrOrder},
		{"others: as new, and a smaller replica", frameOf(TypeAck, arr(3), dots(2, 9), dots(), bin(0, 0, 0, 0, 0, 0, 0, 1, 0)), ErrOrder},
		{"others: too many", frameOf(TypeAck, arr(3), dots(1, 9), dots(), bin(make([]byte, maxOtherBytes*MaxVectorEntries)...)), ErrTooLarge},
		{"vector with too many entries", frameOf(TypeAck, arr(1), bin(make([]byte, dotBytes*(MaxVectorEntries+1))...)), ErrTooLarge},

		{"delta of no replica", frameOf(TypeDelta, arr(6), u(0), u(1), u(1), u(0), dots(), arr(0)), ErrValue},
		{"delta beyond the greatest time", frameOf(TypeDelta, arr(6), u(1), u(math.MaxUint64), u(1), u(0), dots(), arr(0)), ErrValue},
		{"delta from a negative time", frameOf(TypeDelta, arr(6), u(1), []byte{0xff}, u(1), u(0), dots(), arr(0)), ErrKind},
		{"delta from NaN", frameOf(TypeDelta, arr(6), u(1), []byte{0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 1}, u(1), u(0), dots(), arr(0)), ErrKind},
		{"delta from a signed integer", frameOf(TypeDelta, arr(6), u(1), []byte{0xd3, 0, 0, 0, 0, 0, 0, 0, 1}, u(1), u(0), dots(), arr(0)), ErrKind},
		{"delta of five elements", frameOf(TypeDelta, arr(5), u(1), u(1), u(1), u(0), dots()), ErrTruncated},
		{"delta pruned up to a negative time", frameOf(TypeDelta, arr(6), u(1), u(1), u(1), []byte{0xff}, dots(), arr(0)), ErrKind},
		{"key without cells", delta(arr(1), str("a")), ErrTruncated},
		{"empty key", delta(arr(2), str(""), bin()), crdt.ErrKey},
		{"key over the limit", delta(arr(2), str(long), bin()), ErrTooLarge},
		{"key that is not UTF-8", delta(arr(2), str("a\xff"), bin()), ErrUTF8},
		{"key with a lone surrogate", delta(arr(2), str("\xed\xa0\x80"), bin()), ErrUTF8},
		{"key as bytes", delta(arr(2), bin('a'), bin()), ErrKind},
		{"cells as a string", delta(arr(2), str("a"), str("")), ErrKind},
		{"one key twice", delta(arr(4), str("a"), bin(), str("a"), bin()), ErrOrder},
		{"keys out of order", delta(arr(4), str("b"), bin(), str("a"), bin()), ErrOrder},
		{"too many documents", delta(arr(2*MaxDocuments+2), make([]byte, 2*MaxDocuments+2)), ErrTooLarge},

		{"level with a short hash", frameOf(TypeLevel, arr(3), bin(1), bin(make([]byte, 16)...), []byte{0xc2}), ErrTruncated},
		{"level with a long digest", frameOf(TypeLevel, arr(3), bin(make([]byte, 16)...), bin(make([]byte, 17)...), []byte{0xc2}), ErrTooLarge},
		{"level with a number for a bool", frameOf(TypeLevel, arr(3), bin(make([]byte, 16)...), bin(make([]byte, 16)...), u(1)), ErrKind},
		{"refusal without a code", frameOf(TypeRefusal, arr(5), u(0), u(1), u(1), u(1), str("")), ErrValue},
		{"grants over the limit", frameOf(TypeGrants, arr(2), bin(make([]byte, 32)...), bin(make([]byte, protocol.MaxGrantsBytes+1)...)), ErrTooLarge},
		{"refusal with code 256", frameOf(TypeRefusal, arr(5), u(256), u(1), u(1), u(1), str("")), ErrValue},
		{"refusal with a text over the limit", frameOf(TypeRefusal, arr(5), u(1), u(1), u(1), u(1), str(strings.Repeat("x", protocol.MaxRefusalText+1))), ErrTooLarge},

		{"opening with too many entries", frameOf(TypeOpening, arr(5), u(1), bin(make([]byte, 16)...), u(MaxVectorEntries+1), bin(make([]byte, 16)...), u(0)), ErrTooLarge},
		{"opening with a short hash", frameOf(TypeOpening, arr(5), u(1), bin(1), u(1), bin(make([]byte, 16)...), u(0)), ErrTruncated},
		{"branch without entries", frameOf(TypeBranches, arr(1), arr(2), u(0), u(0)), ErrTruncated},
		{"place with bits beyond its prefix", frameOf(TypeBranches, arr(1), arr(3), u(1), u(1), dots()), ErrValue},
		{"place too deep", frameOf(TypeBranches, arr(1), arr(3), u(0), u(13), dots()), ErrValue},
		{"place of depth 256", frameOf(TypeBranches, arr(1), arr(3), u(0), u(256), dots()), ErrValue},
		{"too few hashes", frameOf(TypeBranches, arr(1), arr(3), u(0), u(0), arr(1), bin(make([]byte, 186)...)), ErrTruncated},
		{"hashes in an empty array", frameOf(TypeBranches, arr(1), arr(3), u(0), u(0), arr(0)), ErrTruncated},
		{"entries out of order", frameOf(TypeBranches, arr(1), arr(3), u(0), u(0), dots(2, 1, 1, 1)), ErrOrder},
		{"too many branches", frameOf(TypeBranches, arr(1), arr(3*MaxBranches+3), make([]byte, 3*MaxBranches+3)), ErrTooLarge},

		{"piece that ends where it begins", frameOf(TypeSnapshotPiece, arr(8), u(1), bin('a'), bin(), bin('a'), bin(), arr(0), []byte{0xc2}, dots()), ErrOrder},
		{"piece that ends before it begins", frameOf(TypeSnapshotPiece, arr(8), u(1), bin('b'), bin(), bin('a'), bin(), arr(0), []byte{0xc2}, dots()), ErrOrder},
		{"piece from a path without a key", frameOf(TypeSnapshotPiece, arr(6), u(1), bin(), bin('a', 0), bin('a'), bin(), arr(0)), ErrValue},
		{"piece without documents", frameOf(TypeSnapshotPiece, arr(5), u(1), bin(), bin(), bin(), bin()), ErrTruncated},
		{"request from a key over the limit", frameOf(TypeSnapshotRequest, arr(3), bin([]byte(long+"k")...), bin(), dots()), ErrTooLarge},
		{"request that knows no range", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin(), arr(0)), ErrValue},
		{"request that knows half a range", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin(), arr(1), bin('a')), ErrTruncated},
		{"request that knows too many ranges", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin(), []byte{0xdc, 0x10, 0x02}, make([]byte, 4098)), ErrTooLarge},
		{"request that knows a short fingerprint", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin(), arr(2), bin('a'), bin(1, 2)), ErrTruncated},
		{"request that knows a range backwards", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin('b'), arr(2), bin('a'), bin()), ErrOrder},
		{"request that knows beyond the end", frameOf(TypeSnapshotRequest, arr(7), bin(), bin(), dots(), u(1), dots(), bin('b'), arr(4), bin(), bin(), bin('c'), bin()), ErrOrder},
		{"request that knows from before where it asks", frameOf(TypeSnapshotRequest, arr(7), bin('c'), bin(), dots(), u(1), dots(), bin('b'), arr(2), bin(), bin()), ErrOrder},
		{"request that knows, without ranges", frameOf(TypeSnapshotRequest, arr(6), bin(), bin(), dots(), u(1), dots(), bin()), ErrTruncated},
		{"equal piece with a short fingerprint", frameOf(TypeSnapshotPiece, arr(9), u(1), bin(), bin(), bin(), bin(), arr(0), []byte{0xc2}, dots(), bin(1, 2)), ErrTruncated},
		{"equal piece that is partial", frameOf(TypeSnapshotPiece, arr(9), u(1), bin(), bin(), bin(), bin(), arr(0), []byte{0xc3}, dots(), bin(1, 2, 3, 4, 5, 6, 7, 8)), ErrValue},
		{"equal piece from within a document", frameOf(TypeSnapshotPiece, arr(9), u(1), bin('a'), bin(1), bin(), bin(), arr(0), []byte{0xc2}, dots(), bin(1, 2, 3, 4, 5, 6, 7, 8)), ErrValue},
		{"request of a vector out of order", frameOf(TypeSnapshotRequest, arr(3), bin(), bin(), dots(2, 1, 1, 1)), ErrOrder},
		{"snapshot without a horizon", frameOf(TypeSnapshotBegin, arr(5), u(1), bin(), bin(), dots(), dots()), ErrTruncated},
		{"snapshot of minus one documents", frameOf(TypeSnapshotBegin, arr(8), u(1), bin(), bin(), dots(), dots(), dots(), []byte{0xff}, u(1)), ErrKind},
		{"offer of half an entry", frameOf(TypeSnapshotOffer, arr(1), bin(make([]byte, 8)...)), ErrTruncated},

		{"position of a path and no key", frameOf(TypeRangeDigests, arr(2), u(1), arr(5), bin(), bin(1), bin(), bin(), bin()), ErrValue},
		{"position over the limit", frameOf(TypeRangeDigests, arr(2), u(1), arr(5), bin([]byte(long+"k")...), bin(), bin(), bin(), bin()), ErrTooLarge},
		{"fingerprint of seven bytes", frameOf(TypeRangeDigests, arr(2), u(1), arr(5), bin(), bin(), bin(), bin(), bin(make([]byte, 7)...)), ErrTruncated},
		{"part of four elements", frameOf(TypeRangeDigests, arr(2), u(1), arr(4), bin(), bin(), bin(), bin()), ErrTruncated},
		{"too many parts", frameOf(TypeRangeDigests, arr(2), u(1), arr(5*protocol.MaxRangeParts+5), make([]byte, 5*protocol.MaxRangeParts+5)), ErrTooLarge},
		{"difference without its pieces", frameOf(TypeRangeAnswer, arr(5), u(1), []byte{0xc2}, str(""), dots(), arr(1), u(1)), ErrTruncated},
		{"difference of a part that no message has", frameOf(TypeRangeAnswer, arr(5), u(1), []byte{0xc2}, str(""), dots(), arr(2), u(1024), u(1)), ErrValue},
		{"too many spans", frameOf(TypeRangeCells, arr(6), u(1), []byte{0xc2}, u(0), arr(4*protocol.MaxRangeSpans+4), make([]byte, 4*protocol.MaxRangeSpans+6)), ErrTooLarge},
		{"span cut short", frameOf(TypeRangeCells, arr(6), u(1), []byte{0xc2}, u(0), arr(3), bin('a'), bin(), bin(), dots(), arr(0)), ErrTruncated},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := Unmarshal(c.frame)
			var typed *FrameError
			if !errors.As(err, &typed) || !errors.Is(err, c.want) || m != nil {
				t.Errorf("%v, %v, want a *FrameError of %v", m, err, c.want)
			}
		})
	}
}

// deep is n arrays, each within the one before.
func deep(n int) []byte { return append([]byte(strings.Repeat("\x91", n)), 0) }

func TestBadHello(t *testing.T) {
	good := [][]byte{arr(7), u(1), u(0), u(5), arr(0), arr(0), str("a"), str("1")}
	with := func(i int, part []byte) []byte {
		parts := append([][]byte(nil), good...)
		parts[i] = part
		return frameOf(TypeHello, parts...)
	}
	many := func(n int, each []byte) []byte {
		return append(arr(n), []byte(strings.Repeat(string(each), n))...)
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"another type", frameOf(TypeAck, arr(1), dots()), ErrUnexpected},
		{"major version 2^16", with(1, u(1<<16)), ErrValue},
		{"no minor version", frameOf(TypeHello, arr(1), u(1)), ErrTruncated},
		{"clock beyond what a time can hold", with(3, u(1<<48)), ErrValue},
		{"too many features", with(4, many(MaxFeatures+1, str("f"))), ErrTooLarge},
		{"feature too long", with(4, many(1, str(strings.Repeat("f", MaxFeatureBytes+1)))), ErrTooLarge},
		{"too many addresses", with(5, many(MaxAddrs+1, str("a"))), ErrTooLarge},
		{"address too long", with(5, many(1, str(strings.Repeat("a", MaxAddrBytes+1)))), ErrTooLarge},
		{"software too long", with(6, str(strings.Repeat("s", MaxSoftwareBytes+1))), ErrTooLarge},
		{"software is not UTF-8", with(6, str("\xff")), ErrUTF8},
	} {
		if _, err := ParseHello(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	h, err := ParseHello(with(1, u(2)))
	if err != nil || h.Major != 2 {
		t.Errorf("Hello of another major version: %+v, %v", h, err)
	}
	// All that another major version keeps are the first two elements.
	if h, err = ParseHello(frameOf(TypeHello, arr(3), u(9), u(4), str("different"))); err != nil || h.Major != 9 || h.Minor != 4 {
		t.Errorf("Hello of a different shape: %+v, %v", h, err)
	}
}

func TestBadSpaceOpen(t *testing.T) {
	for name, c := range map[string]struct {
		frame []byte
		want  error
	}{
		"another type":   {frameOf(TypeAck, arr(1), dots()), ErrUnexpected},
		"empty name":     {frameOf(TypeSpaceOpen, arr(1), str("")), ErrValue},
		"name too long":  {frameOf(TypeSpaceOpen, arr(1), str(strings.Repeat("x", MaxSpaceBytes+1))), ErrTooLarge},
		"name not UTF-8": {frameOf(TypeSpaceOpen, arr(1), str("\xc3")), ErrUTF8},
		"name as bytes":  {frameOf(TypeSpaceOpen, arr(1), bin('x')), ErrKind},
	} {
		if _, err := ParseSpaceOpen(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestNewerMinorVersion checks that what a newer minor version adds is skipped: elements of any kind, and frame types.
func TestNewerMinorVersion(t *testing.T) {
	extra := [][]byte{{0xc0}, {0xcb, 1, 2, 3, 4, 5, 6, 7, 8}, {0x81, 0xa1, 'k', 0x93, 1, 2, 3}, {0xd8, 1, 15: 0, 16: 0, 17: 0}, {0xc7, 2, 9, 8, 7}}
	last := map[Type][][]byte{ // elements that are left out when they say nothing
		TypeVectors: {3: dots(), 4: dots()}, TypeOpening: {5: dots(), 6: dots()}, TypeAck: {1: dots(), 2: bin()},
		TypeSnapshotRequest: {3: u(0), 4: dots(), 5: bin(), 6: arr(0)}, TypeSnapshotBegin: {8: u(0)}, TypeSnapshotPiece: {8: bin()},
	}
	for _, s := range samples() {
		b := must(t, s)
		body := b[headerBytes+1:]
		if body[0]&0xf0 != 0x90 {
			t.Fatalf("%s: body begins with %#x", s.name, body[0])
		}
		n := int(body[0] & 0x0f)
		parts := [][]byte{nil, body[1:]}
		if full := last[Type(b[headerBytes])]; len(full) > n {
			parts = append(parts, full[n:]...)
			n = len(full)
		}
		parts[0] = arr(n + len(extra))
		parts = append(parts, extra...)
		v, err := parse(frameOf(Type(b[headerBytes]), parts...))
		if err != nil || !same(v, s.value) {
			t.Errorf("%s with more elements: %+v, %v", s.name, v, err)
		}
	}
	for _, unknown := range [][]byte{frameOf(0x7f), frameOf(0xff, []byte("anything")), frameOf(0)} {
		if m, err := Unmarshal(unknown); m != nil || err != nil {
			t.Errorf("unknown type %#x: %v, %v, want nil, nil", unknown[headerBytes], m, err)
		}
	}
}

func TestMarshalKeepsTheLimits(t *testing.T) {
	doc := func(key string, cells int) crdt.DocumentDelta {
		return crdt.DocumentDelta{Key: key, Cells: make([]byte, cells)}
	}
	with := func(docs ...crdt.DocumentDelta) *protocol.Delta {
		return &protocol.Delta{Delta: crdt.Delta{Origin: 1, From: 1, To: 2, Documents: docs}}
	}
	tooMany := make([]crdt.DocumentDelta, MaxDocuments+1)
	for i := range tooMany {
		tooMany[i].Key = fmt.Sprintf("%08d", i)
	}
	for _, c := range []struct {
		name string
		m    protocol.Message
		want error
	}{
		{"no origin", &protocol.Delta{Delta: crdt.Delta{To: 1}}, ErrValue},
		{"to before from", &protocol.Delta{Delta: crdt.Delta{Origin: 1, From: 2, To: 1}}, ErrValue},
		{"empty key", with(doc("", 1)), crdt.ErrKey},
		{"key too long", with(doc(strings.Repeat("k", crdt.MaxKeyBytes+1), 1)), crdt.ErrLimit},
		{"key not UTF-8", with(doc("\xff", 1)), crdt.ErrKey},
		{"keys out of order", with(doc("b", 1), doc("a", 1)), ErrOrder},
		{"one key twice", with(doc("a", 1), doc("a", 1)), ErrOrder},
		{"too many documents", with(tooMany...), ErrTooLarge},
		{"one byte too much", with(doc("a", MaxFrameBytes-19)), ErrTooLarge},
		{"far too much", with(doc("a", MaxFrameBytes), doc("b", MaxFrameBytes)), ErrTooLarge},
		{"refusal without a code", &protocol.Refusal{}, ErrValue},
	} {
		b, err := Marshal([]byte("prefix"), c.m)
		if !errors.Is(err, c.want) || string(b) != "prefix" {
			t.Errorf("%s: %d bytes, %v, want %v", c.name, len(b), err, c.want)
		}
	}
	largest := with(doc("a", MaxFrameBytes-20))
	_, _ = rand.NewChaCha8([32]byte{}).Read(largest.Documents[0].Cells) // or it would be packed
	b, err := Marshal(nil, largest)
	if err != nil || len(b) != MaxFrameBytes {
		t.Errorf("the largest frame: %d bytes, %v", len(b), err)
	}
	if v, err := Unmarshal(b); err != nil || !same(v, largest) {
		t.Errorf("reading the largest frame: %v", err)
	}
}

func TestPackedFrames(t *testing.T) {
	level := must(t, sample{write: func() ([]byte, error) { return Marshal(nil, &protocol.Level{}) }})[headerBytes:]
	packed := frameOf(TypePacked, arr(2), u(uint64(len(level))), bin(s2.Encode(nil, level)...))
	if m, err := Unmarshal(packed); err != nil || !same(m, &protocol.Level{}) {
		t.Errorf("a small packed frame: %v, %v", m, err)
	}
	future := []byte{0x7f, 0x90}
	if m, err := Unmarshal(frameOf(TypePacked, arr(2), u(2), bin(s2.Encode(nil, future)...))); m != nil || err != nil {
		t.Errorf("a packed frame of an unknown type: %v, %v, want nil, nil", m, err)
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  error
	}{
		{"no block", frameOf(TypePacked, arr(1), u(1)), ErrTruncated},
		{"empty block", frameOf(TypePacked, arr(2), u(0), bin()), ErrPacking},
		{"block without a length", frameOf(TypePacked, arr(2), u(0), bin(0xff)), ErrPacking},
		{"nothing in it", frameOf(TypePacked, arr(2), u(0), bin(0)), ErrValue},
		{"size too small", frameOf(TypePacked, arr(2), u(uint64(len(level)-1)), bin(s2.Encode(nil, level)...)), ErrValue},
		{"size too large", frameOf(TypePacked, arr(2), u(uint64(len(level)+1)), bin(s2.Encode(nil, level)...)), ErrValue},
		{"size of 2^64-1", frameOf(TypePacked, arr(2), u(math.MaxUint64), bin(s2.Encode(nil, level)...)), ErrTooLarge},
		{"a copy from before the beginning", frameOf(TypePacked, arr(2), u(8), bin(8, 0x15, 9)), ErrPacking},
		{"packed twice", frameOf(TypePacked, arr(2), u(uint64(len(packed)-headerBytes)), bin(s2.Encode(nil, packed[headerBytes:])...)), ErrUnexpected},
		{"a frame of another stream", frameOf(TypePacked, arr(2), u(2), bin(s2.Encode(nil, []byte{byte(TypeHello), 0x90})...)), ErrUnexpected},
		{"a malformed frame in it", frameOf(TypePacked, arr(2), u(2), bin(s2.Encode(nil, []byte{byte(TypeAck), 0x90})...)), ErrTruncated},
		{"bytes that are not S2", frameOf(TypePacked, arr(2), u(4), bin(4, 0xf0, 0xff)), ErrPacking},
	} {
		if m, err := Unmarshal(c.frame); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, m, err, c.want)
		}
	}
}

func TestRefusalTextIsCutAndMended(t *testing.T) {
	for _, text := range []string{
		"bad \xff\xfe bytes", strings.Repeat("x", 2*protocol.MaxRefusalText), strings.Repeat("ä", protocol.MaxRefusalText),
		strings.Repeat("語", protocol.MaxRefusalText), "x" + strings.Repeat("語", protocol.MaxRefusalText),
		"xx" + strings.Repeat("語", protocol.MaxRefusalText), strings.Repeat("\xff", 9*protocol.MaxRefusalText),
	} {
		b, err := Marshal(nil, &protocol.Refusal{Code: 1, Text: text})
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
			continue
		}
		m, err := Unmarshal(b)
		if err != nil {
			t.Errorf("%.20q: %v", text, err)
			continue
		}
		got := m.(*protocol.Refusal).Text
		if len(got) > protocol.MaxRefusalText || utf8.ValidString(text) && len(got) < protocol.MaxRefusalText-2 {
			t.Errorf("%.20q: %d bytes are left", text, len(got))
		}
	}
}

func TestLargeVectors(t *testing.T) {
	for _, n := range []int{10_000, MaxVectorEntries} {
		entries := make([]crdt.Dot, n)
		for i := range entries {
			entries[i] = crdt.Dot{Replica: crdt.ReplicaID(bits.Reverse64(uint64(i) + 1)), Time: at(1_790_000_000_000, i)}
		}
		vv := crdt.NewVersionVector(entries...)
		b, err := Marshal(nil, &protocol.Vectors{VV: vv, Stable: vv})
		if err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
		m, err := Unmarshal(b)
		if err != nil || !m.(*protocol.Vectors).VV.Equal(vv) || !m.(*protocol.Vectors).Stable.Equal(vv) {
			t.Fatalf("%d entries: %v", n, err)
		}
	}
	tooMany := make([]crdt.Dot, MaxVectorEntries+1)
	for i := range tooMany {
		tooMany[i] = crdt.Dot{Replica: crdt.ReplicaID(i + 1), Time: 1}
	}
	if _, err := Marshal(nil, &protocol.Ack{VV: crdt.NewVersionVector(tooMany...)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d entries: %v", len(tooMany), err)
	}
}

// TestHostileLengthsTakeNoMemory parses frames that declare far more than they hold.
func TestHostileLengthsTakeNoMemory(t *testing.T) {
	const runs, most = 200, 4 << 10
	bomb := s2.Encode(nil, make([]byte, 7<<20))
	for name, frame := range map[string][]byte{
		"bin":       frameOf(TypeAck, arr(1), []byte{0xc6, 0x7f, 0xff, 0xff, 0xff}),
		"array":     frameOf(TypeAck, []byte{0xdd, 0x7f, 0xff, 0xff, 0xff}),
		"documents": delta([]byte{0xdd, 0, 0, 0x80, 0}),
		"str":       delta(arr(2), []byte{0xdb, 0x7f, 0xff, 0xff, 0xff}),
		"map":       frameOf(TypeAck, arr(2), dots(), []byte{0xdf, 0x7f, 0xff, 0xff, 0xff}),
		"packed":    frameOf(TypePacked, arr(2), u(7<<20), bin(0x80, 0x80, 0xc0, 0x03)),
		"a bomb":    frameOf(TypePacked, arr(2), u(7<<20), bin(bomb...)),
		"addresses": frameOf(TypeHello, arr(7), u(1), u(0), u(5), arr(0), []byte{0xdd, 0, 1, 0, 0}),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			if _, err := parse(frame); err == nil {
				t.Fatalf("%s: no error", name)
			}
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / runs; each > most {
			t.Errorf("%s: %d bytes were allocated for a frame of %d", name, each, len(frame))
		}
	}
}
