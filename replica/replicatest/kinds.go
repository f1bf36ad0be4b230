package replicatest

import "strings"

// Kind is something that a simulation does or meets. Each is counted, so that a run that never came to some
// kind of fault does not pass for one that survived it.
type Kind int

// What is counted. The names in kindNames are what reports show.
const (
	Steps Kind = iota
	Transactions
	EmptyTransactions    // changed nothing, so took no dot
	ReissuedWrites       // stamp and author of somebody else
	ClientTransactions   // of clients that are not replicas, made at their homes
	ClientReads          //
	Followed             // documents that clients had of another node brought up to date by a vector
	FollowersReset       // the same from the beginning
	ReadersAhead         // clients that read at a home which had less than they
	ReadersOvertaken     // of these, compared with the home once it had all
	LanesTaken           // of these transactions, by another ID than the home's first
	LargeDocuments       // written beyond what one record holds
	Merges               // deltas that brought something
	PartialMerges        // of a delta that is more than one commit takes
	KnownDeltas          // deltas that were there already
	RelayedDeltas        // sent as they were received
	CombinedDeltas       // several own transactions in one
	BuiltDeltas          // made from the log
	PartialDeltas        // of these, ended early
	Messages             // handed to a session
	MembersTold          // of others, to a peer
	MembersEvicted       //
	StableRaised         //
	LogKeysPruned        //
	RecordsPruned        // rewritten with fewer cells or contexts, or deleted
	DocumentsPruned      // of which nothing was left
	SiblingsSeen         // cells with several live entries
	ConflictsSettled     // by a rule
	OpenStates           // replicas met while not closed
	ClosedChecks         // closed replicas compared with the oracle
	QuietChecks          // quiescent points
	Verifications        // docstore.Verify
	EqualDigests         // comparisons of a session
	SurplusTold          // deltas that the peer had from elsewhere, as it said
	RelaysOverdue        // sessions that had waited for others to bring something, or for company of an acknowledgement
	DifferingDigests     // the same, while one side was not closed
	Snapshots            // begun anew
	SnapshotsContinued   // from the same state or a later one
	SnapshotsRestarted   // because the source could not continue them
	SnapshotsCompleted   //
	SnapshotsAbandoned   // to start over with another source
	SnapshotsDeclined    // by a replica that was being brought up itself
	Pieces               //
	PartialPieces        // merged in parts
	KnownPieces          // merged already
	SnapshotsPreferred   // that deltas could have stood for
	PiecesOfOneCell      // which is too large for one piece
	EqualRanges          // pieces of what the receiver has
	EqualRangesWithCells // the same, where there is something
	EqualRangesChanged   // the same, but not any more
	KnownWindows         // snapshots asked for again, as what the receiver had told was through
	DeltasBesideSnapshot // merged while a snapshot was
	VagueCells           // met with an account that leaves open what is included
	OpenedBySummary      // sides of sessions that told a hash of their vectors
	BranchesTold         // messages that found out what differs in them
	RepairsBegun         // by one side of a session
	RepairsDone          // at each side
	RepairsGivenUp       // refused, below the other's stable vector, or stopped by a clock
	DocumentsRepaired    // changed by a repair
	DocumentsRebuilt     // made anew, because they could not be read
	LinksUp              // from here on: what goes wrong
	ClientDuplicates     // transactions of clients that come again
	ClientAcksLost       // or what was to be acknowledged
	ClientsAcknowledged  //
	ClientsMoved         // to another home
	HomesBehind          // the client has read what is not there
	LinksBroken          // with nothing under way
	BrokenWithFrames     // with frames under way
	Partitions           //
	PartitionsHealed     //
	LateJoins            // an empty replica comes late
	FramesLost           // in a session that goes on
	FramesRepeated       //
	FramesReordered      //
	StaleDeltas          // a delta of another or an earlier session
	GapsRefused          //
	OpenRefused          // a delta that says too little where its receiver is open
	ClockRefused         //
	HeldRetried          // origins sent again after their clock was refused
	SessionsEnded        // by an error that a lost or repeated frame explains
	CrashesBeforePersist // transactions or deltas were lost from memory
	CrashesAfterPersist  // durable, but nobody was told
	CommitsFailed        //
	ReopenedSameID       //
	ReopenedFreshID      //
	BackupsRestored      //
	RestoredSameID       // by mistake
	LossProvenByVector   // a peer's vector held more of our ID than we did
	LossProvenByDelta    // a delta did
	WritesRegained       // own writes that a backup lacked, back from a peer
	WritesLost           // rolled back before anybody had them
	ClockForward         //
	ClockBackward        //
	ClockFarAhead        // set hours or a year ahead, or right
	PushesHeld           // deltas not sent because they are too far in the future for most peers
	RelayedWhileHolding  //
	Rebases              // held writes re-issued
	TransactionsReissued //
	RebasesCrashed       // between two parts
	RebasesBlocked       // a peer has not said what it has
	RebasesMended        // that met damage
	RebasesSpared        // somebody has it and has forgotten whom it is from
	HeldUntilTheirTime   // held writes that were not re-issued
	LastingDifferences   // found by two comparisons in a row
	Mismatches           // between closed replicas, one of which was damaged
	NodesVanished        // for good, with what only they had
	RecordsDamaged       // gone, changed, or old
	DamageFound          // by a scrub
	SnapshotsUnreadable  // ended by a damaged record
	OriginsUnreadable    // whose log leads to a damaged record

	numKinds
)

