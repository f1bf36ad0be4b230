package quicnet

import (
	"errors"
	"sync"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// maxUnheard bounds the messages of the control stream that were read and wait for Hear. Then the stream is not read any further, so that
// the peer waits.
const maxUnheard = 8

// control is the control stream, after both Hellos.
type control struct {
	qs     *quic.Stream
	reader *wire.Reader
	heard  chan protocol.Control

	mu sync.Mutex // held while writing
}

func newControl(qs *quic.Stream, r *wire.Reader) *control {
	return &control{qs: qs, reader: r, heard: make(chan protocol.Control, maxUnheard)}
}

// Tell implements replica.Conn.
func (c *conn) Tell(m protocol.Control) error {
	b, err := wire.MarshalControl(nil, m)
	if err != nil {
		return err
	}
	return c.write(b)
}

// write writes a frame to the control stream.
func (c *conn) write(b []byte) error {
	c.control.mu.Lock()
	defer c.control.mu.Unlock()
	if err := c.Err(); err != nil {
		return err
	}
	if _, err := c.control.qs.Write(b); err != nil {
		return c.translate(err)
	}
	return nil
}

// Hear implements replica.Conn.
func (c *conn) Hear() (protocol.Control, error) {
	if err := c.Err(); err != nil {
		return nil, err
	}
	select {
	case m := <-c.control.heard:
		return m, nil
	case <-c.Done():
		return nil, c.Err()
	}
}

// readControl reads the control stream for as long as the connection lasts, and skips what a newer peer may send.
func (c *conn) readControl() {
	for {
		m, err := c.nextControl()
		var bad *wire.FrameError
		switch {
		case errors.As(err, &bad) && errors.Is(err, wire.ErrTooLarge):
			c.Close(replica.CloseTooLarge, "control stream: "+bad.Error())
			return
		case errors.As(err, &bad):
			c.Close(replica.CloseMalformed, "control stream: "+bad.Error())
			return
		case err != nil:
			return
		case m == nil:
			continue
		}
		select {
		case c.control.heard <- m:
		case <-c.Done():
			return
		}
	}
}

func (c *conn) nextControl() (protocol.Control, error) {
	b, err := c.control.reader.ReadFrame()
	if err != nil {
		return nil, err
	}
	return wire.UnmarshalControl(b)
}
