package nettest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

func testSpaces(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	// Opened from both sides, several at once, also twice for one space: to make one of two is the engine's part.
	spaces := []string{"inventory", "lagerverwaltung ä", strings.Repeat("x", wire.MaxSpaceBytes), "inventory"}
	for i, space := range spaces {
		s, r := open(t, a, b, space)
		s2, r2 := open(t, b, a, space)
		for _, dir := range [][2]replica.Stream{{s, r}, {r, s}, {s2, r2}, {r2, s2}} {
			if err := dir[0].WriteFrames(frame(t, n.Transports[0], uint64(i), 0)); err != nil {
				t.Fatalf("WriteFrames: %v", err)
			}
			readNumber(t, n.Transports[1], dir[1], uint64(i))
		}
	}
}

func testSpaceNames(t *testing.T, make Maker) {
	a, b, _ := pair(t, make)
	for _, space := range []string{"", strings.Repeat("x", wire.MaxSpaceBytes+1), "\xff"} {
		if _, err := a.OpenStream(withPatience(t), space); err == nil {
			t.Errorf("OpenStream(%.10q…) of %d bytes succeeded", space, len(space))
		}
	}
	open(t, a, b, "still usable")
}

func testOrder(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "order")
	const frames = 3000
	tr := n.Transports[0]
	write := func(s replica.Stream) error {
		var batch [][]byte
		for i := range uint64(frames) {
			batch = append(batch, frame(t, tr, i, int(i%7)*100))
			if i%5 == 0 || i == frames-1 {
				if err := s.WriteFrames(batch...); err != nil {
					return err
				}
				batch = batch[:0]
			}
		}
		return nil
	}
	read := func(s replica.Stream) error {
		for i := range uint64(frames) {
			b, err := s.ReadFrame()
			if err != nil {
				return err
			}
			if got, err := number(tr, b); err != nil || got != i {
				return fmt.Errorf("frame says %d (%w), want %d", got, err, i)
			}
		}
		return nil
	}
	for i, c := range []<-chan error{
		inBackground(func() error { return write(s) }), inBackground(func() error { return write(r) }),
		inBackground(func() error { return read(s) }), inBackground(func() error { return read(r) }),
	} {
		if err := await(t, "reading and writing", c); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
}

func testLargeFrame(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "large")
	large := frame(t, n.Transports[0], 5, wire.MaxFrameBytes-64)
	for i := range large[wire.MaxFrameBytes/2 : wire.MaxFrameBytes/2+1000] {
		large[wire.MaxFrameBytes/2+i] = byte(i)
	}
	small := frame(t, n.Transports[0], 6, 0)
	wrote := inBackground(func() error { return s.WriteFrames(small, large, small) })
	readNumber(t, n.Transports[1], r, 6)
	got, err := r.ReadFrame()
	if err != nil || !bytes.Equal(got, large) {
		t.Fatalf("ReadFrame: %d bytes, %v, want the %d that were written", len(got), err, len(large))
	}
	readNumber(t, n.Transports[1], r, 6)
	if err := await(t, "WriteFrames", wrote); err != nil {
		t.Errorf("WriteFrames: %v", err)
	}
}

func testOverLimit(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	for _, length := range []uint32{wire.MaxFrameBytes - 3, 1<<31 - 1, 1 << 31, 1<<32 - 1} {
		s, r := open(t, a, b, "over")
		// Only the header is written: whoever waits for the rest waits for ever.
		header := append(binary.BigEndian.AppendUint32(nil, length), byte(wire.TypeDelta))
		if err := s.WriteFrames(header); err != nil {
			t.Fatalf("WriteFrames: %v", err)
		}
		err := await(t, "ReadFrame", inBackground(func() error { _, err := r.ReadFrame(); return err }))
		wantClose(t, "ReadFrame", err, replica.CloseTooLarge, false)
		_, err = s.ReadFrame()
		wantClose(t, "ReadFrame at the writer", err, replica.CloseTooLarge, true)
	}
	s, r := open(t, a, b, "empty")
	if err := s.WriteFrames([]byte{0, 0, 0, 0}); err != nil {
		t.Fatalf("WriteFrames: %v", err)
	}
	_, err := r.ReadFrame()
	wantClose(t, "ReadFrame of a frame without a type", err, replica.CloseMalformed, false)
	_, err = s.ReadFrame()
	wantClose(t, "ReadFrame at the writer", err, replica.CloseMalformed, true)

	s, r = open(t, a, b, "other streams go on")
	if err := s.WriteFrames(frame(t, n.Transports[0], 1, 0)); err != nil {
		t.Fatalf("WriteFrames: %v", err)
	}
	readNumber(t, n.Transports[1], r, 1)
}

func testManyStreams(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	const streams, frames = 50, 40
	tr := n.Transports[0]
	var results []<-chan error
	for i := range streams {
		s, r := open(t, a, b, fmt.Sprintf("space %d", i))
		base := uint64(i) * frames
		results = append(results,
			inBackground(func() error {
				for j := range uint64(frames) {
					if err := s.WriteFrames(frame(t, tr, base+j, 3000)); err != nil {
						return err
					}
				}
				return s.Close(replica.CloseDone)
			}),
			inBackground(func() error {
				for j := range uint64(frames) {
					b, err := r.ReadFrame()
					if err != nil {
						return err
					}
					if got, err := number(tr, b); err != nil || got != base+j {
						return fmt.Errorf("frame says %d (%w), want %d", got, err, base+j)
					}
				}
				if _, err := r.ReadFrame(); !errors.Is(err, io.EOF) {
					return fmt.Errorf("after the last frame: %w", err)
				}
				return nil
			}))
	}
	for _, c := range results {
		if err := await(t, "stream", c); err != nil {
			t.Error(err)
		}
	}
}

