package node

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/keyfile"
	"github.com/anabranch-db/anabranch/replica/store"
)

// Errors of this package.
var (
	// ErrNoStore: there is nothing to read.
	ErrNoStore = errors.New("no store")
	// ErrOffline: what was asked for takes a peer, and none is there.
	ErrOffline = errors.New("offline")
	// ErrRequest: the caller asked for something that cannot be.
	ErrRequest = errors.New("invalid request")
	// ErrClock: a time is too far in the future.
	ErrClock = errors.New("clock is ahead")
)

// A code names an error over the socket and in the output of --output jsonl. The order matters: an error gets the first
// code that fits.
var codes = []struct {
	code string
	err  error
}{
	{"not_found", replica.ErrNotFound},
	{"not_found", gateway.ErrTokenUnknown},
	{"request", gateway.ErrTokenSpec},
	{"no_store", ErrNoStore},
	{"in_use", store.ErrInUse},
	{"no_space", store.ErrNoSpace},
	{"no_space", syscall.ENOSPC},
	{"damaged", store.ErrDamaged},
	{"damaged", backup.ErrDamaged},
	{"damaged", replica.ErrDamaged},
	{"no_backup", backup.ErrNoFile},
	{"newer_format", backup.ErrNewer},
	{"not_empty", replica.ErrNotEmpty},
	{"newer_format", store.ErrNewerFormat},
	{"read_only", store.ErrReadOnly},
	{"read_only", syscall.EROFS},
	{"permission", replica.ErrPermission},
	{"ticket", replica.ErrTicket},
	{"space_exists", replica.ErrSpaceExists},
	{"locked_key", keyfile.ErrLocked},
	{"locked_key", keyfile.ErrPassphrase},
	{"permission", fs.ErrPermission},
	{"limit", crdt.ErrLimit},
	{"invalid_key", crdt.ErrKey},
	{"invalid_path", crdt.ErrPath},
	{"invalid_value", crdt.ErrValue},
	{"invalid_space", replica.ErrSpace},
	{"cursor", replica.ErrCursor},
	{"clock", ErrClock},
	{"request", ErrRequest},
	{"timeout", context.DeadlineExceeded},
	{"offline", ErrOffline},
	{"timeout", os.ErrDeadlineExceeded},
	{"interrupted", context.Canceled},
	{"closed", replica.ErrClosed},
}

// Code returns the code of an error, "internal" if it has none.
func Code(err error) string {
	var remote *RemoteError
	if errors.As(err, &remote) {
		return remote.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	var drift *hlc.DriftError
	if errors.As(err, &drift) {
		return "clock"
	}
	return "internal"
}

// RemoteError is an error that a node returned over its socket. errors.Is finds in it what it was there.
type RemoteError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

func (e *RemoteError) Error() string { return e.Message }

// Is reports whether the error was target at the other end.
func (e *RemoteError) Is(target error) bool {
	for _, c := range codes {
		if c.code == e.Code && c.err == target {
			return true
		}
	}
	return false
}
