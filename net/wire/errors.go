package wire

import "errors"

// What can be wrong with a frame; a *FrameError wraps one of them, or an error of package crdt.
var (
	ErrTruncated  = errors.New("it ends too early")
	ErrTrailing   = errors.New("bytes follow its end")
	ErrTooLarge   = errors.New("it is over the limit")
	ErrKind       = errors.New("value of the wrong kind")
	ErrValue      = errors.New("value out of range")
	ErrOrder      = errors.New("not in strictly ascending order")
	ErrUTF8       = errors.New("it is not UTF-8")
	ErrPacking    = errors.New("it does not unpack")
	ErrUnexpected = errors.New("frame does not belong here")
)

// FrameError says which field of which frame does not parse, or cannot be encoded, and why.
type FrameError struct {
	Frame Type
	Field string // "length", "body", or the name of an element
	Err   error
}

func (e *FrameError) Error() string {
	return e.Frame.String() + " frame: " + e.Field + ": " + e.Err.Error()
}

func (e *FrameError) Unwrap() error { return e.Err }
