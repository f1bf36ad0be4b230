package mesh

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// A record is what is stored of a node:
//
//	version     1
//	seen        uvarint, Unix seconds; 0: never
//	addresses   for each: source, byte; heard and good, uvarint, Unix seconds; length, byte; text
//
// How often it failed, and where, is not stored: a restarted node tries again.

const recordVersion = 1

// ErrRecord is wrapped by the errors of a record that does not parse.
var ErrRecord = errors.New("malformed record of a peer's addresses")

// Dirty returns nodes whose records are to be stored, at most n, and takes them for stored; a node that is not in the book is to be
// forgotten.
func (b *Book) Dirty(n int) []protocol.PeerID {
	var list []protocol.PeerID
	for p := range b.dirty {
		if len(list) == n {
			break
		}
		list = append(list, p)
		delete(b.dirty, p)
	}
	return list
}

// Record appends the record of a node, and reports false if there is nothing to store of it.
func (b *Book) Record(dst []byte, p protocol.PeerID) ([]byte, bool) {
	k := b.peers[p]
	if k == nil || len(k.Addrs) == 0 {
		return dst, false
	}
	dst = append(dst, recordVersion)
	dst = appendTime(dst, k.Seen)
	for _, a := range k.Addrs {
		dst = append(dst, byte(a.Source))
		dst = appendTime(dst, a.Heard)
		dst = appendTime(dst, a.Good)
		dst = append(dst, byte(len(a.Addr)-1))
		dst = append(dst, a.Addr...)
	}
	return dst, true
}

// Restore takes a stored record into the book.
func (b *Book) Restore(p protocol.PeerID, record []byte) error {
	k, err := parseRecord(record)
	if err != nil {
		return err
	}
	k.Peer = p
	k.sort()
	b.peers[p] = k
	b.trim(p)
	return nil
}

func parseRecord(b []byte) (*Known, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: it begins with %x", ErrRecord, b[:min(len(b), 1)])
	}
	k := &Known{}
	b, err := parseTime(b[1:], &k.Seen)
	for err == nil && len(b) > 0 {
		var a Address
		if b, err = parseAddress(b, &a); err == nil && len(k.Addrs) == protocol.MaxAddrs {
			err = fmt.Errorf("%w: more than %d addresses", ErrRecord, protocol.MaxAddrs)
		}
		k.Addrs = append(k.Addrs, a)
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func parseAddress(b []byte, a *Address) ([]byte, error) {
	a.Source = Source(b[0])
	b, err := parseTime(b[1:], &a.Heard)
	if err != nil {
		return nil, err
	}
	if b, err = parseTime(b, &a.Good); err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b) < int(b[0])+2 {
		return nil, fmt.Errorf("%w: it ends within an address", ErrRecord)
	}
	n := int(b[0]) + 1
	if a.Addr = string(b[1 : 1+n]); !utf8.ValidString(a.Addr) {
		return nil, fmt.Errorf("%w: address %q is not UTF-8", ErrRecord, a.Addr)
	}
	return b[1+n:], nil
}

// maxSeconds keeps times within what a time.Time computes with.
const maxSeconds = 1 << 40

func appendTime(dst []byte, t time.Time) []byte {
	return binary.AppendUvarint(dst, uint64(min(max(t.Unix(), 0), maxSeconds)))
}

func parseTime(b []byte, t *time.Time) ([]byte, error) {
	s, n := binary.Uvarint(b)
	if n <= 0 || s > maxSeconds {
		return nil, fmt.Errorf("%w: a time", ErrRecord)
	}
	if s > 0 {
		*t = time.Unix(int64(s), 0).UTC()
	}
	return b[n:], nil
}
