package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"
)

// table is output for people: columns under headings, without decoration, so that it needs no colours to be taken away.
type table struct {
	rows [][]string
}

func newTable(headings ...string) *table { return &table{rows: [][]string{headings}} }

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) empty() bool { return len(t.rows) == 1 }

func (t *table) write(w io.Writer) error {
	out := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, r := range t.rows {
		fmt.Fprintln(out, strings.TrimRight(strings.Join(r, "\t"), "\t"))
	}
	return out.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// printable returns a text as it is if it can stand on a line, and else quoted, so that a text from a peer cannot
// steer the terminal or pretend to be several.
func printable(text string) string {
	for _, r := range text {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(text)
		}
	}
	return text
}

func newLineWriter(w io.Writer) *bufio.Writer { return bufio.NewWriterSize(w, 32<<10) }

// bytesText returns a number of bytes for people.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	f := float64(n)
	i := 0
	for f >= 1024 && i < len(units)-1 {
		f /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
