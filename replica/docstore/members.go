package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

func memberKey(space uint32, p protocol.PeerID) []byte {
	return append(spaceKey(kindMember, space, len(p)), p[:]...)
}

// PutMember stores what is known of a member. Vectors that are too large for a value are not stored, and are then empty: they
// are lower bounds, and a peer can make up as many replicas as it likes.
func PutMember(b *store.Batch, space uint32, m protocol.Member) {
	key := memberKey(space, m.Peer)
	v := codec.AppendVector(make([]byte, 4), m.VV)
	var firm []byte
	if !m.Firm.Equal(m.VV) {
		firm = codec.AppendVector(nil, m.Firm)
	}
	if len(v)+len(firm) > store.MaxValueBytes-2*binary.MaxVarintLen64 {
		v, firm = codec.AppendVector(make([]byte, 4), crdt.VersionVector{}), nil
	}
	v = binary.AppendUvarint(v, uint64(m.Heard))
	v = binary.AppendUvarint(v, uint64(m.Evicted))
	v = append(v, firm...)
	b.Put(key, seal(key, v))
}

// ForgetMember forgets a member.
func ForgetMember(b *store.Batch, space uint32, p protocol.PeerID) { b.Delete(memberKey(space, p)) }

// Members returns what was stored of the members of a space, sorted by peer. A record of before there was more than a vector has
// zero times.
func Members(r store.Snapshot, space uint32) ([]protocol.Member, error) {
	var members []protocol.Member
	prefix := spaceKey(kindMember, space, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read the members: %w", err)
		}
		m, err := parseMember(e)
		if err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	return members, nil
}

func parseMember(e store.Entry) (m protocol.Member, err error) {
	b, err := unseal(e.Key, e.Value)
	if err != nil {
		return m, err
	}
	vv, rest, err := codec.ParseVector(b)
	if err != nil || len(e.Key) != 5+len(m.Peer) {
		return m, fmt.Errorf("%w: member %q: %w", ErrCorrupt, e.Key, err)
	}
	m = protocol.Member{Peer: protocol.PeerID(e.Key[5:]), VV: vv, Firm: vv}
	for _, t := range []*int64{&m.Heard, &m.Evicted} {
		n, size := binary.Uvarint(rest)
		if size < 0 || size == 0 && len(rest) > 0 || int64(n) < 0 {
			return m, fmt.Errorf("%w: member %q has no times", ErrCorrupt, e.Key)
		}
		*t, rest = int64(n), rest[size:]
	}
	if len(rest) == 0 {
		return m, nil
	}
	if m.Firm, rest, err = codec.ParseVector(rest); err != nil {
		return m, fmt.Errorf("%w: member %q: %w", ErrCorrupt, e.Key, err)
	}
	if len(rest) > 0 || !m.Firm.LessOrEqual(m.VV) {
		return m, fmt.Errorf("%w: member %q has %d bytes too many, or more whole than it has", ErrCorrupt, e.Key, len(rest))
	}
	return m, nil
}
