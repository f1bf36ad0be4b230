package docstore

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica/store"
)

const kindClient = 'k' // space, client → ClientRecord

// Bounds of a client's record.
const (
	// MaxRejections bounds the rejections that are remembered. One more has to wait until the client knows of some.
	MaxRejections = 256
	// maxGiven bounds the entries of ClientRecord.Given. It is more than the lanes of several lives.
	maxGiven = 256
)

// ClientRecord is what is kept of a client that is not a replica, so that each of its transactions is made once. It is written in
// the same batch as their effects.
type ClientRecord struct {
	Subject  string             // who used the ID first
	Last     uint64             // all transactions up to this number are settled
	Stamp    hlc.Time           // the greatest that the client was given
	Used     int64              // Unix milliseconds
	Given    crdt.VersionVector // covers the dots of its transactions, as they were when they were made
	Rejected []ClientRejection  // sorted by Seq; the others up to Last were accepted
}

// ClientRejection is a transaction that was refused for good.
type ClientRejection struct {
	Seq          uint64
	Code, Detail string
}

// Rejection returns that of a transaction, if it was rejected.
func (c *ClientRecord) Rejection(seq uint64) (ClientRejection, bool) {
	i, ok := slices.BinarySearchFunc(c.Rejected, seq, func(r ClientRejection, seq uint64) int { return cmp.Compare(r.Seq, seq) })
	if !ok {
		return ClientRejection{}, false
	}
	return c.Rejected[i], true
}

// Settle notes what became of the next transaction: its dot, zero if it changed nothing, and why it was rejected, nil if it was not.
func (c *ClientRecord) Settle(seq uint64, dot crdt.Dot, r *ClientRejection, stable crdt.VersionVector) {
	c.Last = seq
	if r != nil {
		c.Rejected = append(c.Rejected, ClientRejection{Seq: seq, Code: r.Code, Detail: r.Detail})
	}
	if dot.IsZero() {
		return
	}
	c.Given = c.Given.Clone()
	if c.Given.Get(dot.Replica) == 0 && c.Given.Len() >= maxGiven/2 {
		c.Given = c.Given.Beyond(stable) // the rest everybody has
	}
	if c.Given.Get(dot.Replica) == 0 && c.Given.Len() >= maxGiven {
		oldest := slices.MinFunc(slices.Collect(c.Given.All()), func(a, b crdt.Dot) int { return cmp.Compare(a.Time, b.Time) })
		c.Given.Remove(oldest.Replica)
	}
	c.Given.Advance(dot)
}

// StampAt returns the stamp of the client's next transaction: when it was made by the client's clock, but not after now by the node's, and
// not before its earlier ones. So a client whose clock is ahead hides nobody's writes for longer than its own are new, and its later
// transactions win over its earlier ones. at is zero if that is not known; dot is the time of the transaction itself.
func (c *ClientRecord) StampAt(at, now, dot hlc.Time) hlc.Time {
	stamp := min(at, now)
	if at == 0 {
		stamp = now
	}
	return max(1, min(max(stamp, c.Stamp), dot))
}

// Forget drops the rejections of transactions before floor.
func (c *ClientRecord) Forget(floor uint64) {
	n, _ := slices.BinarySearchFunc(c.Rejected, floor, func(r ClientRejection, seq uint64) int { return cmp.Compare(r.Seq, seq) })
	c.Rejected = slices.Clone(c.Rejected[n:])
}

func clientKey(space uint32, client crdt.ReplicaID) []byte { return ownKey(kindClient, space, client) }

// Client returns the record of a client; ok is false if there is none.
func (s *Space) Client(r Reader, client crdt.ReplicaID) (c ClientRecord, ok bool, err error) {
	key := clientKey(s.number, client)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return c, false, err
	}
	c, err = parseClient(key, value)
	return c, err == nil, err
}

