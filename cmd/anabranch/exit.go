package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/store"
)

// The exit codes. They are documented in the help of the root command and are a promise to scripts.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitPartial     = 3
	exitRefused     = 4
	exitDamaged     = 5
	exitLocked      = 6
	exitDiskFull    = 7
	exitInterrupted = 130
)

const exitCodesHelp = `Exit codes:
  0    done
  1    an error, as a document that does not exist
  2    wrong usage: command line, environment or configuration file
  3    done in part (records were skipped), or offline (no peer has the change yet)
  4    refused: permission, a ticket that is no good, a wrong passphrase, a read-only store, a newer store format, a clock that is ahead
  5    the store is damaged
  6    the store is in use by another process that does not serve it
  7    the disk is full
  130  interrupted
`

// usageError is an error of the command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// partialError says what was left out of what was done.
type partialError struct{ err error }

func (e *partialError) Error() string { return e.err.Error() }
func (e *partialError) Unwrap() error { return e.err }

// damagedError says that a check has found damage.
type damagedError struct{ err error }

func (e *damagedError) Error() string { return e.err.Error() }
func (e *damagedError) Unwrap() error { return e.err }

// interruptedError is what a command ended with after a signal.
type interruptedError struct{ err error }

func (e *interruptedError) Error() string {
	return strings.Replace(e.err.Error(), context.Canceled.Error(), "interrupted", 1)
}

func (e *interruptedError) Unwrap() error { return e.err }

// exitCode returns the code for an error: the first that fits.
func exitCode(err error) int {
	var usage *usageError
	var partial *partialError
	var damaged *damagedError
	var interrupted *interruptedError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &interrupted):
		return exitInterrupted
	case errors.As(err, &usage), errors.Is(err, config.ErrUsage), errors.Is(err, config.ErrFile):
		return exitUsage
	case errors.As(err, &damaged), errors.Is(err, store.ErrDamaged), errors.Is(err, backup.ErrDamaged), errors.Is(err, replica.ErrDamaged):
		return exitDamaged
	case errors.Is(err, store.ErrInUse):
		return exitLocked
	case errors.Is(err, store.ErrNoSpace), errors.Is(err, syscall.ENOSPC):
		return exitDiskFull
	case errors.As(err, &partial), errors.Is(err, node.ErrOffline):
		return exitPartial
	}
	switch node.Code(err) {
	case "read_only", "permission", "newer_format", "clock", "ticket", "locked_key":
		return exitRefused
	case "request":
		return exitUsage
	}
	return exitError
}

// errorOutput is an error on stderr with --output jsonl.
type errorOutput struct {
	Error struct {
		Code    string `json:"code"`
		Exit    int    `json:"exit"`
		Message string `json:"message"`
	} `json:"error"`
}

func (a *app) reportError(err error) {
	if !a.wantsJSON() {
		fmt.Fprintf(a.stderr, "anabranch: %v\n", err)
		return
	}
	var out errorOutput
	out.Error.Code, out.Error.Exit, out.Error.Message = errorCode(err), exitCode(err), err.Error()
	if encodeLine(a.stderr, out) != nil {
		return // the exit code still tells
	}
}

func errorCode(err error) string {
	switch exitCode(err) {
	case exitUsage:
		return "usage"
	case exitInterrupted:
		return "interrupted"
	case exitDamaged:
		return "damaged"
	}
	var partial *partialError
	if errors.As(err, &partial) {
		return "partial"
	}
	return node.Code(err)
}