// firstFault is the first kind that is a fault or a sign of one.
const firstFault = LinksUp

// One a line, so that adding one is easy to merge.
var kindNames = [numKinds]string{
	RepairsBegun:         "repairs begun",
	RepairsDone:          "repairs done",
	RepairsGivenUp:       "repairs given up",
	DocumentsRepaired:    "documents repaired",
	DocumentsRebuilt:     "documents rebuilt",
	LastingDifferences:   "lasting differences",
	Mismatches:           "mismatches",
	NodesVanished:        "nodes vanished",
	RecordsDamaged:       "records damaged",
	DamageFound:          "damage found",
	SnapshotsUnreadable:  "snapshots unreadable",
	OriginsUnreadable:    "origins unreadable",
	Steps:                "steps",
	Transactions:         "transactions",
	EmptyTransactions:    "empty transactions",
	ReissuedWrites:       "re-issued writes",
	ClientTransactions:   "client transactions",
	ClientReads:          "client reads",
	Followed:             "followed by vector",
	FollowersReset:       "followers reset",
	ReadersAhead:         "readers ahead",
	ReadersOvertaken:     "readers overtaken",
	LanesTaken:           "lanes taken",
	ClientDuplicates:     "client duplicates",
	ClientAcksLost:       "client acks lost",
	ClientsAcknowledged:  "clients acknowledged",
	ClientsMoved:         "clients moved",
	HomesBehind:          "homes behind",
	LargeDocuments:       "large documents",
	Merges:               "merges",
	PartialMerges:        "partial merges",
	KnownDeltas:          "known deltas",
	RelayedDeltas:        "relayed deltas",
	CombinedDeltas:       "combined deltas",
	BuiltDeltas:          "built deltas",
	PartialDeltas:        "partial deltas",
	Messages:             "messages",
	MembersTold:          "members told",
	MembersEvicted:       "members evicted",
	StableRaised:         "stable raised",
	LogKeysPruned:        "log keys pruned",
	RecordsPruned:        "records pruned",
	DocumentsPruned:      "documents pruned",
	SiblingsSeen:         "siblings seen",
	ConflictsSettled:     "conflicts settled",
	OpenStates:           "open states",
	ClosedChecks:         "closed checks",
	QuietChecks:          "quiet checks",
	Verifications:        "verifications",
	EqualDigests:         "equal digests",
	SurplusTold:          "surplus told",
	RelaysOverdue:        "relays overdue",
	DifferingDigests:     "differing digests",
	Snapshots:            "snapshots",
	SnapshotsContinued:   "snapshots continued",
	SnapshotsRestarted:   "snapshots restarted",
	SnapshotsCompleted:   "snapshots completed",
	SnapshotsAbandoned:   "snapshots abandoned",
	SnapshotsDeclined:    "snapshots declined",
	Pieces:               "pieces",
	PartialPieces:        "partial pieces",
	KnownPieces:          "known pieces",
	SnapshotsPreferred:   "snapshots preferred",
	PiecesOfOneCell:      "pieces of one cell",
	EqualRanges:          "equal ranges",
	EqualRangesWithCells: "equal ranges with cells",
	EqualRangesChanged:   "equal ranges that changed",
	KnownWindows:         "snapshots asked on",
	DeltasBesideSnapshot: "deltas beside snapshot",
	VagueCells:           "vague cells",
	OpenedBySummary:      "opened by summary",
	BranchesTold:         "branches told",
	LinksUp:              "links up",
	LinksBroken:          "links broken",
	BrokenWithFrames:     "broken with frames",
	Partitions:           "partitions",
	PartitionsHealed:     "partitions healed",
	LateJoins:            "late joins",
	FramesLost:           "frames lost",
	FramesRepeated:       "frames repeated",
	FramesReordered:      "frames reordered",
	StaleDeltas:          "stale deltas",
	GapsRefused:          "gaps refused",
	OpenRefused:          "deltas that forgot too much",
	ClockRefused:         "clock refused",
	HeldRetried:          "held retried",
	SessionsEnded:        "sessions ended",
	CrashesBeforePersist: "crashes before persist",
	CrashesAfterPersist:  "crashes after persist",
	CommitsFailed:        "commits failed",
	ReopenedSameID:       "reopened same ID",
	ReopenedFreshID:      "reopened fresh ID",
	BackupsRestored:      "backups restored",
	RestoredSameID:       "restored same ID",
	LossProvenByVector:   "loss proven by vector",
	LossProvenByDelta:    "loss proven by delta",
	WritesRegained:       "writes regained",
	WritesLost:           "writes lost",
	ClockForward:         "clock forward",
	ClockBackward:        "clock backward",
	ClockFarAhead:        "clock far ahead",
	PushesHeld:           "pushes held",
	RelayedWhileHolding:  "relayed while holding",
	Rebases:              "rebases",
	TransactionsReissued: "transactions re-issued",
	RebasesCrashed:       "rebases crashed",
	RebasesBlocked:       "rebases blocked",
	RebasesMended:        "rebases mended",
	RebasesSpared:        "rebases spared",
	HeldUntilTheirTime:   "held until their time",
}

