package docstore

import (
	"encoding/binary"
	"fmt"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// Every key of a space begins with a byte for what it is and the space's number in four bytes. Numbers in
// keys are big endian, so that keys order as the numbers do.
const (
	kindMeta      = 'm' // space → digest, last arrival, number of live documents
	kindVector    = 'v' // space, replica → its times in vv, stable and horizon
	kindDocument  = 'd' // space, document key → record: all cells, or where the chunks are
	kindDirectory = 'i' // space, document key → where each chunk of a large document begins
	kindPiece     = 'j' // space, length of the document key, document key, number → a piece of a directory too large for one value
	kindChunk     = 'c' // space, length of the document key, document key, first path → cells
	kindSegment   = 'g' // as the chunk, then a number → a piece of a chunk that is too large for one value
	kindLog       = 'l' // space, replica, time, document key, first path of the chunk, length of the document key
	kindFeed      = 'f' // space, arrival → document key
	kindConflicts = 'x' // space, document key → number of its conflicts
	kindLives     = 'e' // space → former names of its feed
	kindRejoin    = 'b' // space → the mark of a snapshot being merged; space, replica → its times in V, stable and hidden
	kindMember    = 'a' // space, peer → what it holds durably, and when it was heard of
)

func spaceKey(kind byte, space uint32, extra int) []byte {
	return appendSpaceKey(make([]byte, 0, spaceKeyBytes+extra), kind, space)
}

const spaceKeyBytes = 5

func appendSpaceKey(k []byte, kind byte, space uint32) []byte {
	return binary.BigEndian.AppendUint32(append(k, kind), space)
}

func documentKey(space uint32, key string) []byte {
	return append(spaceKey(kindDocument, space, len(key)), key...)
}

func directoryKey(space uint32, key string) []byte {
	return append(spaceKey(kindDirectory, space, len(key)), key...)
}

// pieceKey names the i-th piece of a document's directory.
func pieceKey(space uint32, key string, i int) []byte {
	k := spaceKey(kindPiece, space, 4+len(key))
	k = binary.BigEndian.AppendUint16(k, uint16(len(key)))
	k = append(k, key...)
	return binary.BigEndian.AppendUint16(k, uint16(i))
}

// chunkKey keeps the chunks of one document together, in the order of their paths.
func chunkKey(space uint32, key string, start crdt.PathKey) []byte {
	k := spaceKey(kindChunk, space, 2+len(key)+len(start))
	k = binary.BigEndian.AppendUint16(k, uint16(len(key)))
	k = append(k, key...)
	return append(k, start...)
}

// segmentKey names the i-th piece of the chunk with the given key.
func segmentKey(chunk []byte, i int) []byte {
	k := append([]byte{kindSegment}, chunk[1:]...)
	return binary.BigEndian.AppendUint16(k, uint16(i))
}

func feedKey(space uint32, arrival uint64) []byte {
	return binary.BigEndian.AppendUint64(spaceKey(kindFeed, space, 8), arrival)
}

func vectorKey(space uint32, r crdt.ReplicaID) []byte {
	return binary.BigEndian.AppendUint64(spaceKey(kindVector, space, 8), uint64(r))
}

// logPosition names one entry of the log: a dot, and a record that refers to it.
type logPosition struct {
	dot   crdt.Dot
	key   string
	start crdt.PathKey // of the chunk; "" for a document in one record
}

func logPrefix(space uint32, r crdt.ReplicaID, t hlc.Time) []byte {
	k := spaceKey(kindLog, space, 16)
	k = binary.BigEndian.AppendUint64(k, uint64(r))
	return binary.BigEndian.AppendUint64(k, uint64(t))
}

const logFixed = 5 + 16 + 2 // bytes of a log key beside the document key and the path

func (p logPosition) pack(space uint32) []byte {
	return p.append(make([]byte, 0, logFixed+len(p.key)+len(p.start)), space)
}

func (p logPosition) append(k []byte, space uint32) []byte {
	k = appendSpaceKey(k, kindLog, space)
	k = binary.BigEndian.AppendUint64(k, uint64(p.dot.Replica))
	k = binary.BigEndian.AppendUint64(k, uint64(p.dot.Time))
	k = append(k, p.key...)
	k = append(k, p.start...)
	return binary.BigEndian.AppendUint16(k, uint16(len(p.key)))
}

// parseLogKey is the inverse of pack.
func parseLogKey(k []byte) (logPosition, error) {
	if len(k) < logFixed || k[0] != kindLog {
		return logPosition{}, fmt.Errorf("%w: log key of %d bytes", ErrCorrupt, len(k))
	}
	text := k[21 : len(k)-2]
	size := int(binary.BigEndian.Uint16(k[len(k)-2:]))
	if size > len(text) || size == 0 || size > crdt.MaxKeyBytes {
		return logPosition{}, fmt.Errorf("%w: log key with a document key of %d bytes in %d", ErrCorrupt, size, len(text))
	}
	return logPosition{
		dot: crdt.Dot{
			Replica: crdt.ReplicaID(binary.BigEndian.Uint64(k[5:])),
			Time:    hlc.Time(binary.BigEndian.Uint64(k[13:])),
		},
		key:   string(text[:size]),
		start: crdt.PathKey(text[size:]),
	}, nil
}

// after returns the least key that is greater than all keys with the given prefix.
func after(prefix []byte) []byte {
	end := append([]byte(nil), prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		end[i]++
		if end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

func rejoinKey(space uint32, r crdt.ReplicaID) []byte {
	return binary.BigEndian.AppendUint64(spaceKey(kindRejoin, space, 8), uint64(r))
}
