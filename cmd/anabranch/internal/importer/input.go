package importer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/zeebo/xxh3"
)

// Input is what is imported.
type Input struct {
	Name   string // for errors
	Reader io.Reader
	Size   int64 // in bytes; 0 if it is not known
	// Rewind goes back to the beginning. Nil for a pipe.
	Rewind func() error
}

// ErrChanged says that an input which began like that of an interrupted import goes on differently.
var ErrChanged = errors.New("the input has changed since it was imported in part")

// opened is an input, behind what was imported before.
type opened struct {
	source     *hashedReader
	checkpoint *checkpoint
	resumed    bool
	changed    bool // there was a checkpoint, but the input is not what it was
}

// open finds out whether the input was imported in part before, and goes to the place.
func open(in Input, o Options) (opened, error) {
	fresh := opened{
		source:     &hashedReader{r: in.Reader, h: xxh3.New()},
		checkpoint: &checkpoint{Space: o.Space, Key: o.Key, Format: o.Format},
	}
	candidates := findCheckpoints(o.CheckpointDir, o, time.Now())
	if len(candidates) == 0 {
		return fresh, nil // and a slow pipe is not waited for
	}
	buffered := bufio.NewReaderSize(in.Reader, headBytes)
	fresh.source.r = buffered
	head, err := buffered.Peek(headBytes)
	if err != nil && err != io.EOF {
		return fresh, err
	}
	var found *checkpoint
	for _, c := range candidates {
		if int64(len(head)) < c.HeadBytes || hashOf(head[:c.HeadBytes]) != c.HeadHash {
			continue
		}
		if o.Restart {
			if err := c.remove(); err != nil {
				return fresh, err
			}
			continue
		}
		if found == nil || c.Position.Offset > found.Position.Offset {
			found = c
		}
	}
	if found == nil {
		return fresh, nil
	}
	return goOn(in, found, fresh, buffered)
}

func goOn(in Input, c *checkpoint, fresh opened, buffered *bufio.Reader) (opened, error) {
	h := xxh3.New()
	n, err := io.CopyN(h, buffered, c.Position.Offset)
	if err != nil && err != io.EOF {
		return fresh, err
	}
	if n == c.Position.Offset && hashText(h) == c.Hash {
		return opened{source: &hashedReader{r: buffered, h: h, hashed: n, first: headBytes}, checkpoint: c, resumed: true}, nil
	}
	if in.Rewind == nil {
		return fresh, fmt.Errorf("%w: give it again as it was, or start from its beginning with --restart", ErrChanged)
	}
	if err := in.Rewind(); err != nil {
		return fresh, err
	}
	fresh.source.r, fresh.changed = in.Reader, true
	fresh.checkpoint.path = c.path // it is of no further use
	return fresh, nil
}

func hashOf(b []byte) string {
	h := xxh3.New()
	_, _ = h.Write(b) // it never fails
	return hashText(h)
}

// hashedReader knows the hash of everything that was read, up to any place that is not before the last one asked for.
type hashedReader struct {
	r      io.Reader
	h      *xxh3.Hasher
	hashed int64  // bytes in h
	ahead  []byte // read, but not hashed yet
	used   int    // of ahead
	// The hash of the beginning, taken at the first place asked for.
	first    int64
	headHash string
}

func (r *hashedReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if r.used > len(r.ahead)/2 { // so that a byte is moved once, on the average
		r.ahead = r.ahead[:copy(r.ahead, r.ahead[r.used:])]
		r.used = 0
	}
	r.ahead = append(r.ahead, p[:n]...)
	return n, err
}

// upTo returns the hash of everything before offset.
func (r *hashedReader) upTo(offset int64) string {
	if r.first == 0 { // the place after the first record
		r.first = min(offset, headBytes)
		r.take(r.first)
		r.headHash = hashText(r.h)
	}
	r.take(offset)
	return hashText(r.h)
}

func (r *hashedReader) take(offset int64) {
	n := min(int(offset-r.hashed), len(r.ahead)-r.used)
	if n <= 0 {
		return
	}
	_, _ = r.h.Write(r.ahead[r.used : r.used+n])
	r.used += n
	r.hashed += int64(n)
}
