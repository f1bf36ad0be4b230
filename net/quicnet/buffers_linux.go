package quicnet

import (
	"log/slog"
	"net"
	"sync"

	"golang.org/x/sys/unix"
)

// wantedBuffer is what the kernel should hold for a socket, so that a burst at full speed is not dropped.
const wantedBuffer = 2 << 20

var warnedBuffers sync.Once

// warnBuffers enlarges the socket's buffers as far as it may, and warns once in the life of the process if that is not far.
func warnBuffers(conn net.PacketConn, logger *slog.Logger) {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return
	}
	raw, err := udp.SyscallConn()
	if err != nil {
		return
	}
	receive, send := 0, 0
	err = raw.Control(func(fd uintptr) {
		receive = enlarge(int(fd), unix.SO_RCVBUF, unix.SO_RCVBUFFORCE)
		send = enlarge(int(fd), unix.SO_SNDBUF, unix.SO_SNDBUFFORCE)
	})
	if err != nil {
		return
	}
	if receive >= wantedBuffer && send >= wantedBuffer {
		return
	}
	warnedBuffers.Do(func() {
		logger.Warn("UDP buffers are small, fast transfers will lose packets: raise net.core.rmem_max and net.core.wmem_max",
			"receive_bytes", receive, "send_bytes", send, "wanted_bytes", wantedBuffer)
	})
}

// enlarge returns the size of a buffer after trying to reach what is wanted; forcing it needs a privilege.
func enlarge(fd, option, force int) int {
	size, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	for _, o := range []int{option, force} {
		if size >= wantedBuffer {
			break
		}
		// The kernel doubles what it is given, for its own bookkeeping, and reports that.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, wantedBuffer)
		size, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, option)
	}
	return size
}
