package node

import (
	"context"
	"encoding/json"
	"iter"
	"time"
)

// Node is a node, near or far. Its methods may be called from several goroutines.
type Node interface {
	// Commit applies the operations as one transaction.
	Commit(ctx context.Context, space string, ops []Op) (Receipt, error)
	// Wait returns when n peers hold the transaction durably, or with ErrOffline when the time is over (0: never). peers is how many do.
	Wait(ctx context.Context, space string, rc Receipt, n int, timeout time.Duration) (peers int, err error)
	// Get returns one document.
	Get(ctx context.Context, space, key string) (Document, error)
	// Scan yields documents in the order of their keys, from one snapshot.
	Scan(ctx context.Context, space string, o ScanOptions) iter.Seq2[Document, error]
	// Watch yields the documents that changed after a cursor, and goes on until ctx ends.
	Watch(ctx context.Context, space string, o WatchOptions) iter.Seq2[Event, error]
	// Status describes the node, its spaces and its peers.
	Status(ctx context.Context) (Status, error)
	// Verify checks one space, and repairs what derives if asked to. progress may be nil.
	Verify(ctx context.Context, space string, repair bool, progress func(keys int64)) (Report, error)
	// Evict lets a member that is gone for good no longer hold pruning back. peer is its ID, or enough of it.
	Evict(ctx context.Context, space, peer string) (Member, error)
	Inbox
	Archive
	Trust
	Tokens
	Close() error
}

// The operations of an Op.
const (
	OpPut       = "put"       // make the document what Value says
	OpSet       = "set"       // write Value at Path
	OpRemove    = "remove"    // remove what is at Path and below; "" is the document
	OpIncrement = "increment" // add By to the counter at Path
	OpSettle    = "settle"    // settle the conflicts at Path and below by Rule, or at Path by letting the one show that Take names
)

// Op is one change of a transaction.
type Op struct {
	Op    string          `json:"op"`
	Key   string          `json:"key"`
	Path  string          `json:"path,omitempty"` // a JSON pointer
	Value json.RawMessage `json:"value,omitempty"`
	By    int64           `json:"by,omitempty"`
	Rule  string          `json:"rule,omitempty"` // see ParseRule
	Take  string          `json:"take,omitempty"` // ID of a Conflict

	// parsed is what Parse found, so that importing parses each document once.
	parsed *parsedOp
}

// Receipt names a transaction that was committed.
type Receipt struct {
	Changed bool   `json:"changed"`           // false: everything was so already, and there is no transaction
	Replica string `json:"replica,omitempty"` // its dot: 16 hex digits
	Time    uint64 `json:"time,omitempty,string"`
	Sync    string `json:"sync,omitempty"` // how durable it is: always or interval
}

// Document is a document as it shows.
type Document struct {
	Key       string          `json:"key"`
	Doc       json.RawMessage `json:"doc,omitempty"`
	Cursor    string          `json:"cursor,omitempty"`
	Conflicts []Conflict      `json:"conflicts,omitempty"`
}

// Conflict is a value that was written concurrently with the one that shows.
type Conflict struct {
	ID     string          `json:"id"` // among those of the path
	Path   string          `json:"path"`
	Value  json.RawMessage `json:"value"`
	Author string          `json:"author"`
	Time   time.Time       `json:"time"`
	// ShownPath is Path, or a path above it whose value hides this one.
	ShownPath string          `json:"shown_path"`
	Shown     json.RawMessage `json:"shown"`
	// ShownAuthor and ShownTime are those of what shows; of a map, of its newest field.
	ShownAuthor string    `json:"shown_author"`
	ShownTime   time.Time `json:"shown_time"`
}

// ScanOptions say what to yield. The zero value is every document.
type ScanOptions struct {
	Prefix   string
	After    string // only keys greater than this
	Limit    int    // 0: no limit
	KeysOnly bool
}

// WatchOptions say where to begin and what to leave out.
type WatchOptions struct {
	Since  string // a cursor; "" or "0" is the beginning, "now" only what comes
	Prefix string
}

// Event is a change of a document.
type Event struct {
	Cursor  string          `json:"cursor"`
	Key     string          `json:"key"`
	Deleted bool            `json:"deleted,omitempty"`
	Doc     json.RawMessage `json:"doc,omitempty"`
}

// Status describes a node.
type Status struct {
	Dir       string        `json:"dir"`
	Serving   bool          `json:"serving"` // a node serves the store; else it was opened for this answer
	PID       int           `json:"pid,omitempty"`
	Version   string        `json:"version"`
	PeerID    string        `json:"peer_id,omitempty"`
	ReplicaID string        `json:"replica_id,omitempty"`
	Addresses []string      `json:"addresses,omitempty"`
	SeenAt    []string      `json:"seen_at,omitempty"` // where peers see it, beside its addresses
	Admin     string        `json:"admin,omitempty"`   // address for those who watch the node
	Gateway   string        `json:"gateway,omitempty"` // URL of the gateway
	DiskBytes int64         `json:"disk_bytes"`
	Clock     Clock         `json:"clock"`
	Spaces    []SpaceStatus `json:"spaces"`
	Peers     []Peer        `json:"peers"`
}

