package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// SocketName is the name of the socket in a store directory.
const SocketName = "control.sock"

// maxSocketPath is what a socket address holds on every system: 104 bytes on some, 108 on Linux, a zero byte included.
const maxSocketPath = 103

// ErrNoNode says that no node serves the store.
var ErrNoNode = errors.New("no node serves the store")

// short returns an address of the socket that is short enough. The path of a deep directory is not: then it goes by way of an open
// descriptor of the directory, which done closes.
func short(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, SocketName)
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	viaProc := fmt.Sprintf("/proc/self/fd/%d", d.Fd())
	if _, err := os.Stat(viaProc); err != nil {
		d.Close()
		return "", nil, fmt.Errorf("%s: the path is too long for a socket on this system: use a store directory with a path of at most %d bytes",
			dir, maxSocketPath-len(SocketName)-1)
	}
	return filepath.Join(viaProc, SocketName), func() { d.Close() }, nil
}

// Listen makes the socket. The caller must hold the lock of the store, so that a socket that is there already has been left
// by a process that was killed.
func Listen(dir string) (net.Listener, error) {
	own := filepath.Join(dir, SocketName)
	if err := os.Remove(own); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	path, done, err := short(dir)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer done()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(own, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return &listener{Listener: l, path: own}, nil
}

// listener removes its socket before it closes.
type listener struct {
	net.Listener
	path string
}

func (l *listener) Close() error {
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // closed twice
	}
	return errors.Join(err, l.Listener.Close())
}

func dial(ctx context.Context, dir string) (net.Conn, error) {
	path, done, err := short(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoNode
	}
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR):
		return nil, ErrNoNode
	case err != nil:
		return nil, fmt.Errorf("reach the node that serves %s: %w", dir, err)
	}
	return conn, nil
}
