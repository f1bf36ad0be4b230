package docstore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/replica/grant"
	"github.com/anabranch-db/anabranch/replica/protocol"
	"github.com/anabranch-db/anabranch/replica/store"
)

// What a space with a key of its own keeps beside its documents: who may do what, and which tickets are out. It is no part of the
// documents, so nothing that users read, prune or export can touch it.
const (
	kindOwner     = 'O' // space → its ID, and where it was joined
	kindStatement = 'G' // space, statement ID → a grant or a revocation
	kindTicket    = 'T' // space, ticket ID → what is kept of a ticket that this node gave
)

// Owner is what makes a space one with a key.
type Owner struct {
	ID    grant.SpaceID
	Homes []Home // nodes of the space that were told of when it was joined
}

// Home is a node and one of its addresses.
type Home struct {
	Peer protocol.PeerID
	Addr string
}

// MaxHomes bounds Owner.Homes.
const MaxHomes = 32

// PutOwner stores the owner of a space.
func PutOwner(b *store.Batch, space uint32, o Owner) {
	key := spaceKey(kindOwner, space, 0)
	v := append(make([]byte, 4, 64), o.ID[:]...)
	for _, h := range o.Homes[max(0, len(o.Homes)-MaxHomes):] {
		v = append(v, h.Peer[:]...)
		v = append(v, byte(len(h.Addr)))
		v = append(v, h.Addr...)
	}
	b.Put(key, seal(key, v))
}

// LoadOwner returns the owner of a space; ok is false if it has no key.
func LoadOwner(r store.Snapshot, space uint32) (o Owner, ok bool, err error) {
	key := spaceKey(kindOwner, space, 0)
	value, ok, err := r.Get(key)
	if err != nil || !ok {
		return o, false, err
	}
	b, err := unseal(key, value)
	if err != nil {
		return o, false, err
	}
	if len(b) < len(o.ID) {
		return o, false, fmt.Errorf("%w: owner of space %d has %d bytes", ErrCorrupt, space, len(b))
	}
	b = b[copy(o.ID[:], b):]
	for len(b) > 0 {
		var h Home
		if len(b) < 33 || len(b) < 33+int(b[32]) || len(o.Homes) == MaxHomes {
			return o, false, fmt.Errorf("%w: owner of space %d", ErrCorrupt, space)
		}
		copy(h.Peer[:], b)
		h.Addr = string(b[33 : 33+int(b[32])])
		o.Homes = append(o.Homes, h)
		b = b[33+len(h.Addr):]
	}
	return o, true, nil
}

// PutStatement stores a grant or a revocation.
func PutStatement(b *store.Batch, space uint32, st *grant.Statement) {
	id := st.ID()
	key := append(spaceKey(kindStatement, space, len(id)), id[:]...)
	b.Put(key, seal(key, st.Append(make([]byte, 4, 4+grant.Size))))
}

// Statements returns the grants and revocations that are stored, in the order of their IDs.
func Statements(r store.Snapshot, space uint32) ([]grant.Statement, error) {
	var list []grant.Statement
	prefix := spaceKey(kindStatement, space, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read the grants of space %d: %w", space, err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		st, err := grant.Parse(b)
		if err != nil {
			return nil, fmt.Errorf("%w: grant of space %d: %w", ErrCorrupt, space, err)
		}
		list = append(list, st)
	}
	return list, nil
}

// Ticket is what is kept of a ticket that this node gave. Nothing of it lets anybody join.
type Ticket struct {
	Key     [32]byte // the public half of its key
	Rights  grant.Rights
	Made    grant.Millis
	Expires grant.Millis // of the ticket
	Until   grant.Millis // of the grants that it leads to; zero: they have no end
	Uses    uint16       // that were given
	Left    uint16       // that are left
}

const ticketBytes = 32 + 1 + 8 + 8 + 8 + 2 + 2

func ticketKey(space uint32, id grant.TicketID) []byte {
	return append(spaceKey(kindTicket, space, len(id)), id[:]...)
}

// PutTicket stores a ticket.
func PutTicket(b *store.Batch, space uint32, t Ticket) {
	key := ticketKey(space, grant.TicketOf(t.Key))
	v := slices.Grow(make([]byte, 4), ticketBytes)
	v = append(v, t.Key[:]...)
	v = append(v, byte(t.Rights))
	v = binary.BigEndian.AppendUint64(v, uint64(t.Made))
	v = binary.BigEndian.AppendUint64(v, uint64(t.Expires))
	v = binary.BigEndian.AppendUint64(v, uint64(t.Until))
	v = binary.BigEndian.AppendUint16(v, t.Uses)
	v = binary.BigEndian.AppendUint16(v, t.Left)
	b.Put(key, seal(key, v))
}

// ForgetTicket removes a ticket.
func ForgetTicket(b *store.Batch, space uint32, id grant.TicketID) { b.Delete(ticketKey(space, id)) }

// Tickets returns the tickets that are stored.
func Tickets(r store.Snapshot, space uint32) (map[grant.TicketID]Ticket, error) {
	tickets := make(map[grant.TicketID]Ticket)
	prefix := spaceKey(kindTicket, space, 0)
	for e, err := range r.Scan(prefix, after(prefix)) {
		if err != nil {
			return nil, fmt.Errorf("read the tickets of space %d: %w", space, err)
		}
		b, err := unseal(e.Key, e.Value)
		if err != nil {
			return nil, err
		}
		if len(b) != ticketBytes {
			return nil, fmt.Errorf("%w: a ticket of space %d has %d bytes", ErrCorrupt, space, len(b))
		}
		t := Ticket{
			Rights: grant.Rights(b[32]), Made: grant.Millis(binary.BigEndian.Uint64(b[33:])), Expires: grant.Millis(binary.BigEndian.Uint64(b[41:])),
			Until: grant.Millis(binary.BigEndian.Uint64(b[49:])), Uses: binary.BigEndian.Uint16(b[57:]), Left: binary.BigEndian.Uint16(b[59:]),
		}
		copy(t.Key[:], b)
		tickets[grant.TicketOf(t.Key)] = t
	}
	return tickets, nil
}