// Clock compares the node's clock with those of the connected peers.
type Clock struct {
	// State is that of replica.ClockStatus.
	State    string `json:"state"`
	OffsetMS int64  `json:"offset_ms"` // ahead of the one in the middle
	Peers    int    `json:"peers"`
	AheadOf  int    `json:"ahead_of"`  // peers, by more than the greatest drift
	BehindOf int    `json:"behind_of"` // the same
	Held     []Held `json:"held,omitempty"`
}

// Held are writes made with a clock that was ahead, and not sent.
type Held struct {
	Space    string    `json:"space"`
	Until    time.Time `json:"until"` // the last of their times
	WaitsFor []string  `json:"waits_for,omitempty"`
	Reason   string    `json:"reason"`
}

// SpaceStatus describes a space.
type SpaceStatus struct {
	Name      string `json:"name"`
	Documents int64  `json:"documents"`
	Digest    string `json:"digest"`
	Closed    bool   `json:"closed"` // nothing shows that is not here whole
	Cursor    string `json:"cursor"`
	// Conflicts is their number in all documents, Conflicted that of the documents that have any.
	Conflicts  int64 `json:"conflicts"`
	Conflicted int64 `json:"conflicted"`

	Vector map[string]string `json:"vector"` // replica: time
	Stable map[string]string `json:"stable"`
	// Snapshot is the one that is being taken: until it is through, only a part shows of what its source has.
	Snapshot *Snapshot   `json:"snapshot,omitempty"`
	Peers    []SpacePeer `json:"peers"`
	Repair   Repair      `json:"repair"`

	Stability Stability `json:"stability"`
}

// Repair says what repairs of a space came to, since the node was started.
type Repair struct {
	Mismatches int64      `json:"mismatches"` // closed replicas found to differ
	Repairs    int64      `json:"repairs"`
	Documents  int64      `json:"documents"` // that they changed here
	Last       *time.Time `json:"last,omitempty"`
	// Damaged says what is wrong with the store and was not mended yet; empty if nothing is known to be.
	Damaged string `json:"damaged,omitempty"`
}

// SpacePeer describes how far a peer's replica of a space is.
type SpacePeer struct {
	Peer      string `json:"peer"`
	Connected bool   `json:"connected"`
	Level     bool   `json:"level"`
	Known     int64  `json:"known"`   // changes that it has
	Pending   int64  `json:"pending"` // and has not yet
	Mismatch  bool   `json:"mismatch,omitempty"`
	// RepairedAt is when a repair with the peer ended last, and Repaired how many documents all of them changed here.
	RepairedAt *time.Time `json:"repaired_at,omitempty"`
	Repaired   int64      `json:"repaired,omitempty"`
	Snapshot   *Snapshot  `json:"snapshot,omitempty"` // given to the peer
	LastError  string     `json:"last_error,omitempty"`
	ErrorAt    *time.Time `json:"error_at,omitempty"`
}

// Snapshot tells how much of a snapshot has passed, of about how much.
type Snapshot struct {
	Peer           string `json:"peer"` // from which it is taken, or to which it is given
	Documents      uint64 `json:"documents"`
	KnownDocuments uint64 `json:"known_documents"`
	Bytes          uint64 `json:"bytes"`
	KnownBytes     uint64 `json:"known_bytes"`
	Active         bool   `json:"active"` // else it has stopped, and goes on when the peer is there again
}

// Peer describes a peer that is connected, dialled or known.
type Peer struct {
	ID        string     `json:"id,omitempty"`
	Address   string     `json:"address"`
	Connected bool       `json:"connected"`
	Dialled   bool       `json:"dialled"`
	Source    string     `json:"source"` // of the address: configured, incoming, itself, peers, mdns or ticket
	Since     *time.Time `json:"since,omitempty"`
	Seen      *time.Time `json:"seen,omitempty"` // when anybody was last connected with it
	Sent      uint64     `json:"sent_bytes"`
	Received  uint64     `json:"received_bytes"`
	SkewMS    int64      `json:"skew_ms"`
	LastError string     `json:"last_error,omitempty"`
	ErrorAt   *time.Time `json:"error_at,omitempty"`
}

// Report is what Verify found in a space.
type Report struct {
	Space       string    `json:"space"`
	Documents   int64     `json:"documents"` // that exist for a reader
	Stored      int64     `json:"stored"`    // with those that are only traces of removals
	Records     int64     `json:"records"`
	LogEntries  int64     `json:"log_entries"`
	FeedEntries int64     `json:"feed_entries"`
	Digest      string    `json:"digest"` // as recomputed
	Problems    []Problem `json:"problems"`
	Suppressed  int64     `json:"suppressed,omitempty"` // problems beyond those listed
	Repaired    int       `json:"repaired,omitempty"`
}

// Problem is one thing that is not as it should be.
type Problem struct {
	What    string `json:"what"`
	Where   string `json:"where,omitempty"`
	Derived bool   `json:"derived"` // can be rebuilt from the documents without loss
}
