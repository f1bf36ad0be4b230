package quicnet

import (
	"context"
	"errors"
	"net"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/replica"
)

// TLS alerts as QUIC carries them (RFC 9001, section 4.8).
const (
	alertBadCertificate quic.TransportErrorCode = 0x100 + 42
	alertNoProtocol     quic.TransportErrorCode = 0x100 + 120
)

// lostError says how a connection ended, or did not come up, without either side closing it. It hides the error of the library, which
// counts every such end as net.ErrClosed: that is for a transport that was closed here.
type lostError struct {
	what    string
	cause   string
	timeout bool
}

func (e *lostError) Error() string { return e.what + ": " + e.cause }

// Timeout and Temporary make it a net.Error.
func (e *lostError) Timeout() bool   { return e.timeout }
func (e *lostError) Temporary() bool { return true }

func lost(what string, cause error) error {
	var timeout interface{ Timeout() bool }
	return &lostError{what, cause.Error(), errors.As(cause, &timeout) && timeout.Timeout()}
}

// translate turns an error of the QUIC library into ours: a *replica.CloseError where one side closed, text for people elsewhere.
func translate(err error) error {
	var (
		app       *quic.ApplicationError
		stream    *quic.StreamError
		transport *quic.TransportError
		idle      *quic.IdleTimeoutError
		handshake *quic.HandshakeTimeoutError
		reset     *quic.StatelessResetError
		version   *quic.VersionNegotiationError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &app):
		return &replica.CloseError{Code: closeCode(uint64(app.ErrorCode)), Reason: app.ErrorMessage, Remote: app.Remote}
	case errors.As(err, &stream):
		return &replica.CloseError{Code: closeCode(uint64(stream.ErrorCode)), Remote: stream.Remote}
	case errors.As(err, &idle):
		return lost("nothing heard from the peer for too long", err)
	case errors.As(err, &handshake):
		return lost("no answer to the handshake", err)
	case errors.As(err, &reset):
		return lost("the peer has forgotten the connection, it was restarted", err)
	case errors.As(err, &version):
		return lost("no common version of QUIC", err)
	case errors.As(err, &transport):
		return translateTransport(transport)
	case errors.Is(err, quic.ErrTransportClosed), errors.Is(err, quic.ErrServerClosed):
		return net.ErrClosed
	}
	return err
}

func translateTransport(err *quic.TransportError) error {
	switch {
	case err.ErrorCode == alertNoProtocol:
		return lost("the other end does not speak "+ALPN+", it is another program or another version", err)
	case err.ErrorCode == alertBadCertificate && err.Remote:
		return lost("the peer refused this node's certificate", err)
	case errors.Is(err, errKeyType):
		return errKeyType
	}
	return lost("QUIC failed", err)
}

// closeCode keeps a code that does not fit from becoming another.
func closeCode(code uint64) replica.CloseCode {
	if code > 1<<32-1 {
		return replica.CloseInternal
	}
	return replica.CloseCode(code)
}

// causeOf returns why a connection's context has ended.
func causeOf(qc *quic.Conn) error {
	if qc.Context().Err() == nil {
		return nil
	}
	return translate(context.Cause(qc.Context()))
}
