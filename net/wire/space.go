package wire

import "unicode/utf8"

// checkSpace reports whether a stream may be opened for the name: 1 to MaxSpaceBytes bytes of UTF-8. Which names a node gives to its
// own spaces is not decided here.
func checkSpace(space string) error {
	switch {
	case space == "":
		return ErrValue
	case len(space) > MaxSpaceBytes:
		return ErrTooLarge
	case !utf8.ValidString(space):
		return ErrUTF8
	}
	return nil
}
