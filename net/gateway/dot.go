package gateway

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// A dot is written as 22 characters: the replica and the time, big endian, in base64 for URLs without padding. Clients only compare
// them.

func appendDot(dst []byte, d crdt.Dot) []byte {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(d.Replica))
	binary.BigEndian.PutUint64(b[8:], uint64(d.Time))
	return base64.RawURLEncoding.AppendEncode(dst, b[:])
}

func parseDot(text string) (crdt.Dot, error) {
	var b [18]byte
	if n, err := base64.RawURLEncoding.Strict().Decode(b[:], []byte(text[:min(len(text), 24)])); err != nil || n != 16 || len(text) != 22 {
		return crdt.Dot{}, fmt.Errorf("%.40q is not a dot: 22 characters of base64", text)
	}
	d := crdt.Dot{Replica: crdt.ReplicaID(binary.BigEndian.Uint64(b[:])), Time: hlc.Time(binary.BigEndian.Uint64(b[8:]))}
	if d.Replica == 0 || d.Time == 0 {
		return crdt.Dot{}, fmt.Errorf("%q is not a dot: its replica and its time must not be zero", text)
	}
	return d, nil
}

// parseClientID reads the ID of a client, 16 hex digits.
func parseClientID(text string) (crdt.ReplicaID, error) {
	id, err := crdt.ParseReplicaID(text)
	if err != nil || id == 0 || id.String() != text {
		return 0, fmt.Errorf("%.40q is not a client ID: 16 hex digits in lower case, not all zero", text)
	}
	return id, nil
}
