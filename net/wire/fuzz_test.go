package wire

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzUnmarshal checks that any bytes give a *FrameError or a message that is written and read back as itself.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range samples() {
		f.Add(must(f, s))
	}
	f.Add(frameOf(TypeAck, arr(2), dots(), deep(20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parse(b)
		checkParsed(t, v, err)
		// And as a body of each type, so that the fuzzer need not find out about lengths.
		for _, kind := range []Type{TypeHello, TypeSpaceOpen, TypeAddresses, TypeVectors, TypeDelta, TypeAck, TypeLevel, TypeRefusal, TypeMembers, TypeJoin, TypeJoined, TypeJoinRefused, TypeGrants, TypePacked, TypeClock,
			TypeSnapshotOffer, TypeSnapshotRequest, TypeSnapshotBegin, TypeSnapshotPiece} {
			v, err := parse(frameOf(kind, b))
			checkParsed(t, v, err)
		}
	})
}

func checkParsed(t *testing.T, v any, err error) {
	t.Helper()
	var typed *FrameError
	if err != nil {
		if !errors.As(err, &typed) {
			t.Fatalf("%v is no *FrameError", err)
		}
		return
	}
	if v == nil {
		return
	}
	if h, ok := v.(Hello); ok && h.Major != Major {
		return // its rest was not read
	}
	b, err := write(v)
	if err != nil {
		t.Fatalf("%+v was read and cannot be written: %v", v, err)
	}
	again, err := parse(b)
	if err != nil || !same(v, again) {
		t.Fatalf("%+v was written and read as %+v, %v", v, again, err)
	}
}

// FuzzReader checks that a Reader returns just what came, whatever came.
func FuzzReader(f *testing.F) {
	for _, s := range samples() {
		f.Add(must(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewReader(bytes.NewReader(b), 1<<16)
		rest := b
		for {
			frame, err := r.ReadFrame()
			if err != nil {
				return
			}
			if !bytes.HasPrefix(rest, frame) {
				t.Fatalf("read % x from % x", frame, rest)
			}
			rest = rest[len(frame):]
		}
	})
}