// PutClient stores the record of a client.
func (s *Space) PutClient(b *store.Batch, client crdt.ReplicaID, c *ClientRecord) {
	key := clientKey(s.number, client)
	v := make([]byte, 4, 64+len(c.Subject)+16*c.Given.Len())
	v = appendText(v, c.Subject)
	for _, n := range []uint64{c.Last, uint64(c.Stamp), uint64(c.Used)} {
		v = binary.BigEndian.AppendUint64(v, n)
	}
	v = codec.AppendVector(v, c.Given)
	for _, r := range c.Rejected {
		v = binary.BigEndian.AppendUint64(v, r.Seq)
		v = appendText(appendText(v, r.Code), r.Detail)
	}
	b.Put(key, seal(key, v))
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

func takeText(b []byte) (text string, rest []byte, ok bool) {
	size, n := binary.Uvarint(b)
	if n <= 0 || size > uint64(len(b)-n) {
		return "", nil, false
	}
	b = b[n:]
	return string(b[:size]), b[size:], true
}

func parseClient(key, value []byte) (c ClientRecord, err error) {
	b, err := unseal(key, value)
	if err != nil {
		return c, err
	}
	bad := fmt.Errorf("%w: what is kept of client %q", ErrCorrupt, key)
	var ok bool
	if c.Subject, b, ok = takeText(b); !ok || len(b) < 24 || len(key) != 13 {
		return c, bad
	}
	c.Last, c.Stamp, c.Used = binary.BigEndian.Uint64(b), hlc.Time(binary.BigEndian.Uint64(b[8:])), int64(binary.BigEndian.Uint64(b[16:]))
	if c.Given, b, err = codec.ParseVector(b[24:]); err != nil {
		return c, fmt.Errorf("%w: %w", bad, err)
	}
	for len(b) > 0 {
		if len(b) < 8 || len(c.Rejected) == MaxRejections {
			return c, bad
		}
		r := ClientRejection{Seq: binary.BigEndian.Uint64(b)}
		if r.Code, b, ok = takeText(b[8:]); !ok {
			return c, bad
		}
		if r.Detail, b, ok = takeText(b); !ok {
			return c, bad
		}
		if n := len(c.Rejected); r.Seq > c.Last || n > 0 && r.Seq <= c.Rejected[n-1].Seq {
			return c, bad
		}
		c.Rejected = append(c.Rejected, r)
	}
	return c, nil
}

// ForgetClients deletes what is kept of clients that were not used since a time, in Unix milliseconds, and the former names of transactions
// that were re-issued before it. It looks at the next keys after a place, at most limit of them, and returns where it got, nil at the end.
func (s *Space) ForgetClients(over *Overlay, from []byte, before int64, limit int) (next []byte, err error) {
	for _, kind := range []byte{kindRenamed, kindClient} {
		prefix := spaceKey(kind, s.number, 0)
		start := prefix
		if bytes.HasPrefix(from, prefix) {
			start = from
		} else if bytes.Compare(from, prefix) > 0 {
			continue
		}
		for e, err := range over.Snapshot.Scan(start, after(prefix)) {
			if err != nil {
				return nil, fmt.Errorf("read what is kept of clients: %w", err)
			}
			if limit--; limit < 0 {
				return bytes.Clone(e.Key), nil
			}
			if !isForgettable(kind, e, before) {
				continue
			}
			key := bytes.Clone(e.Key)
			value, ok, err := over.Get(key) // it may have been used just now
			if err != nil {
				return nil, err
			}
			if ok && isForgettable(kind, store.Entry{Key: key, Value: value}, before) {
				over.Batch.Delete(key)
			}
		}
	}
	return nil, nil
}

// isForgettable leaves what cannot be read: it is damage, and reported as such.
func isForgettable(kind byte, e store.Entry, before int64) bool {
	if kind == kindClient {
		c, err := parseClient(e.Key, e.Value)
		return err == nil && c.Used < before
	}
	v, err := unseal(e.Key, e.Value)
	return err == nil && len(v) == 16 && hlc.Time(binary.BigEndian.Uint64(v[8:])).UnixMilli() < before
}

// clients checks that what is kept of clients can be read.
func (v *verifier) clients() error {
	for _, kind := range []byte{kindRenamed, kindClient} {
		prefix := spaceKey(kind, v.space, 0)
		for e, err := range v.r.Scan(prefix, after(prefix)) {
			if err != nil {
				return fmt.Errorf("read what is kept of clients: %w", err)
			}
			if err := v.step(); err != nil {
				return err
			}
			if kind == kindClient {
				_, err = parseClient(e.Key, e.Value)
			} else {
				_, err = unseal(e.Key, e.Value)
			}
			if err != nil {
				v.problem(false, fmt.Sprintf("client record %q", e.Key), "cannot be read (%v)", err)
			}
		}
	}
	return nil
}
