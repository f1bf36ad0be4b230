package replica

import (
	"context"
	"time"

	"github.com/anabranch-db/anabranch/replica/protocol"
)

// PeerID names a node for good: it is the node's Ed25519 public key.
type PeerID = protocol.PeerID

// ParsePeerID reads the form that PeerID.String returns.
func ParsePeerID(s string) (PeerID, error) { return protocol.ParsePeerID(s) }

// Transport reaches other nodes. It knows who they are (peer IDs are proven by the time that Dial or Accept
// returns), checks that they are allowed, and turns messages into bytes; it knows nothing of what
// they mean. Methods may be called from several goroutines.
//
// net/quicnet and net/memnet implement it; net/nettest is the suite that both pass.
type Transport interface {
	// Self returns the peer ID of this node.
	Self() PeerID
	// Addrs returns the addresses that it listens on, in the form that Dial takes; none if it only dials.
	Addrs() []string
	// Dial connects to a node. If peer is not zero, the node must prove that ID.
	Dial(ctx context.Context, addr string, peer PeerID) (Conn, error)
	// Accept returns the next incoming connection whose peer is allowed. After Close it returns net.ErrClosed.
	Accept(ctx context.Context) (Conn, error)
	// SetGate tells whom else to allow, beside those on the transport's own list, and who answers those that ask to join. It is
	// called once, before Dial and Accept.
	SetGate(Gate)
	// Listed reports whether a peer is on the transport's own list.
	Listed(PeerID) bool
	// Join asks a node to let this one into a space, over a connection that is made for this alone. It need not be allowed for that by
	// the other node, nor allow it; but the other node must prove that it is peer.
	Join(ctx context.Context, addr string, peer PeerID, r protocol.JoinRequest) (protocol.JoinAnswer, error)
	// Marshal appends one message as a whole frame, length and type included, ready for Stream.WriteFrames on any stream of
	// this transport; the bytes may be sent to many peers.
	Marshal(dst []byte, m protocol.Message) ([]byte, error)
	// Unmarshal parses one whole frame. The message shares memory with b. An unknown frame type gives (nil, nil): skip it.
	Unmarshal(b []byte) (protocol.Message, error)
	// Close closes all connections and stops listening.
	Close() error
}

// Conn is a connection to one proven peer. It carries one stream a space.
type Conn interface {
	Peer() PeerID
	// RemoteAddr is where the peer is now, for people.
	RemoteAddr() string
	// PeerAddrs are the addresses at which the peer says that it listens.
	PeerAddrs() []string
	// Tell sends a message beside the streams of the spaces. It blocks while the peer does not hear.
	Tell(m protocol.Control) error
	// Hear returns the next such message of the peer.
	Hear() (protocol.Control, error)
	// Dialled reports whether this side dialled.
	Dialled() bool
	// Skew is how far the peer's wall clock was ahead of ours at the handshake, about; negative if behind.
	Skew() time.Duration
	// OpenStream opens a stream for the named space. It returns once the name is sent, not answered.
	OpenStream(ctx context.Context, space string) (Stream, error)
	// AcceptStream returns the next stream that the peer opened, and the space that it named.
	AcceptStream(ctx context.Context) (space string, s Stream, err error)
	// Traffic returns the bytes sent and received so far, as near to the wire as the transport can tell.
	Traffic() (sent, received uint64)
	// Close ends the connection; the peer sees code and reason. Calls on it and its streams return a *CloseError.
	Close(code CloseCode, reason string) error
	// Done is closed when the connection has ended, for whatever reason; Err then says why.
	Done() <-chan struct{}
	Err() error
}

// Stream carries whole frames in order, both ways. One goroutine may write while another reads.
type Stream interface {
	// WriteFrames writes frames made by Marshal, in one go where possible. It blocks while the peer reads slowly.
	WriteFrames(frames ...[]byte) error
	// ReadFrame returns the next frame, in memory that is the caller's, or io.EOF when the peer closed its side. A frame over
	// the limit is refused before it is read.
	ReadFrame() ([]byte, error)
	// Close ends the stream in both directions; code is what the peer sees.
	Close(code CloseCode) error
}

// CloseCode says why a connection or a stream was closed. The codes are part of the wire format.
type CloseCode uint32

// The close codes.
const (
	CloseDone         CloseCode = 0 // an orderly end
	CloseMalformed    CloseCode = 1 // a frame that does not parse
	CloseTooLarge     CloseCode = 2 // a frame over the limit
	CloseVersion      CloseCode = 3 // no common protocol version
	CloseNotAllowed   CloseCode = 4 // the peer is not on the list of allowed peers, and has no rights in a space here
	CloseWrongPeer    CloseCode = 5 // the peer proved another ID than the one expected
	CloseUnknownSpace CloseCode = 6 // the space is not kept here
	CloseDuplicate    CloseCode = 7 // another connection or stream serves this already
	CloseInternal     CloseCode = 8 // the closing side failed
	CloseSameIdentity CloseCode = 9 // both ends have one identity
	CloseSlow         CloseCode = 10
	CloseRefused      CloseCode = 11 // a refusal that ends the session; its frame says why
	CloseNoGrant      CloseCode = 12 // the peer has no rights in the space, as far as the closing side knows
	CloseEnough       CloseCode = 13 // the closing side has enough peers, and this one has others
)

// CloseError is what a closed connection or stream returns.
type CloseError struct {
	Code   CloseCode
	Reason string
	Remote bool // the peer closed it
}

func (e *CloseError) Error() string {
	who := "closed here"
	if e.Remote {
		who = "closed by the peer"
	}
	if e.Reason == "" {
		return who + ": " + e.Code.String()
	}
	return who + ": " + e.Code.String() + ": " + e.Reason
}

var closeCodes = map[CloseCode]string{
	CloseDone: "done", CloseMalformed: "malformed frame", CloseTooLarge: "frame over the limit",
	CloseVersion: "no common protocol version", CloseNotAllowed: "peer not allowed", CloseWrongPeer: "wrong peer ID",
	CloseUnknownSpace: "space not kept here", CloseDuplicate: "duplicate", CloseInternal: "internal error",
	CloseSameIdentity: "both ends have the same identity", CloseSlow: "too slow", CloseRefused: "refused",
	CloseNoGrant: "no right to the space",
	CloseEnough:  "it has enough peers",
}

func (c CloseCode) String() string {
	if s, ok := closeCodes[c]; ok {
		return s
	}
	return "unknown close code"
}
