package node

import (
	"context"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// Local is a Node whose store this process has open.
type Local struct {
	r       *replica.Replica
	dir     string
	version string
	peerID  string
	serving bool
	admin   string
	gateway string
	tokens  func() (*gateway.Tokens, error)
}

// LocalConfig describes what a Local is made of.
type LocalConfig struct {
	Replica *replica.Replica
	Dir     string
	Version string
	PeerID  string // of the store, also while there is no transport; may be empty
	Serving bool   // other processes reach it over the socket
	Admin   string // address of the admin listener; may be empty
	Gateway string // URL of the gateway; may be empty
	// Tokens opens the tokens of the gateway when they are first needed.
	Tokens func() (*gateway.Tokens, error)
}

// NewLocal returns a Node that closes the replica when it is closed.
func NewLocal(c LocalConfig) *Local {
	return &Local{
		r: c.Replica, dir: c.Dir, version: c.Version, peerID: c.PeerID, serving: c.Serving, admin: c.Admin,
		gateway: c.Gateway, tokens: sync.OnceValues(c.Tokens),
	}
}

// existing returns a space for reading, which must not make it.
func (l *Local) existing(name string) (*replica.Space, error) {
	if s, ok := l.r.Lookup(name); ok {
		return s, nil
	}
	if _, err := replica.ParseSpaceID(name); err == nil {
		return l.r.Space(name) // which makes none of that name, and says so
	}
	return nil, fmt.Errorf("%w: there is no space %q: %s", replica.ErrNotFound, name, l.describeSpaces())
}

func (l *Local) describeSpaces() string {
	spaces := l.r.Spaces()
	if len(spaces) == 0 {
		return "the store is empty"
	}
	quoted := make([]string, 0, len(spaces))
	for _, s := range spaces[:min(len(spaces), 8)] {
		quoted = append(quoted, strconv.Quote(s))
	}
	return "there are " + strings.Join(quoted, ", ")
}

// Commit applies the operations as one transaction, and makes the space if it is new.
func (l *Local) Commit(ctx context.Context, space string, ops []Op) (Receipt, error) {
	if len(ops) > MaxOps {
		return Receipt{}, &crdt.LimitError{What: "transaction", Size: len(ops), Limit: MaxOps, Unit: "documents"}
	}
	for i := range ops {
		if err := ops[i].Parse(); err != nil {
			return Receipt{}, fmt.Errorf("%s %.80q: %w", ops[i].Op, ops[i].Key, err)
		}
	}
	s, err := l.r.Space(space)
	if err != nil {
		return Receipt{}, err
	}
	rc, err := s.Update(ctx, func(tx *replica.Tx) error {
		for i := range ops {
			if err := ops[i].apply(tx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || rc.Dot.IsZero() {
		return Receipt{}, err
	}
	return Receipt{Changed: true, Replica: rc.Dot.Replica.String(), Time: uint64(rc.Dot.Time), Sync: syncName(rc.Sync)}, nil
}

func syncName(m replica.SyncMode) string {
	switch m {
	case replica.SyncAlways:
		return "always"
	case replica.SyncInterval:
		return "interval"
	}
	return "never"
}

// Wait returns when n peers hold the transaction.
func (l *Local) Wait(ctx context.Context, space string, rc Receipt, n int, timeout time.Duration) (int, error) {
	s, err := l.existing(space)
	if err != nil {
		return 0, err
	}
	var own replica.Receipt
	if rc.Changed {
		id, err := crdt.ParseReplicaID(rc.Replica)
		if err != nil {
			return 0, fmt.Errorf("%w: receipt: %w", ErrRequest, err)
		}
		own.Dot = crdt.Dot{Replica: id, Time: hlc.Time(rc.Time)}
	}
	if have := s.Synced(own); !l.serving && have < n {
		return have, fmt.Errorf("%w: no node serves the store, so the change stays here until `anabranch serve` runs", ErrOffline)
	}
	waiting := ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	err = s.WaitSynced(waiting, own, n)
	if err != nil && ctx.Err() == nil && waiting.Err() != nil {
		err = fmt.Errorf("%w: after %s %d of %d peers have the change; it stays here and goes out when they connect", ErrOffline, timeout, s.Synced(own), n)
	}
	return s.Synced(own), err
}

// Get returns one document.
func (l *Local) Get(ctx context.Context, space, key string) (Document, error) {
	if err := crdt.CheckKey(key); err != nil {
		return Document{}, err
	}
	s, err := l.existing(space)
	if err != nil {
		return Document{}, err
	}
	d, err := s.Get(ctx, key)
	if err != nil {
		return Document{}, err
	}
	doc := Document{Key: key, Doc: d.AppendJSON(nil), Cursor: d.Cursor.String()}
	for _, c := range d.Conflicts() {
		doc.Conflicts = append(doc.Conflicts, Conflict{
			ID: conflictID(c.Dot), Path: c.Path.String(), Value: c.Value.AppendJSON(nil), Author: c.Author.String(), Time: c.Time.Wall(),
			ShownPath: c.ShownAt.String(), Shown: c.Shown.AppendJSON(nil),
			ShownAuthor: c.ShownAuthor.String(), ShownTime: c.ShownTime.Wall(),
		})
	}
	return doc, nil
}

// Scan yields documents.
func (l *Local) Scan(ctx context.Context, space string, o ScanOptions) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		s, err := l.existing(space)
		if err != nil {
			yield(Document{}, err)
			return
		}
		g := replica.Range{Prefix: o.Prefix, After: o.After, Limit: o.Limit}
		if o.KeysOnly {
			for key, err := range s.Keys(ctx, g) {
				if !yield(Document{Key: key}, err) {
					return
				}
			}
			return
		}
		for d, err := range s.ScanRange(ctx, g) {
			if err != nil {
				yield(Document{}, err)
				return
			}
			if !yield(Document{Key: d.Key, Doc: d.AppendJSON(nil), Cursor: d.Cursor.String()}, nil) {
				return
			}
		}
	}
}

// Watch yields changes. It makes the space if it is new: who watches expects something to come. While this process has the
// store open and does not serve it, nobody else can change it, and Watch ends behind what is there.
func (l *Local) Watch(ctx context.Context, space string, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		s, err := l.r.Space(space)
		if err != nil {
			yield(Event{}, err)
			return
		}
		since := s.Cursor()
		if o.Since != "now" {
			if since, err = replica.ParseCursor(o.Since); err != nil {
				yield(Event{}, err)
				return
			}
		}
		end := s.Cursor().Arrival
		if !l.serving && since.Arrival == end {
			return
		}
		for c, err := range s.Watch(ctx, since) {
			if err != nil {
				yield(Event{}, err)
				return
			}
			if strings.HasPrefix(c.Key, o.Prefix) && !yield(event(c), nil) {
				return
			}
			if !l.serving && c.Cursor.Arrival >= end {
				return
			}
		}
	}
}

func event(c replica.Change) Event {
	e := Event{Cursor: c.Cursor.String(), Key: c.Key, Deleted: c.Document == nil}
	if c.Document != nil {
		e.Doc = c.Document.AppendJSON(nil)
	}
	return e
}

// Status describes the node.
func (l *Local) Status(ctx context.Context) (Status, error) {
	st := Status{
		Dir: l.dir, Serving: l.serving, Version: l.version, PeerID: l.peerID, Addresses: l.r.Addrs(), SeenAt: l.r.SeenAt(), Admin: l.admin, Gateway: l.gateway,
		DiskBytes: l.r.Usage().DiskBytes, Clock: clockStatus(l.r.Clock()), Spaces: []SpaceStatus{}, Peers: []Peer{},
	}
	if l.serving {
		st.PID = os.Getpid()
	}
	if id := l.r.ReplicaID(); id != 0 {
		st.ReplicaID = id.String()
	}
	for _, name := range l.r.Spaces() {
		s, err := l.r.Space(name)
		if err != nil {
			return st, err
		}
		ss, err := s.Status(ctx)
		if err != nil {
			return st, err
		}
		st.Spaces = append(st.Spaces, spaceStatus(ss))
	}
	for _, p := range l.r.Peers() {
		st.Peers = append(st.Peers, peerStatus(p))
	}
	return st, nil
}

func spaceStatus(s replica.SpaceStatus) SpaceStatus {
	out := SpaceStatus{
		Name: s.Name, Documents: s.Documents, Digest: s.Digest.String(), Closed: s.Closed, Cursor: s.Cursor.String(),
		Conflicts: s.Conflicts, Conflicted: s.Conflicted,
		Vector: vectorTexts(s.Vector), Stable: vectorTexts(s.Stable), Snapshot: snapshotOf(s.Snapshot), Peers: []SpacePeer{},
		Stability: stabilityOf(s.Stability),
	}
	out.Repair = Repair{
		Mismatches: s.Repair.Mismatches, Repairs: s.Repair.Repairs, Documents: s.Repair.Documents, Last: timeOrNil(s.Repair.Last),
	}
	if s.Repair.Damaged {
		out.Repair.Damaged = s.Repair.DamageWas
	}
	for _, p := range s.Peers {
		out.Peers = append(out.Peers, SpacePeer{
			Peer: p.Peer.String(), Connected: p.Connected, Level: p.Level, Known: p.Known, Pending: p.Pending,
			Mismatch: p.Mismatch, RepairedAt: timeOrNil(p.RepairedAt), Repaired: p.Repaired, Snapshot: snapshotOf(p.Snapshot), LastError: p.LastError, ErrorAt: timeOrNil(p.ErrorAt),
		})
	}
	return out
}

func snapshotOf(s *replica.SnapshotStatus) *Snapshot {
	if s == nil {
		return nil
	}
	return &Snapshot{
		Peer: s.Peer.String(), Documents: s.Documents, KnownDocuments: s.KnownDocuments,
		Bytes: s.Bytes, KnownBytes: s.KnownBytes, Active: s.Active,
	}
}

func vectorTexts(vv crdt.VersionVector) map[string]string {
	texts := make(map[string]string, vv.Len())
	for d := range vv.All() {
		texts[d.Replica.String()] = d.Time.String()
	}
	return texts
}

func peerStatus(p replica.PeerStatus) Peer {
	out := Peer{
		Address: p.Addr, Source: p.Source, Seen: timeOrNil(p.Seen), Connected: p.Connected, Dialled: p.Dialled, Since: timeOrNil(p.Since), Sent: p.Sent, Received: p.Received,
		SkewMS: p.Skew.Milliseconds(), LastError: p.LastError, ErrorAt: timeOrNil(p.ErrorAt),
	}
	if !p.ID.IsZero() {
		out.ID = p.ID.String()
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Verify checks one space.
func (l *Local) Verify(ctx context.Context, space string, repair bool, progress func(keys int64)) (Report, error) {
	s, err := l.existing(space)
	if err != nil {
		return Report{}, err
	}
	found, err := s.Verify(ctx, replica.VerifyOptions{Repair: repair, Progress: progress})
	if err != nil {
		return Report{}, fmt.Errorf("verify space %q: %w", space, err)
	}
	report := Report{
		Space: space, Documents: found.Live, Stored: found.Documents, Records: found.Records, LogEntries: found.LogEntries,
		FeedEntries: found.FeedEntries, Digest: found.Digest.String(), Problems: []Problem{}, Suppressed: found.Suppressed,
	}
	for _, p := range found.Problems {
		report.Problems = append(report.Problems, Problem{What: p.What, Where: p.Where, Derived: p.Derived})
	}
	return report, nil
}

// Close closes the replica.
func (l *Local) Close() error { return l.r.Close() }
