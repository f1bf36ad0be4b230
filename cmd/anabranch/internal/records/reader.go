package records

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format says how records stand in a file.
type Format string

// The formats. Auto looks at the beginning of the input.
const (
	Auto   Format = "auto"
	Lines  Format = "jsonl"
	Array  Format = "array"
	Object Format = "object"
)

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Auto, Lines, Array, Object:
		return f, nil
	}
	return "", fmt.Errorf("format %q: want %s, %s, %s or %s", s, Auto, Lines, Array, Object)
}

// Record is one record as it stands in the input.
type Record struct {
	Line  int    // where it begins, from 1
	Index int64  // its number in the input, from 1
	Key   string // in an Object, the member's name
	Bytes []byte // the JSON text, not yet checked; valid until the next call of Next
}

// Error says what is wrong, and where.
type Error struct {
	Name  string // of the input
	Line  int
	Index int64 // number of the record
	Err   error
	Fatal bool // there is no way to find the next record
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s:%d: record %d: %v", e.Name, e.Line, e.Index, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// ErrTooLong is wrapped by the Error of a record over MaxRecordBytes.
var ErrTooLong = fmt.Errorf("record of more than %d MiB of text", MaxRecordBytes>>20)

// Position is where a Reader stands between two records. It holds all that another Reader needs to go on.
type Position struct {
	Format  Format `json:"format"`
	Offset  int64  `json:"offset"`  // bytes of the input passed
	Line    int    `json:"line"`    // at that offset
	Records int64  `json:"records"` // records passed, bad ones included
}

// Reader splits an input into its records.
type Reader struct {
	s       scanner
	name    string
	format  Format
	opened  bool // the bracket of an Array or Object is passed
	done    bool
	records int64
}

// NewReader returns a Reader of src. name stands in errors; with Auto its ending decides where the content leaves a doubt,
// and as much of the input is waited for as it takes to decide, 64 KiB at most.
func NewReader(src io.Reader, name string, format Format) (*Reader, error) {
	r := &Reader{s: newScanner(src), name: name, format: format}
	if c, ok := r.s.peek(); ok && c == byteOrderMark[0] { // some editors leave one
		for range len(byteOrderMark) - 1 {
			r.s.grow()
		}
		if bytes.HasPrefix(r.s.buf, byteOrderMark) {
			r.s.pos = len(byteOrderMark)
		}
	}
	if format == Auto {
		f, err := r.s.detect(name)
		if err != nil {
			return nil, r.errorf(r.s.line, true, "%w", err)
		}
		r.format = f
	}
	return r, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// ResumeReader returns a Reader of src, whose first byte is the one at p.Offset.
func ResumeReader(src io.Reader, name string, p Position) *Reader {
	r := &Reader{s: newScanner(src), name: name, format: p.Format, records: p.Records, opened: p.Records > 0}
	r.s.base, r.s.line = p.Offset, p.Line
	return r
}

// Position returns where the Reader stands: behind the record that Next returned last, or the bad one.
func (r *Reader) Position() Position {
	return Position{Format: r.format, Offset: r.s.offset(), Line: r.s.line, Records: r.records}
}

// Format returns the format, as given or found out.
func (r *Reader) Format() Format { return r.format }

// Name returns the name of the input.
func (r *Reader) Name() string { return r.name }

// Next returns the next record, or io.EOF behind the last one. An error that is not io.EOF is an *Error; if it is not
// Fatal, the next call goes on behind it.
func (r *Reader) Next() (Record, error) {
	if r.done {
		return Record{}, io.EOF
	}
	var rec Record
	var err error
	switch r.format {
	case Lines:
		rec, err = r.nextLine()
	default:
		rec, err = r.nextElement()
	}
	var e *Error
	if err == io.EOF || errors.As(err, &e) && e.Fatal {
		r.done = true
	}
	return rec, err
}

// nextLine returns the next line that is not blank.
func (r *Reader) nextLine() (Record, error) {
	if _, ok := r.s.skipSpace(); !ok {
		return Record{}, r.end()
	}
	line := r.s.line
	r.s.begin()
	r.s.skipLine()
	text := r.s.token()
	if r.s.err != nil && r.s.err != io.EOF && r.s.pos == len(r.s.buf) {
		return Record{}, r.end() // the line may not be whole
	}
	r.records++
	if r.s.tooLong {
		return Record{}, r.errorf(line, false, "%w", ErrTooLong)
	}
	return Record{Line: line, Index: r.records, Bytes: bytes.TrimRight(text, " \t\r\n")}, nil
}

// nextElement returns the next element of an array or member of an object.
func (r *Reader) nextElement() (Record, error) {
	open, closing := byte('['), byte(']')
	if r.format == Object {
		open, closing = '{', '}'
	}
	c, ok := r.s.skipSpace()
	first := !r.opened
	if first {
		if !ok || c != open {
			return Record{}, r.unexpected(c, ok, fmt.Sprintf("%q, which begins the %s", open, r.format))
		}
		r.s.take()
		r.opened = true
		c, ok = r.s.skipSpace()
	}
	switch {
	case ok && c == closing:
		r.s.take()
		return Record{}, r.trailer()
	case !first:
		if !ok || c != ',' {
			return Record{}, r.unexpected(c, ok, fmt.Sprintf("a comma or %q", closing))
		}
		r.s.take()
		c, ok = r.s.skipSpace()
	}
	if !ok || c == ',' || c == ']' || c == '}' || c == ':' {
		return Record{}, r.unexpected(c, ok, "a value")
	}
	rec := Record{Line: r.s.line}
	if r.format == Object {
		key, err := r.memberName()
		if err != nil {
			return Record{}, err
		}
		rec.Key = key
	}
	return r.element(rec)
}

func (r *Reader) element(rec Record) (Record, error) {
	r.s.begin()
	if !r.s.skipValue() {
		if r.s.err != io.EOF {
			return Record{}, r.end()
		}
		return Record{}, r.errorf(rec.Line, true, "the record does not end: the input is cut short, or a bracket or quote is not closed")
	}
	text := r.s.token()
	r.records++
	if r.s.tooLong {
		return Record{}, r.errorf(rec.Line, false, "%w", ErrTooLong)
	}
	rec.Index, rec.Bytes = r.records, text
	return rec, nil
}

// memberName passes the name of a member and the colon. A name that is a string, but no valid one, is returned
// as it stands: the record is refused by its key, and the next one is found.
func (r *Reader) memberName() (string, error) {
	c, ok := r.s.peek()
	if !ok || c != '"' {
		return "", r.unexpected(c, ok, "a key in quotes")
	}
	r.s.begin()
	ended := r.s.skipString()
	quoted := r.s.token()
	if !ended {
		return "", r.unexpected(0, false, "the end of the key")
	}
	name, err := unquote(quoted)
	if err != nil {
		name = string(quoted[:min(len(quoted), 80)]) + "\xff" // CheckKey refuses what is not UTF-8
	}
	if c, ok = r.s.skipSpace(); !ok || c != ':' {
		return "", r.unexpected(c, ok, "a colon")
	}
	r.s.take()
	if c, ok = r.s.skipSpace(); !ok || c == ',' || c == '}' || c == ']' {
		return "", r.unexpected(c, ok, "a value")
	}
	return name, nil
}

// trailer makes sure that nothing follows the closing bracket.
func (r *Reader) trailer() error {
	if c, ok := r.s.skipSpace(); ok {
		r.records++
		return r.unexpected(c, ok, "the end of the input")
	}
	return r.end()
}

// end returns why there is no more input.
func (r *Reader) end() error {
	if r.s.err == nil || r.s.err == io.EOF {
		return io.EOF
	}
	return r.errorf(r.s.line, true, "read: %w", r.s.err)
}

func (r *Reader) unexpected(c byte, ok bool, want string) error {
	if !ok {
		if r.s.err != nil && r.s.err != io.EOF {
			return r.end()
		}
		return r.errorf(r.s.line, true, "the input ends where %s should be: it is cut short, or not %s", want, r.describe())
	}
	return r.errorf(r.s.line, true, "%q where %s should be", c, want)
}

func (r *Reader) describe() string {
	if r.format == Array {
		return "a JSON array"
	}
	return "a JSON object"
}

func (r *Reader) errorf(line int, fatal bool, format string, args ...any) error {
	index := r.records
	if fatal {
		index++
	}
	return &Error{Name: r.name, Line: line, Index: index, Err: fmt.Errorf(format, args...), Fatal: fatal}
}

// Bad returns the error of a record that turned out to be bad inside.
func (r *Reader) Bad(rec Record, err error) error {
	return &Error{Name: r.name, Line: rec.Line, Index: rec.Index, Err: err}
}
