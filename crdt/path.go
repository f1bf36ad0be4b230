package crdt

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Path is a list of map keys inside a document, outermost first. The empty path is the document itself.
// An element may be any UTF-8 text, the empty one included.
type Path []string

// ErrPath is wrapped by the errors of a path that are not of size.
var ErrPath = errors.New("invalid path")

// ParsePath reads a JSON pointer (RFC 6901): "" is the document, "/name/common" the path
// ["name","common"]; "~1" stands for "/" and "~0" for "~".
func ParsePath(pointer string) (Path, error) {
	if pointer == "" {
		return Path{}, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("%w: JSON pointer %q must be empty or begin with /", ErrPath, pointer)
	}
	elements := strings.Split(pointer[1:], "/")
	for i, e := range elements {
		for j := 0; j < len(e); j++ {
			if e[j] == '~' && (j+1 == len(e) || e[j+1] != '0' && e[j+1] != '1') {
				return nil, fmt.Errorf("%w: JSON pointer %q: ~ must be followed by 0 or 1", ErrPath, pointer)
			}
		}
		elements[i] = strings.ReplaceAll(strings.ReplaceAll(e, "~1", "/"), "~0", "~")
	}
	return elements, nil
}

// String returns p as a JSON pointer.
func (p Path) String() string {
	var b strings.Builder
	for _, e := range p {
		b.WriteByte('/')
		b.WriteString(strings.ReplaceAll(strings.ReplaceAll(e, "~", "~0"), "/", "~1"))
	}
	return b.String()
}

// PathKey is the packed form of a path: each element, escaped, and a zero byte after it. Inside elements
// the byte 0 is written 1 1 and the byte 1 is written 1 2. So packed paths order as their lists of elements do, the
// packed form of a path is a prefix of exactly those of the paths at or below it, and no two paths
// share one.
type PathKey string

// Pack returns the packed form, or an error if p exceeds MaxDepth or MaxPathBytes or is not UTF-8.
func (p Path) Pack() (PathKey, error) {
	if len(p) > MaxDepth {
		return "", &LimitError{What: fmt.Sprintf("path %.60s", p), Size: len(p), Limit: MaxDepth, Unit: "levels"}
	}
	n := 0
	for _, e := range p {
		n += len(e) + 1
	}
	if n > MaxPathBytes {
		return "", &LimitError{What: fmt.Sprintf("path %.60s", p), Size: n, Limit: MaxPathBytes, Unit: "bytes"}
	}
	b := make([]byte, 0, n)
	for _, e := range p {
		if !utf8.ValidString(e) {
			return "", fmt.Errorf("%w: element %q is not UTF-8", ErrPath, e)
		}
		b = appendElement(b, e)
	}
	if len(b) > MaxPathBytes {
		return "", &LimitError{What: fmt.Sprintf("path %.60s", p), Size: len(b), Limit: MaxPathBytes, Unit: "bytes"}
	}
	return PathKey(b), nil
}

func appendElement(b []byte, e string) []byte {
	if strings.IndexByte(e, 0) < 0 && strings.IndexByte(e, 1) < 0 {
		b = append(b, e...)
		return append(b, 0)
	}
	for i := range len(e) {
		if e[i] <= 1 {
			b = append(b, 1, e[i]+1)
		} else {
			b = append(b, e[i])
		}
	}
	return append(b, 0)
}

// Check reports whether k is the packed form of some path within the limits. Every parser of packed paths
// calls it.
func (k PathKey) Check() error {
	if len(k) > MaxPathBytes {
		return &LimitError{What: "packed path", Size: len(k), Limit: MaxPathBytes, Unit: "bytes"}
	}
	if len(k) > 0 && k[len(k)-1] != 0 {
		return fmt.Errorf("%w: packed path %q does not end with an element", ErrPath, string(k))
	}
	depth := 0
	for i := 0; i < len(k); i++ {
		switch k[i] {
		case 0:
			depth++
		case 1:
			i++
			if i == len(k) || k[i] != 1 && k[i] != 2 {
				return fmt.Errorf("%w: packed path %q has a broken escape", ErrPath, string(k))
			}
		}
	}
	if depth > MaxDepth {
		return &LimitError{What: "packed path", Size: depth, Limit: MaxDepth, Unit: "levels"}
	}
	if !utf8.ValidString(string(k)) { // escapes are ASCII, so they neither make nor mend UTF-8
		return fmt.Errorf("%w: packed path %q is not UTF-8", ErrPath, string(k))
	}
	return nil
}

// Path returns the path that k is the packed form of; k must have passed Check.
func (k PathKey) Path() Path {
	p := make(Path, 0, strings.Count(string(k), "\x00"))
	for len(k) > 0 {
		end := strings.IndexByte(string(k), 0)
		p = append(p, unescape(string(k[:end])))
		k = k[end+1:]
	}
	return p
}

func unescape(e string) string {
	if strings.IndexByte(e, 1) < 0 {
		return e
	}
	b := make([]byte, 0, len(e))
	for i := 0; i < len(e); i++ {
		if e[i] == 1 {
			i++
			b = append(b, e[i]-1)
		} else {
			b = append(b, e[i])
		}
	}
	return string(b)
}

// Contains reports whether o is k or below it.
func (k PathKey) Contains(o PathKey) bool { return strings.HasPrefix(string(o), string(k)) }

// Parent returns the packed form of the path without its last element; the parent of the empty path is
// the empty path.
func (k PathKey) Parent() PathKey {
	if k == "" {
		return k
	}
	return k[:strings.LastIndexByte(string(k[:len(k)-1]), 0)+1]
}

// Last returns the last element, "" for the empty path.
func (k PathKey) Last() string {
	if k == "" {
		return ""
	}
	return unescape(string(k[len(k.Parent()) : len(k)-1]))
}

func (k PathKey) String() string { return k.Path().String() }