// testBackpressure checks that a writer gets ahead of a reader by a bounded amount only.
func testBackpressure(t *testing.T, make Maker) {
	const frameSize, most = 64 << 10, 20 << 20
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "slow")
	f := frame(t, n.Transports[0], 1, frameSize)
	var written atomic.Int64
	wrote := inBackground(func() error {
		for written.Load() < 2*most {
			if err := s.WriteFrames(f); err != nil {
				return err
			}
			written.Add(int64(len(f)))
		}
		return nil
	})
	// The writer has to come to a stop: no progress over a tenth of a second, twenty times in a row.
	last, still := int64(-1), 0
	for still < 20 {
		select {
		case err := <-wrote:
			t.Fatalf("the writer wrote %d bytes that nobody read (%v)", written.Load(), err)
		case <-time.After(10 * time.Millisecond):
		}
		if now := written.Load(); now == last {
			still++
		} else {
			last, still = now, 0
		}
	}
	t.Logf("a writer gets %d KiB ahead of a reader that does not read", last>>10)
	if last > most {
		t.Errorf("the writer got %d bytes ahead, want at most %d", last, most)
	}
	// Another stream of the same connection is not held up.
	s2, r2 := open(t, a, b, "quick")
	if err := s2.WriteFrames(frame(t, n.Transports[0], 2, 0)); err != nil {
		t.Fatalf("WriteFrames on another stream: %v", err)
	}
	readNumber(t, n.Transports[1], r2, 2)
	// And reading lets the writer go on.
	read := inBackground(func() error {
		for got := int64(0); got < 2*most; {
			b, err := r.ReadFrame()
			if err != nil {
				return err
			}
			got += int64(len(b))
		}
		return nil
	})
	if err := await(t, "the writer", wrote); err != nil {
		t.Errorf("the writer: %v", err)
	}
	if err := await(t, "the reader", read); err != nil {
		t.Errorf("the reader: %v", err)
	}
}

func testStreamLimit(t *testing.T, make Maker) {
	a, b, _ := pair(t, make)
	type ends struct{ s, r replica.Stream }
	var all []ends
	for len(all) < 1000 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		s, err := a.OpenStream(ctx, "s")
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("OpenStream over the limit: %v, want the end of the context", err)
			}
			break
		}
		_, r, err := b.AcceptStream(withPatience(t))
		if err != nil {
			t.Fatalf("AcceptStream: %v", err)
		}
		all = append(all, ends{s, r})
	}
	if len(all) < 50 || len(all) > 64 {
		t.Fatalf("%d streams are allowed at once, want 50 to 64", len(all))
	}
	for _, e := range all {
		e.s.Close(replica.CloseDone)
		e.r.Close(replica.CloseDone)
	}
	for range 3 * len(all) { // streams that have ended make room, for ever
		s, r := open(t, a, b, "again")
		s.Close(replica.CloseDone)
		r.Close(replica.CloseDone)
	}
}

func testTraffic(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "traffic")
	const size = 1 << 20
	wrote := inBackground(func() error { return s.WriteFrames(frame(t, n.Transports[0], 1, size)) })
	readNumber(t, n.Transports[1], r, 1)
	if err := await(t, "WriteFrames", wrote); err != nil {
		t.Fatalf("WriteFrames: %v", err)
	}
	if sent, _ := a.Traffic(); sent < size || sent > 2*size {
		t.Errorf("sent %d, want a little over %d", sent, size)
	}
	if _, received := b.Traffic(); received < size || received > 2*size {
		t.Errorf("received %d, want a little over %d", received, size)
	}
}

func testMessages(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "messages")
	refusal := &protocol.Refusal{Code: protocol.RefusedGap, Origin: 3, From: 4, To: 5, Text: "who are you?"}
	f, err := n.Transports[0].Marshal(nil, refusal)
	if err != nil {
		t.Fatalf("Marshal: %v", err)
	}
	unknown := []byte{0, 0, 0, 2, 0xee, 0x90}
	if err := s.WriteFrames(unknown, f); err != nil {
		t.Fatalf("WriteFrames: %v", err)
	}
	got, err := r.ReadFrame()
	if err != nil {
		t.Fatalf("ReadFrame: %v", err)
	}
	if m, err := n.Transports[1].Unmarshal(got); m != nil || err != nil {
		t.Errorf("Unmarshal of an unknown type: %v, %v, want nil, nil", m, err)
	}
	if got, err = r.ReadFrame(); err != nil {
		t.Fatalf("ReadFrame: %v", err)
	}
	m, err := n.Transports[1].Unmarshal(got)
	if back, ok := m.(*protocol.Refusal); err != nil || !ok || *back != *refusal {
		t.Errorf("Unmarshal: %+v, %v, want %+v", m, err, refusal)
	}
}
