//go:build !linux

package quicnet

import (
	"log/slog"
	"net"
)

// warnBuffers does nothing where the size of a socket's buffers cannot be asked for; the QUIC library enlarges them as far as it may.
func warnBuffers(net.PacketConn, *slog.Logger) {}
