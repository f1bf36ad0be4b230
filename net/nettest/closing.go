package nettest

import (
	"errors"
	"io"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
)

func testStreamEnd(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "end")
	const frames = 100
	for i := range uint64(frames) {
		if err := s.WriteFrames(frame(t, n.Transports[0], i, 1000)); err != nil {
			t.Fatalf("WriteFrames: %v", err)
		}
	}
	if err := s.Close(replica.CloseDone); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for i := range uint64(frames) {
		readNumber(t, n.Transports[1], r, i)
	}
	for range 2 {
		if _, err := r.ReadFrame(); !errors.Is(err, io.EOF) {
			t.Fatalf("ReadFrame after the last frame: %v, want io.EOF", err)
		}
	}
	wantClose(t, "WriteFrames to a stream that the peer closed", writeUntilError(t, n, r), replica.CloseDone, true)
	_, err := s.ReadFrame()
	wantClose(t, "ReadFrame after Close", err, replica.CloseDone, false)
	wantClose(t, "WriteFrames after Close", s.WriteFrames(frame(t, n.Transports[0], 0, 0)), replica.CloseDone, false)
	if err := s.Close(replica.CloseInternal); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// writeUntilError writes until the peer's refusal has come back.
func writeUntilError(t *testing.T, n *Net, s replica.Stream) error {
	f := frame(t, n.Transports[0], 1, 1000)
	c := inBackground(func() error {
		for {
			if err := s.WriteFrames(f); err != nil {
				return err
			}
		}
	})
	return await(t, "WriteFrames", c)
}

func testStreamCode(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	for range 20 { // the code must never overtake the frame
		s, r := open(t, a, b, "code")
		if err := s.WriteFrames(frame(t, n.Transports[0], 9, 2000)); err != nil {
			t.Fatalf("WriteFrames: %v", err)
		}
		if err := s.Close(replica.CloseRefused); err != nil {
			t.Fatalf("Close: %v", err)
		}
		readNumber(t, n.Transports[1], r, 9)
		_, err := r.ReadFrame()
		wantClose(t, "ReadFrame", err, replica.CloseRefused, true)
		wantClose(t, "WriteFrames", writeUntilError(t, n, r), replica.CloseRefused, true)
		_, err = s.ReadFrame()
		wantClose(t, "ReadFrame at the closing side", err, replica.CloseRefused, false)
		r.Close(replica.CloseDone)
	}
	if a.Err() != nil || b.Err() != nil {
		t.Errorf("closing streams ended the connection: %v, %v", a.Err(), b.Err())
	}
}

func testCloseUnblocks(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "blocked")
	f := frame(t, n.Transports[0], 1, 1<<20)
	started := []chan struct{}{newSignal(), newSignal()}
	reading := inBackground(func() error { close(started[0]); _, err := s.ReadFrame(); return err })
	writing := inBackground(func() error {
		close(started[1])
		for {
			if err := s.WriteFrames(f); err != nil {
				return err
			}
		}
	})
	within(t, "start", started[0])
	within(t, "start", started[1])
	if err := s.Close(replica.CloseSlow); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantClose(t, "blocked ReadFrame", await(t, "ReadFrame", reading), replica.CloseSlow, false)
	wantClose(t, "blocked WriteFrames", await(t, "WriteFrames", writing), replica.CloseSlow, false)
	read := inBackground(func() error {
		for {
			if _, err := r.ReadFrame(); err != nil {
				return err
			}
		}
	})
	wantClose(t, "ReadFrame at the peer", await(t, "ReadFrame at the peer", read), replica.CloseSlow, true)
}

func newSignal() chan struct{} { return make(chan struct{}) }

func testConnClose(t *testing.T, make Maker) {
	for _, side := range []string{"dialler", "accepter"} {
		t.Run(side+" closes", func(t *testing.T) {
			a, b, _ := pair(t, make)
			if side == "accepter" {
				a, b = b, a
			}
			if err := a.Close(replica.CloseDuplicate, "the other one is older"); err != nil {
				t.Fatalf("Close: %v", err)
			}
			within(t, "Done", a.Done())
			within(t, "Done at the peer", b.Done())
			wantClose(t, "Err", a.Err(), replica.CloseDuplicate, false)
			closed := wantClose(t, "Err at the peer", b.Err(), replica.CloseDuplicate, true)
			if closed.Reason != "the other one is older" {
				t.Errorf("reason %q", closed.Reason)
			}
			if err := a.Close(replica.CloseInternal, "again"); err != nil {
				t.Errorf("second Close: %v", err)
			}
			wantClose(t, "Err after a second Close", a.Err(), replica.CloseDuplicate, false)
			_, err := b.OpenStream(withPatience(t), "s")
			wantClose(t, "OpenStream", err, replica.CloseDuplicate, true)
			_, _, err = b.AcceptStream(withPatience(t))
			wantClose(t, "AcceptStream", err, replica.CloseDuplicate, true)
		})
	}
}

func testConnCloseUnblocks(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "blocked")
	f := frame(t, n.Transports[0], 1, 1<<20)
	calls := map[string]<-chan error{
		"ReadFrame": inBackground(func() error { _, err := s.ReadFrame(); return err }),
		"WriteFrames": inBackground(func() error {
			for {
				if err := s.WriteFrames(f); err != nil {
					return err
				}
			}
		}),
		"AcceptStream": inBackground(func() error { _, _, err := a.AcceptStream(withPatience(t)); return err }),
	}
	remote := map[string]<-chan error{
		"WriteFrames at the peer": inBackground(func() error {
			for {
				if err := r.WriteFrames(f); err != nil {
					return err
				}
			}
		}),
		"AcceptStream at the peer": inBackground(func() error { _, _, err := b.AcceptStream(withPatience(t)); return err }),
	}
	if err := a.Close(replica.CloseInternal, "enough"); err != nil {
		t.Fatalf("Close: %v", err)
	}
	for name, c := range calls {
		wantClose(t, name, await(t, name, c), replica.CloseInternal, false)
	}
	for name, c := range remote {
		wantClose(t, name, await(t, name, c), replica.CloseInternal, true)
	}
}

func testTransportClose(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, r := open(t, a, b, "s")
	accepting := inBackground(func() error { _, err := n.Transports[1].Accept(withPatience(t)); return err })
	reading := inBackground(func() error { _, err := s.ReadFrame(); return err })
	if err := n.Transports[1].Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := await(t, "Accept", accepting); err == nil {
		t.Error("Accept returned a connection of a closed transport")
	}
	within(t, "Done", b.Done())
	within(t, "Done at the peer", a.Done())
	wantClose(t, "Err at the peer", a.Err(), replica.CloseDone, true)
	wantClose(t, "ReadFrame at the peer", await(t, "ReadFrame", reading), replica.CloseDone, true)
	_, err := r.ReadFrame()
	wantClose(t, "ReadFrame", err, replica.CloseDone, false)
}

func testSilence(t *testing.T, make Maker) {
	a, b, n := pair(t, make)
	s, _ := open(t, a, b, "s")
	reading := inBackground(func() error { _, err := s.ReadFrame(); return err })
	n.Silence(1)
	within(t, "Done", a.Done())
	if err := await(t, "ReadFrame", reading); err == nil {
		t.Error("ReadFrame from a dead peer gave no error")
	}
	var closed *replica.CloseError
	if err := a.Err(); err == nil || errors.As(err, &closed) {
		t.Errorf("Err says %v, but nobody closed", err)
	}
}
