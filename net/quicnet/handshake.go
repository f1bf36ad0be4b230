package quicnet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// The control stream is the first that the dialler opens. Each side sends one Hello on it, the dialler first. It stays
// open for what the two tell each other beside the spaces.

// greet does the dialler's part.
func (t *Transport) greet(ctx context.Context, qc *quic.Conn) (*conn, error) {
	qs, err := qc.OpenStreamSync(ctx)
	if err != nil {
		return nil, translate(err)
	}
	defer unblock(ctx, qs)()
	sent := t.config.Now()
	if err := t.sendHello(qs); err != nil {
		return nil, err
	}
	hello, control, err := t.readHello(qc, qs)
	if err != nil {
		return nil, err
	}
	// The peer read its clock about half way between our two readings.
	roundTrip := t.config.Now().Sub(sent)
	return t.newConn(qc, hello, newControl(qs, control), true, hello.Wall.Sub(sent.Add(roundTrip/2))), nil
}

// answer does the accepter's part.
func (t *Transport) answer(ctx context.Context, qc *quic.Conn) (*conn, error) {
	qs, err := qc.AcceptStream(ctx)
	if err != nil {
		if ctx.Err() != nil && t.ctx.Err() == nil {
			err = refuse(qc, replica.CloseMalformed, "no Hello in time")
		}
		return nil, translate(err)
	}
	defer unblock(ctx, qs)()
	hello, control, err := t.readHello(qc, qs)
	if err != nil {
		return nil, err
	}
	oneWay := qc.ConnectionStats().SmoothedRTT / 2
	skew := hello.Wall.Add(oneWay).Sub(t.config.Now())
	if err := t.sendHello(qs); err != nil {
		return nil, err
	}
	return t.newConn(qc, hello, newControl(qs, control), false, skew), nil
}

// unblock makes reads and writes of qs return when ctx ends; the function that it returns undoes that, also if ctx ended just then.
func unblock(ctx context.Context, qs *quic.Stream) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		qs.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
			qs.SetDeadline(time.Time{})
		}
	}
}

func (t *Transport) sendHello(qs *quic.Stream) error {
	b, err := wire.AppendHello(nil, t.hello())
	if err != nil {
		return err
	}
	_, err = qs.Write(b)
	return translate(err)
}

func (t *Transport) readHello(qc *quic.Conn, qs *quic.Stream) (wire.Hello, *wire.Reader, error) {
	r := wire.NewReader(qs, wire.MaxControlFrameBytes)
	b, err := r.ReadFrame()
	var hello wire.Hello
	if err == nil {
		hello, err = wire.ParseHello(b)
	}
	var bad *wire.FrameError
	switch {
	case errors.As(err, &bad) && errors.Is(err, wire.ErrTooLarge):
		return hello, nil, refuse(qc, replica.CloseTooLarge, "control stream: "+bad.Error())
	case errors.As(err, &bad):
		return hello, nil, refuse(qc, replica.CloseMalformed, "control stream: "+bad.Error())
	case err != nil && qc.Context().Err() != nil:
		return hello, nil, causeOf(qc)
	case err != nil:
		return hello, nil, refuse(qc, replica.CloseMalformed, "no Hello in time")
	case hello.Major != wire.Major:
		return hello, nil, refuse(qc, replica.CloseVersion, fmt.Sprintf("%s speaks protocol %d.%d, its peer %d.%d: upgrade the older one",
			t.self.Short(), wire.Major, wire.Minor, hello.Major, hello.Minor))
	}
	return hello, r, nil
}

// refuse closes a connection and returns why it is closed, which is another reason if the peer was faster.
func refuse(qc *quic.Conn, code replica.CloseCode, reason string) error {
	closeConn(qc, code, reason)
	return causeOf(qc)
}
