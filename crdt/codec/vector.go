package codec

import (
	"encoding/binary"
	"strconv"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// MaxVectorEntries bounds the replicas of a version vector. A replica ID lives for one boot of one machine, so
// it is what a thousand machines reach in years.
const MaxVectorEntries = 100_000

// AppendVector appends the packed form of vv: the number of entries, the greatest time (8 bytes, big endian), and for
// each entry in the order of replicas the replica (8 bytes, big endian) and how far its time lies below the
// greatest, as a varint. The empty vector is one zero byte. Like that of cells the form is canonical.
func AppendVector(dst []byte, vv crdt.VersionVector) []byte {
	dst = binary.AppendUvarint(dst, uint64(vv.Len()))
	if vv.Len() == 0 {
		return dst
	}
	top := vv.Max()
	dst = binary.BigEndian.AppendUint64(dst, uint64(top))
	for i := range vv.Len() {
		d := vv.At(i)
		dst = binary.BigEndian.AppendUint64(dst, uint64(d.Replica))
		dst = binary.AppendUvarint(dst, uint64(top-d.Time))
	}
	return dst
}

// ParseVector reads a vector from the front of b and returns the bytes that follow it. It refuses what AppendVector does not
// write, and more than MaxVectorEntries, before it allocates.
func ParseVector(b []byte) (vv crdt.VersionVector, rest []byte, err error) {
	r := reader{b: b}
	dots, err := r.readVector()
	if err != nil {
		return vv, b, &VectorError{Offset: r.at, Err: err}
	}
	vv, ok := crdt.SortedVector(dots)
	if !ok {
		return crdt.VersionVector{}, b, &VectorError{Offset: r.at, Err: malformed("replicas are not ascending from above zero, or without a time")}
	}
	return vv, b[r.at:], nil
}

// VectorError says where a packed version vector is wrong. Err wraps ErrFormat or crdt.ErrLimit.
type VectorError struct {
	Offset int // in bytes from the start of the vector
	Err    error
}

func (e *VectorError) Error() string {
	return "version vector, byte " + strconv.Itoa(e.Offset) + ": " + e.Err.Error()
}

func (e *VectorError) Unwrap() error { return e.Err }

func (r *reader) readVector() ([]crdt.Dot, error) {
	n, err := r.uvarint()
	if err != nil || n == 0 {
		return nil, err
	}
	if n > MaxVectorEntries {
		return nil, &crdt.LimitError{What: "version vector", Size: int(min(n, 1<<31-1)), Limit: MaxVectorEntries, Unit: "replicas"}
	}
	top, err := r.uint64()
	if err != nil {
		return nil, err
	}
	if n > uint64(r.left()/9) {
		return nil, errShort
	}
	dots := make([]crdt.Dot, n)
	reached := false
	for i := range dots {
		id, err := r.uint64()
		if err != nil {
			return nil, err
		}
		below, err := r.uvarint()
		if err != nil {
			return nil, err
		}
		if below >= top {
			return nil, malformed("a time of zero or below")
		}
		reached = reached || below == 0
		dots[i] = crdt.Dot{Replica: crdt.ReplicaID(id), Time: hlc.Time(top - below)}
	}
	if !reached {
		return nil, malformed("no entry has the greatest time")
	}
	return dots, nil
}
