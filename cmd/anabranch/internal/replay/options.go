package replay

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/trace"
)

// Store says where the replicas keep their documents.
type Store string

// Transport says what they sync over.
type Transport string

// The stores and transports.
const (
	MemoryStore Store = "mem"
	BadgerStore Store = "badger"

	MemoryTransport Transport = "mem"
	QUICTransport   Transport = "quic"
)

// Options says what to replay, and how. Trace is needed.
type Options struct {
	Trace     string // a file
	Final     string // a file with the state after the last line; empty: it is not compared
	Store     Store
	Transport Transport
	// Progress is called before each step: a line, or a replica that meets the others.
	Progress func(done, total int)
	Logger   *slog.Logger // of the replicas; nil: silent

	// most is how many lines are run, for tests; 0: all.
	most int
	// disturb is called after the ops of a line and before the comparison, by tests.
	disturb func(line int, m *member) error
}

// openStores is how many Badger stores are open at most.
const openStores = 8

// syncTimeout bounds one sync between two replicas in this process.
const syncTimeout = 2 * time.Minute

// Bounds of what a Result lists.
const (
	maxFindings    = 10
	maxDifferences = 20
)

// Check reports what cannot be in the options; it opens nothing.
func (o Options) Check() error {
	_, err := o.withDefaults()
	return err
}

func (o Options) withDefaults() (Options, error) {
	if o.Store == "" {
		o.Store = MemoryStore
	}
	if o.Transport == "" {
		o.Transport = MemoryTransport
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Store != MemoryStore && o.Store != BadgerStore {
		return o, fmt.Errorf("unknown store %q: want %s or %s", o.Store, MemoryStore, BadgerStore)
	}
	if o.Transport != MemoryTransport && o.Transport != QUICTransport {
		return o, fmt.Errorf("unknown transport %q: want %s or %s", o.Transport, MemoryTransport, QUICTransport)
	}
	return o, nil
}

// Result is what a replay did and found.
type Result struct {
	Trace     string
	Final     string
	Store     Store
	Transport Transport

	Lines     int
	Ops       int
	Replicas  int // of the trace
	Keepers   int // further ones that held the state of a commit for later
	Couriers  int // and that carried one over
	Documents int // at the end
	Fields    int

	Transactions int
	Syncs        int
	Bytes        uint64 // exchanged, both directions
	Conflicts    int    // values that did not show right after a merge and differed from those that did
	StoresOpened int

	Hash   string // of the final state
	Digest string
	Took   time.Duration

	LinesDiffering    int
	FinalDiffering    int // documents
	ReplicasDiffering int
	Findings          []Finding // the first ones
}

// OK reports whether everything was as it should be.
func (r *Result) OK() bool {
	return r.LinesDiffering == 0 && r.FinalDiffering == 0 && r.ReplicasDiffering == 0 && len(r.Findings) == 0
}

func (r *Result) find(f Finding) {
	if len(r.Findings) < maxFindings {
		r.Findings = append(r.Findings, f)
	}
}

// Finding is something that is not as it should be.
type Finding struct {
	Where       string // "line 12, commit a1b2, replica r01.1"
	What        string
	Documents   int // that differ; 0 if that is not known
	Differences []trace.Difference
}
