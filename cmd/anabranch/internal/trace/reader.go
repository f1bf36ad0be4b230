package trace

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// MaxLineBytes bounds a line. Those of real histories have up to half a megabyte.
const MaxLineBytes = 64 << 20

// Error says where a trace is wrong.
type Error struct {
	File string
	Line int // from 1; 0: the file as a whole
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s: line %d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Reader reads the lines of a trace, one at a time.
type Reader struct {
	name string
	in   *bufio.Reader
	file io.Closer
	line int
	buf  []byte
}

// Open opens a trace file, compressed or not.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the trace: %w", err)
	}
	r, err := NewReader(filepath.Base(path), f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.file = f
	return r, nil
}

// NewReader reads a trace from in; name is what errors call it.
func NewReader(name string, in io.Reader) (*Reader, error) {
	plain, err := decompress(in)
	if err != nil {
		return nil, &Error{File: name, Err: err}
	}
	return &Reader{name: name, in: plain}, nil
}

// decompress tells gzip by its first two bytes.
func decompress(in io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(in, 64<<10)
	if magic, _ := b.Peek(2); !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("it begins like a gzip file and is none: %w", err)
	}
	return bufio.NewReaderSize(z, 64<<10), nil
}

// Next returns the next line, or io.EOF. Empty lines are passed over. Nothing of the line is shared with the reader.
func (r *Reader) Next() (*Line, error) {
	for {
		text, err := r.readLine()
		if err == io.EOF {
			return nil, io.EOF
		}
		if err != nil {
			return nil, &Error{r.name, r.line, err}
		}
		if len(text) == 0 {
			continue
		}
		l, err := parseLine(text)
		if err != nil {
			return nil, &Error{r.name, r.line, err}
		}
		l.Number = r.line
		return l, nil
	}
}

// readLine returns the next line without its end, valid until the next call.
func (r *Reader) readLine() ([]byte, error) {
	r.line++
	r.buf = r.buf[:0]
	for {
		part, err := r.in.ReadSlice('\n')
		if len(r.buf)+len(part) > MaxLineBytes {
			return nil, fmt.Errorf("it is longer than %d bytes", MaxLineBytes)
		}
		r.buf = append(r.buf, part...)
		switch {
		case err == nil, errors.Is(err, io.EOF) && len(r.buf) > 0:
			return bytes.TrimRight(r.buf, "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// Close closes the file that Open opened.
func (r *Reader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