// String returns the words that reports use.
func (k Kind) String() string { return kindNames[k] }

// Key returns the name as a key of JSON output.
func (k Kind) Key() string { return strings.ReplaceAll(strings.ToLower(kindNames[k]), " ", "_") }

// IsFault reports whether k is something that goes wrong, or a sign of it.
func (k Kind) IsFault() bool { return k >= firstFault }

// Kinds returns all kinds in the order of reports.
func Kinds() []Kind {
	kinds := make([]Kind, numKinds)
	for i := range kinds {
		kinds[i] = Kind(i)
	}
	return kinds
}

// Counts says how often each kind came up.
type Counts [numKinds]int64

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	for i, n := range o {
		c[i] += n
	}
}

// Missing returns the kinds that never came up and ought to. It takes an unlikely history to make the digests of two
// replicas differ while their vectors are equal, a node forget that it passed on what another is about to re-issue, damage stand in
// the way of a rebase, or a piece of a snapshot come twice, so that is not asked for.
func (c *Counts) Missing() []Kind {
	var missing []Kind
	for i, n := range c {
		if k := Kind(i); n == 0 && k != DifferingDigests && k != RebasesSpared && k != RebasesMended && k != LastingDifferences && k != KnownPieces {
			missing = append(missing, k)
		}
	}
	return missing
}
