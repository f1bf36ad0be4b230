package protocol

import "fmt"

// Grants is the first message of each side in a session of a space with a key, before its Vectors: the statements that
// show what its sender may do in the space. More of them, with statements that the receiver may lack, follow at any time. Package grant has the
// form of statements; to this package they are bytes.
type Grants struct {
	// Hash is of all statements that the sender knows.
	Hash [32]byte
	// Statements one after the other.
	Statements []byte
}

func (*Grants) message() {}

// MaxGrantsBytes bounds Grants.Statements.
const MaxGrantsBytes = 256 << 10

// JoinRequest asks a node to let the sender into a space: by a ticket of that node, or, with a zero Ticket, because the sender has a grant already
// that the node may not know of yet. It is all that a node which is not known can say.
type JoinRequest struct {
	Space      [32]byte
	Ticket     [32]byte // the public half of the ticket's key
	Proof      [64]byte // see package grant
	Statements []byte   // with a zero Ticket: what gives the sender its rights
}

// JoinAnswer is what a JoinRequest gets.
type JoinAnswer struct {
	Code       JoinCode
	Text       string // for people; at most MaxRefusalText bytes
	Statements []byte // with Joined: what gives the asker its rights; with JoinRevoked: what took them
}

// MaxJoinBytes bounds the statements of a JoinRequest and a JoinAnswer.
const MaxJoinBytes = 14 << 10

// JoinCode is the outcome of a JoinRequest.
type JoinCode uint8

// The codes are part of the wire format.
const (
	Joined JoinCode = iota
	// JoinUnknown: the node knows no such space or ticket, or gave the ticket and took it back.
	JoinUnknown
	// JoinUsed: the ticket was used as often as it may be.
	JoinUsed
	// JoinExpired: the ticket's time is over.
	JoinExpired
	// JoinProof: the asker does not have the ticket's secret.
	JoinProof
	// JoinNoAdmin: the node that gave the ticket may not let anybody in any more.
	JoinNoAdmin
	// JoinBusy: too many ask at once; try again later.
	JoinBusy
	// JoinFailed: the node could not store it.
	JoinFailed
	// JoinRevoked: the asker comes with grants that were revoked.
	JoinRevoked
)

func (c JoinCode) String() string {
	names := [...]string{"joined", "unknown", "used up", "expired", "wrong proof", "inviter is no admin", "busy", "failed", "revoked"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code %d", uint8(c))
}
