package bench

import "encoding/json"

// The driver tells a node process what to do by lines of JSON on its standard input: a request, then its reply on standard
// output, then the next request.
type request struct {
	Op   string          `json:"op"`
	Args json.RawMessage `json:"args,omitempty"`
}

type reply struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// mark names a write such that a node can say whether its peer holds it.
type mark struct {
	Replica uint64 `json:"replica"`
	Time    uint64 `json:"time"`
}

// later returns the later of two marks of one node.
func (m mark) later(o mark) mark {
	if o.Time > m.Time {
		return o
	}
	return m
}

type openArgs struct {
	Engine string `json:"engine"` // engineOurs or engineIdeal
	Dir    string `json:"dir"`
	Seed   uint64 `json:"seed"`
	Sync   string `json:"sync"`            // syncAlways, syncInterval or syncNever
	Prune  bool   `json:"prune,omitempty"` // what is stable at once; otherwise not while the benchmark runs
}

const (
	engineOurs  = "ours"
	engineIdeal = "ideal"

	syncAlways   = "always"
	syncInterval = "interval"
	syncNever    = "never"
)

type openResult struct {
	Addr  string `json:"addr"`
	Peer  string `json:"peer"`
	Nanos int64  `json:"nanos"`
}

// writeArgs asks for one transaction for each of Count documents from First on.
type writeArgs struct {
	What     string `json:"what"` // putDocument, setField or deleteDocument
	First    int    `json:"first"`
	Count    int    `json:"count"`
	Revision int    `json:"revision,omitempty"`
	Field    string `json:"field,omitempty"`
	Writers  int    `json:"writers"`
	// Every is the pause from one write to the next, for one writer that does not hurry.
	Every int64 `json:"every_nanos,omitempty"`
	// Stamps asks for the time at which each write began.
	Stamps bool `json:"stamps,omitempty"`
}

const (
	putDocument    = "put"
	setField       = "set"
	deleteDocument = "delete"
)

type writeResult struct {
	Began  int64   `json:"began"` // times are wall clock nanoseconds: all processes are on one machine
	Ended  int64   `json:"ended"` // all are durable here
	Last   mark    `json:"last"`
	Stamps []int64 `json:"stamps,omitempty"`
}

type dialArgs struct {
	Addr string `json:"addr"`
	Peer string `json:"peer"`
}

type ackedArgs struct {
	Mark  mark `json:"mark"`
	Peers int  `json:"peers"` // how many
}

// at is a reply that tells when something happened.
type at struct {
	At int64 `json:"at"`
}

// watchArgs begins to watch for Count documents from First on.
type watchArgs struct {
	First int `json:"first"`
	Count int `json:"count"`
}

type watchedResult struct {
	Stamps []int64 `json:"stamps"` // when each document was seen, in the order of their numbers
}

// usage is what a process has taken so far.
type usage struct {
	CPU          int64  `json:"cpu_nanos"`
	PeakBytes    int64  `json:"peak_bytes"`     // resident set
	OwnPeakBytes int64  `json:"own_peak_bytes"` // of that, without pages of files, which the system takes back when it needs them; as sampled
	Sent         uint64 `json:"sent"`
	Received     uint64 `json:"received"`
}

type count struct {
	Count int64 `json:"count"`
}

type profileArgs struct {
	CPU  string `json:"cpu,omitempty"`  // file for the CPU profile, which begins now
	Heap string `json:"heap,omitempty"` // file for the profile of allocations, written at the end
}

// inspectArgs asks how many of the documents show what both sides wrote.
type inspectArgs struct {
	First  int    `json:"first"`
	Count  int    `json:"count"`
	FieldA string `json:"field_a"` // what side A set, in revision revisionA
	FieldB string `json:"field_b"`
}

// inspectResult counts edits of one side each: shown as the value of the field, listed as a conflict, or neither.
type inspectResult struct {
	Shown      int `json:"shown"`
	Conflicted int `json:"conflicted"`
	Lost       int `json:"lost"`
}

// probeArgs asks for a small operation many times.
type probeArgs struct {
	What   string `json:"what"`
	Count  int    `json:"count"`
	Fields int    `json:"fields,omitempty"`
	Docs   int    `json:"docs,omitempty"`
}

const (
	probeField  = "field"  // set one field of a document that has Fields of them
	probePage   = "page"   // a scan of 50 documents from anywhere
	probeResume = "resume" // a watch from 50 changes ago until it has them
	probeBackup = "backup" // one backup of the store, written to nowhere
)

type probeResult struct {
	Nanos int64 `json:"nanos"` // median of one operation
}

// limitArgs asks for the limits that the machine sets: the same entries into Badger alone, or the same bytes over QUIC.
type limitArgs struct {
	Dir   string `json:"dir,omitempty"`
	Docs  int    `json:"docs,omitempty"`
	Seed  uint64 `json:"seed,omitempty"`
	Addr  string `json:"addr,omitempty"`
	Bytes int64  `json:"bytes,omitempty"`
}

type limitResult struct {
	Addr  string `json:"addr,omitempty"`
	Nanos int64  `json:"nanos,omitempty"`
}
