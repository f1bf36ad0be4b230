package wire

import (
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica/protocol"
)

// The limits of frames. All are checked before memory is taken for what they bound.
const (
	// MaxFrameBytes bounds a whole frame, its length field included. A transaction of crdt.MaxTransactionBytes fits
	// twice.
	MaxFrameBytes = 8 << 20
	// MaxControlFrameBytes bounds a frame on the control stream and the first frame of a space stream: they are read
	// before anything else is known of the peer.
	MaxControlFrameBytes = 16 << 10
	// MaxDocuments bounds the documents of one Delta; a transaction, which is never split, has no more.
	MaxDocuments = crdt.MaxTransactionDocuments
	// MaxVectorEntries bounds one version vector: 1.6 MB on the wire.
	MaxVectorEntries = 100_000
	// MaxBranches bounds the places of one Branches.
	MaxBranches = protocol.MaxBranches
	// MaxMembers bounds the members of one Members, MaxMemberDots the entries told of each.
	MaxMembers    = protocol.MaxMembersTold
	MaxMemberDots = protocol.MaxMemberDots
	// MaxSpaceBytes bounds the name of a space.
	MaxSpaceBytes = 255

	// MaxFeatures and MaxAddrs bound the lists of a Hello, the others one string of it.
	MaxFeatures      = 32
	MaxFeatureBytes  = 64
	MaxAddrs         = 16
	MaxAddrBytes     = 256
	MaxSoftwareBytes = 64
)

const (
	headerBytes = 4
	// maxBodyDepth bounds the nesting of a body. Frames of this version nest twice; the rest is room for elements that a
	// newer version appends.
	maxBodyDepth = 16
	// maxBodyElements bounds the values of a body, again with room.
	maxBodyElements = 4 * MaxDocuments
	// dotBytes is the size of one entry of a packed vector.
	dotBytes = 16
)
