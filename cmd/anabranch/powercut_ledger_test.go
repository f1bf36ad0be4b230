//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
)

// The node whose power is cut keeps a ledger on another file system, which has power: one line before it asks for a write,
// one when the write is acknowledged, one when it is told that a peer has it. A process that is killed does not take back
// what it has handed to the system, so the ledger needs no sync.

// cutLine is one line of the ledger.
type cutLine struct {
	What   string   `json:"what"` // try, ack, synced, seen, cut
	N      int64    `json:"n,omitempty"`
	Writer int      `json:"writer"`
	Keys   []string `json:"keys,omitempty"`
	Size   int      `json:"size,omitempty"` // bytes of body in each document
	Dot    crdt.Dot `json:"dot,omitzero"`

	Seen *cutContents `json:"seen,omitempty"`

	// How long the ledger was right before and right after the power was cut. What was acknowledged in between is in doubt: an
	// fsync that is under way in that moment may come back without an error, which it never does when there is no power.
	Before int64 `json:"before,omitempty"`
	After  int64 `json:"after,omitempty"`
}

// cutContents is what a store showed.
type cutContents struct {
	Vector []crdt.Dot         `json:"vector"`
	Shown  map[string]cutBody `json:"shown"`
	Counts map[int]int64      `json:"counts"` // by writer: how many of its transactions are in
}

// cutBody is the number of the write that a document shows, and a hash and the length of what came with it.
type cutBody struct {
	N    int64  `json:"n"`
	Sum  uint64 `json:"sum"`
	Size int    `json:"size"`
}

// cutWrite is a transaction that was tried. Its number is unique, and greater than that of any earlier one of its writer;
// a document is written by one writer alone.
type cutWrite struct {
	cutLine

	tried, ackedAt int64 // where in the ledger
	acked, synced  bool
	late           bool // begun and acknowledged when there was no disk any more
	doubt          bool // acknowledged in the moment of the cut
}

// cutLedger is a ledger as read from its file.
type cutLedger struct {
	writes map[int64]*cutWrite
	last   int64
	seen   *cutContents // at the opening before
}

func openCutLedger(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
}

func (e cutLine) writeTo(f *os.File) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return err
}

// appendTo adds a line behind the last whole one.
func (e cutLine) appendTo(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if whole := bytes.LastIndexByte(text, '\n') + 1; whole < len(text) {
		if err := os.Truncate(path, int64(whole)); err != nil {
			return err
		}
	}
	f, err := openCutLedger(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return e.writeTo(f)
}

func readCutLedger(path string) (*cutLedger, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	l := &cutLedger{writes: make(map[int64]*cutWrite)}
	at := int64(0)
	for line := range bytes.Lines(text) {
		at += int64(len(line))
		var e cutLine
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w in %q", path, err, line)
		}
		l.add(e, at)
	}
	return l, nil
}

// add adds the line that ends at this offset.
func (l *cutLedger) add(e cutLine, at int64) {
	w := l.writes[e.N]
	switch e.What {
	case "try":
		l.writes[e.N] = &cutWrite{cutLine: e, tried: at}
		l.last = max(l.last, e.N)
	case "ack":
		w.acked, w.ackedAt, w.Dot = true, at, e.Dot
	case "synced":
		w.synced = true
	case "seen":
		l.seen = e.Seen
	case "cut":
		for _, w := range l.writes {
			w.late = w.late || w.acked && w.tried > e.After
			w.doubt = w.doubt || w.acked && w.ackedAt > e.Before
			w.acked = w.acked && w.ackedAt <= e.Before
		}
	}
}

// cutVerdict is what the comparison of a store with the ledger says.
type cutVerdict struct {
	Acked  int     `json:"acked"`
	Lost   []int64 `json:"lost"`   // acknowledged writes that the store does not have
	Synced []int64 `json:"synced"` // writes acknowledged by a peer that the store does not have
	Late   []int64 `json:"late"`   // writes begun and acknowledged when there was no disk any more
	Doubt  int     `json:"doubt"`  // writes acknowledged in the moment of a cut that the store does not have
	// Wrong: what no loss explains. Other writes are missing than the newest of a replica, half a transaction is there, a
	// body is not the one that was written, or what was there at the last opening is not there now.
	Wrong []string `json:"wrong"`
}

