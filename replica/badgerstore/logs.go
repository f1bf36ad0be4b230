package badgerstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/anabranch-db/anabranch/replica/store"
)

// Badger writes each transaction to a log before the memtable:
//
//	log:    key ID and IV (20 bytes), entries, zeros to the end of the file
//	entry:  meta, user meta (1 each), key length, value length, expiry (varints), key with its time, value, crc32c (4)
//
// and ends it with an entry whose key is "!badger!txn". When it replays a log it stops at the first entry that is
// not right, and silently cuts off the rest. That is right for a torn write at the end and wrong for anything else. Our
// commits are numbered without a gap, so we can tell.

const (
	logHeaderBytes  = 20
	maxEntryHeader  = 2 + 5 + 5 + 10
	metaFinTxn      = 1 << 7
	maxLogKeyBytes  = store.MaxKeyBytes + 1 + 8
	maxLogTextBytes = maxLogKeyBytes + store.MaxValueBytes
)

var txnMark = []byte("!badger!txn")

// logEnd is why a scan of a log ended.
type logEnd int

const (
	endZeros  logEnd = iota // nothing more was written
	endFile                 // the file ends right after an entry
	endShort                // the file ends within an entry
	endJunk                 // what follows is no entry
	endAsked                // the caller wanted no more
	endHeader               // the file does not begin as ours do
)

// scanLog calls each for every complete transaction, with its time and where it ends, until that returns
// false. open says whether entries without an end of their transaction came last.
func scanLog(path string, each func(ts uint64, end int64) bool) (end logEnd, open bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	var header [logHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return endShort, false, nil
		}
		return 0, false, err
	}
	if !allZero(header[:8]) { // the encryption key; we have none
		return endHeader, false, nil
	}
	at := int64(logHeaderBytes)
	var buf []byte
	for {
		var e logEntry
		if e, buf, err = readEntry(r, buf); err != nil {
			return 0, open, err
		}
		if e.end >= 0 {
			return e.end, open, nil
		}
		at += int64(e.size)
		open = !e.fin
		if e.fin && !each(e.ts, at) {
			return endAsked, false, nil
		}
	}
}

// logEntry is an entry or, if end is not negative, why there is none.
type logEntry struct {
	end  logEnd
	size int
	fin  bool
	ts   uint64
}

// readEntry returns an error only if the file cannot be read.
func readEntry(r *bufio.Reader, buf []byte) (logEntry, []byte, error) {
	head, err := r.Peek(maxEntryHeader)
	if err != nil && !errors.Is(err, io.EOF) {
		return logEntry{}, buf, err
	}
	if len(head) == 0 {
		return logEntry{end: endFile}, buf, nil
	}
	h, ok := parseHeader(head)
	switch {
	case allZero(head):
		return logEntry{end: endZeros}, buf, nil
	case !ok && len(head) < maxEntryHeader:
		return logEntry{end: endShort}, buf, nil
	case !ok:
		return logEntry{end: endJunk}, buf, nil
	}
	size := h.size + h.klen + h.vlen + crc32.Size
	if cap(buf) < size {
		buf = make([]byte, 2*size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			return logEntry{end: endShort}, buf, nil
		}
		return logEntry{}, buf, err
	}
	e, ok := parseEntry(h, buf)
	if !ok {
		return logEntry{end: endJunk}, buf, nil
	}
	return e, buf, nil
}

type entryHeader struct {
	fin              bool
	size, klen, vlen int
}

// parseHeader reports false if this is none, or none that we would have written.
func parseHeader(b []byte) (h entryHeader, ok bool) {
	if len(b) < 2 {
		return h, false
	}
	at := 2
	var n [3]uint64
	for i := range n {
		v, size := binary.Uvarint(b[at:])
		if size <= 0 {
			return h, false
		}
		n[i] = v
		at += size
	}
	if n[0] < 8 || n[0] > maxLogKeyBytes || n[1] > store.MaxValueBytes {
		return h, false
	}
	return entryHeader{fin: b[0]&metaFinTxn != 0, size: at, klen: int(n[0]), vlen: int(n[1])}, true
}

// parseEntry compares the checksum and takes the time from the key.
func parseEntry(h entryHeader, b []byte) (logEntry, bool) {
	body, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return logEntry{}, false
	}
	key := body[h.size : h.size+h.klen]
	e := logEntry{end: -1, size: len(b), fin: h.fin, ts: math.MaxUint64 - binary.BigEndian.Uint64(key[len(key)-8:])}
	if h.fin {
		ts, err := strconv.ParseUint(string(body[h.size+h.klen:]), 10, 64)
		if err != nil || ts != e.ts || !bytes.HasPrefix(key, txnMark) {
			return logEntry{}, false
		}
	}
	return e, true
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// lastEndBeyond returns the greatest time of the transactions whose end, at least, is intact somewhere
// after from: what a damaged entry before it would make Badger drop. 0 if there is none.
func lastEndBeyond(path string, from int64) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// Pieces overlap by more than an end entry takes, which is some 50 bytes.
	const piece, overlap = 1 << 20, 128
	buf := make([]byte, piece)
	var last uint64
	for at := from; ; at += piece - overlap {
		n, err := f.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		last = max(last, lastEndIn(buf[:n]))
		if n < piece {
			return last, nil
		}
	}
}

func lastEndIn(b []byte) (last uint64) {
	for at := 0; ; {
		i := bytes.Index(b[at:], txnMark)
		if i < 0 {
			return last
		}
		at += i
		// Two bytes of meta and three varints of one byte each are before the key, for any time that fits.
		if head := at - 5; head >= 0 {
			if h, ok := parseHeader(b[head:]); ok && h.fin && h.size == 5 {
				if size := h.size + h.klen + h.vlen + crc32.Size; head+size <= len(b) {
					if e, ok := parseEntry(h, b[head:head+size]); ok {
						last = max(last, e.ts)
					}
				}
			}
		}
		at += len(txnMark)
	}
}

// logFiles returns the paths of the logs, oldest first.
func logFiles(data string) ([]string, error) {
	entries, err := os.ReadDir(data)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]uint64)
	var paths []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), logSuffix) {
			continue
		}
		id, err := logNumber(e.Name())
		if err != nil {
			return nil, err
		}
		path := filepath.Join(data, e.Name())
		ids[path] = id
		paths = append(paths, path)
	}
	slices.SortFunc(paths, func(a, b string) int { return int(ids[a]) - int(ids[b]) })
	return paths, nil
}

// logNumber returns the number that a log is named by.
func logNumber(path string) (uint64, error) {
	name := filepath.Base(path)
	n, err := strconv.ParseUint(strings.TrimSuffix(name, logSuffix), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("the file %s is none of ours", name)
	}
	return n, nil
}
