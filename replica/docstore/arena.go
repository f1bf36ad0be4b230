package docstore

import "encoding/binary"

// arena gives out memory for the keys and values of a batch. Many share one piece, which lives as long as one of them does: a commit.
type arena struct {
	free []byte
	last int // the size of the last piece
}

// Sizes of pieces. Each is twice the last one, so that who needs little takes little.
const (
	minArenaBytes = 128
	maxArenaBytes = 16 << 10
)

// room returns an empty slice with room for n bytes.
func (a *arena) room(n int) []byte {
	if cap(a.free) < n {
		a.last = min(max(2*a.last, minArenaBytes), maxArenaBytes)
		a.free = make([]byte, 0, max(n, a.last))
	}
	b := a.free[:0:n]
	a.free = a.free[n:n:cap(a.free)]
	return b
}

func (a *arena) spaceKey(kind byte, space uint32, extra int) []byte {
	return appendSpaceKey(a.room(spaceKeyBytes+extra), kind, space)
}

func (a *arena) documentKey(space uint32, key string) []byte {
	return append(a.spaceKey(kindDocument, space, len(key)), key...)
}

func (a *arena) feedKey(space uint32, arrival uint64) []byte {
	return binary.BigEndian.AppendUint64(a.spaceKey(kindFeed, space, 8), arrival)
}

func (a *arena) logKey(space uint32, p logPosition) []byte {
	return p.append(a.room(logFixed+len(p.key)+len(p.start)), space)
}