// judge compares. The vector says which writes the store claims to have: of each replica all up to some time, so what
// is lost is always the newest; and the documents must show exactly that.
func (l *cutLedger) judge(c cutContents) cutVerdict {
	var v cutVerdict
	wrong := func(format string, args ...any) { v.Wrong = append(v.Wrong, fmt.Sprintf(format, args...)) }
	vv := crdt.NewVersionVector(c.Vector...)
	least, counted, tried := make(map[string]int64), make(map[int]int64), make(map[int]int64)
	for n, w := range l.writes {
		tried[w.Writer]++
		if w.late {
			v.Late = append(v.Late, n)
		}
		if w.synced && !vv.Covers(w.Dot) {
			v.Synced = append(v.Synced, n)
		}
		if w.doubt && !vv.Covers(w.Dot) {
			v.Doubt++
		}
		if !w.acked {
			continue
		}
		v.Acked++
		if vv.Covers(w.Dot) {
			counted[w.Writer]++
			for _, key := range w.Keys {
				least[key] = max(least[key], n)
			}
			continue
		}
		tried[w.Writer]-- // it must not be there
		v.Lost = append(v.Lost, n)
	}
	for key, n := range least {
		if got := c.Shown[key].N; got < n {
			wrong("%s shows write %d, though the vector covers write %d", key, got, n)
		}
	}
	for key := range c.Shown {
		l.judgeDocument(key, c, vv, wrong)
	}
	for writer, n := range tried {
		if got := c.Counts[writer]; got < counted[writer] || got > n {
			wrong("writer %d has %d transactions in its counter, not %d to %d", writer, got, counted[writer], n)
		}
	}
	for _, list := range [][]int64{v.Lost, v.Synced, v.Late} {
		slices.Sort(list)
	}
	return v
}

func (l *cutLedger) judgeDocument(key string, c cutContents, vv crdt.VersionVector, wrong func(string, ...any)) {
	got := c.Shown[key]
	w := l.writes[got.N]
	switch {
	case w == nil || !slices.Contains(w.Keys, key):
		wrong("%s shows write %d, which never was", key, got.N)
	case w.acked && !vv.Covers(w.Dot):
		wrong("%s shows write %d, which the vector does not cover", key, got.N)
	case slices.ContainsFunc(w.Keys, func(other string) bool { return c.Shown[other].N < got.N }):
		wrong("of write %d of %v there is a part", got.N, w.Keys)
	case got.Size != w.Size || got.Sum != sumCutBody(cutBodyOf(got.N, key, w.Size)):
		wrong("%s has not the %d bytes that write %d gave it", key, w.Size, got.N)
	}
}

// wentBack says what was there at the opening before and is not there now. Whatever an opened store shows stays.
func (l *cutLedger) wentBack(c cutContents) (back []string) {
	if l.seen == nil {
		return nil
	}
	if was, is := crdt.NewVersionVector(l.seen.Vector...), crdt.NewVersionVector(c.Vector...); !was.LessOrEqual(is) {
		back = append(back, fmt.Sprintf("the vector was %v at the opening before and is %v", was, is))
	}
	for key, was := range l.seen.Shown {
		if is := c.Shown[key]; is.N < was.N {
			back = append(back, fmt.Sprintf("%s showed write %d at the opening before and shows %d", key, was.N, is.N))
		}
	}
	return back
}

// cutBodyOf returns bytes that do not compress, the same each time.
func cutBodyOf(n int64, key string, size int) []byte {
	var seed [32]byte
	copy(seed[:], fmt.Sprintf("%d %s", n, key))
	body := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(body) // never fails
	return body
}

func sumCutBody(body []byte) uint64 {
	h := fnv.New64a()
	h.Write(body)
	return h.Sum64()
}
