package records

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Writer writes records in one of the formats. It holds no more than a buffer.
type Writer struct {
	w      *bufio.Writer
	format Format
	n      int64
}

// NewWriter returns a Writer; format is Lines, Array or Object.
func NewWriter(w io.Writer, format Format) (*Writer, error) {
	switch format {
	case Lines, Array, Object:
		return &Writer{w: bufio.NewWriterSize(w, startBuffer), format: format}, nil
	}
	return nil, fmt.Errorf("format %q: want %s, %s or %s", format, Lines, Array, Object)
}

// Write writes one document; doc is its JSON text. An error of the underlying writer comes back at the latest from Close.
func (w *Writer) Write(key string, doc []byte) error {
	name := AppendString(nil, key)
	switch w.format {
	case Lines:
		w.record(name, doc)
		w.w.WriteByte('\n')
	case Array:
		w.separate('[')
		w.record(name, doc)
	default:
		w.separate('{')
		w.w.Write(name)
		w.w.WriteByte(':')
		w.w.Write(doc)
	}
	w.n++
	_, err := w.w.Write(nil) // bufio keeps its first error and returns it from here on
	return err
}

func (w *Writer) record(name, doc []byte) {
	w.w.WriteString(`{"key":`)
	w.w.Write(name)
	w.w.WriteString(`,"doc":`)
	w.w.Write(doc)
	w.w.WriteByte('}')
}

// separate opens the bracket before the first record, and writes the comma before each other one.
func (w *Writer) separate(open byte) {
	if w.n == 0 {
		w.w.WriteByte(open)
	} else {
		w.w.WriteByte(',')
	}
	w.w.WriteByte('\n')
}

// Flush passes on what is buffered.
func (w *Writer) Flush() error { return w.w.Flush() }

// Close writes what ends the format, and flushes. It does not close the underlying writer.
func (w *Writer) Close() error {
	brackets := map[Format]string{Array: "[]", Object: "{}"}[w.format]
	if brackets != "" {
		if w.n == 0 {
			w.w.WriteByte(brackets[0])
		} else {
			w.w.WriteByte('\n')
		}
		w.w.WriteByte(brackets[1])
		w.w.WriteByte('\n')
	}
	return w.w.Flush()
}

// AppendString appends s, which is UTF-8, as a JSON string. Unlike json.Marshal it leaves <, > and & as they are.
func AppendString(dst []byte, s string) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("a string that does not marshal: " + err.Error())
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}
