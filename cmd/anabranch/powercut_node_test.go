//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// cutSpec tells a process to be the node whose power is cut. The process has a mount namespace of its own: whatever way it
// ends, its mount goes with it, and with the mount the loop device.
type cutSpec struct {
	Image  string // of an ext4 file system; "": Mount is used as it is
	Mount  string // an empty directory
	Ledger string // on a file system that has power
	Boot   string // a file with a boot ID: a machine that had no power has another one
	Commit int    // seconds between two commits of the file system's journal

	Sync      replica.SyncMode
	Seed      uint64
	Writeback bool // the system writes pages back in any order, as it may
	Writes    int  // so many from each writer, then they rest; 0: without end
	Last      bool // compare, and close in peace
	Close     bool // close in peace when all writers rest

	Identity string // directory of the node's key
	Peer     replica.Peer
	PeerHas  []crdt.Dot
}

const (
	cutEnv       = "ANABRANCH_TEST_CUT_NODE"
	cutNoMount   = 77 // exit code: such a file system cannot be had here
	cutSpace     = "main"
	cutWriters   = 4
	cutMemTable  = 8 << 20 // the smallest: many logs and tables, and a redo file from 1.2 MB on
	cutInterval  = 20 * time.Millisecond
	cutMaxSmall  = 300
	cutMaxMedium = 200 << 10
	cutLarge     = 450 << 10 // of each of cutLargeDocs documents
	cutLargeDocs = 6
)

func init() {
	if os.Getenv(cutEnv) != "" {
		os.Exit(runCutNode())
	}
}

// What the process says on its standard output, a word and perhaps JSON on each line: mounted, ready (with a cutReport),
// level (with a cutReport), ack, synced, resting, failed, readonly, closed.
type cutReport struct {
	cutVerdict

	WentBack []string       `json:"went_back"`
	Replica  crdt.ReplicaID `json:"replica"` // before the first write
	Vector   []crdt.Dot     `json:"vector"`
	Digest   string         `json:"digest"`
}

// cutNode is that node, in its process.
type cutNode struct {
	cutSpec

	sayMu  sync.Mutex
	ledger *os.File
	space  *replica.Space
	next   atomic.Int64
}

// runCutNode reads the cutSpec from its standard input, whose end means that the test is gone.
func runCutNode() int {
	n := &cutNode{}
	in := json.NewDecoder(os.Stdin)
	if err := in.Decode(&n.cutSpec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go func() {
		for in.Decode(new(any)) == nil {
		}
		os.Exit(1) //nolint:revive // it is the main of the child
	}()
	if err := n.mount(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return cutNoMount
	}
	n.say("mounted", nil)
	if err := n.run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		n.say("failed", nil)
		return 1
	}
	return 0
}

func (n *cutNode) say(word string, detail any) {
	n.sayMu.Lock()
	defer n.sayMu.Unlock()
	if detail == nil {
		fmt.Fprintln(os.Stdout, word)
		return
	}
	text, err := json.Marshal(detail)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%s %s\n", word, text)
}

func (n *cutNode) mount() error {
	if n.Image == "" {
		return nil
	}
	if err := unix.Mount(n.Boot, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount another boot ID: %w", err)
	}
	options := fmt.Sprintf("loop,noatime,commit=%d", n.Commit)
	if out, err := exec.Command("mount", "-t", "ext4", "-o", options, n.Image, n.Mount).CombinedOutput(); err != nil {
		return fmt.Errorf("mount %s: %w: %s", n.Image, err, out)
	}
	return nil
}

func (n *cutNode) dir() string { return filepath.Join(n.Mount, "store") }

func (n *cutNode) run(ctx context.Context) (err error) {
	if n.ledger, err = openCutLedger(n.Ledger); err != nil {
		return err
	}
	r, err := n.open()
	if err != nil {
		return err
	}
	self := r.ReplicaID() // making a space draws none
	if n.space, err = r.Space(cutSpace); err != nil {
		return err
	}
	if err := n.compare(ctx, "ready", self); err != nil {
		return err
	}
	if n.Peer.Addr != "" {
		r.AddPeer(n.Peer)
		if err := n.space.WaitVector(ctx, crdt.NewVersionVector(n.PeerHas...)); err != nil {
			return err
		}
		if err := n.compare(ctx, "level", r.ReplicaID()); err != nil {
			return err
		}
		if err := n.waitForPeer(ctx); err != nil { // or Close may come before what survived here has got there
			return err
		}
	}
	if !n.Last {
		if err := n.write(ctx); err != nil {
			return err
		}
	}
	if err := r.Close(); err != nil {
		return err
	}
	if err := badgerstore.VerifyTables(ctx, n.dir(), nil); err != nil {
		return err
	}
	n.say("closed", nil)
	return nil
}

// waitForPeer returns when the peer holds all that is here.
func (n *cutNode) waitForPeer(ctx context.Context) error {
	for range time.Tick(10 * time.Millisecond) {
		st, err := n.space.Status(ctx)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(st.Peers, func(p replica.PeerSpaceStatus) bool { return p.Level }) {
			break
		}
	}
	return nil
}

func (n *cutNode) open() (*replica.Replica, error) {
	cfg := replica.Config{
		Dir: n.dir(), Sync: n.Sync, SyncInterval: cutInterval, MemTableBytes: cutMemTable,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
	if n.Peer.Addr != "" {
		id, err := quicnet.LoadOrCreateIdentity(n.Identity)
		if err != nil {
			return nil, err
		}
		allow := func(p replica.PeerID) bool { return p == n.Peer.ID }
		if cfg.Transport, err = quicnet.New(quicnet.Config{Identity: id, Allow: allow, Logger: cfg.Logger}); err != nil {
			return nil, err
		}
	}
	return replica.Open(cfg)
}

// compare compares the store with the ledger, notes in the ledger what it showed, and says so.
func (n *cutNode) compare(ctx context.Context, word string, self crdt.ReplicaID) error {
	report, err := n.space.Verify(ctx, replica.VerifyOptions{})
	if err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return fmt.Errorf("%d problems in the space: %v", len(report.Problems), report.Problems)
	}
	l, err := readCutLedger(n.Ledger)
	if err != nil {
		return err
	}
	n.next.Store(l.last)
	c, err := n.contents(ctx)
	if err != nil {
		return err
	}
	if err := n.note(cutLine{What: "seen", Seen: &c}); err != nil {
		return err
	}
	n.say(word, cutReport{cutVerdict: l.judge(c), WentBack: l.wentBack(c), Replica: self, Vector: c.Vector, Digest: report.Digest.String()})
	return nil
}

func (n *cutNode) contents(ctx context.Context) (cutContents, error) {
	st, err := n.space.Status(ctx)
	if err != nil {
		return cutContents{}, err
	}
	c := cutContents{Vector: slices.Collect(st.Vector.All()), Shown: make(map[string]cutBody), Counts: make(map[int]int64)}
	for doc, err := range n.space.Scan(ctx, "") {
		if err != nil {
			return c, err
		}
		var fields struct {
			N     int64
			Count int64
		}
		if err := doc.Decode(&fields); err != nil {
			return c, fmt.Errorf("%s: %w", doc.Key, err)
		}
		var writer int
		if _, err := fmt.Sscanf(doc.Key, "count%d", &writer); err == nil {
			c.Counts[writer] = fields.Count
			continue
		}
		value, _ := doc.Get(crdt.Path{"body"})
		body, ok := value.([]byte)
		if !ok {
			return c, fmt.Errorf("the body of %s is %T", doc.Key, value)
		}
		c.Shown[doc.Key] = cutBody{N: fields.N, Sum: sumCutBody(body), Size: len(body)}
	}
	return c, nil
}

func (n *cutNode) note(e cutLine) error { return e.writeTo(n.ledger) }

// write has all writers write until one fails, which is when the power is gone, or until all of them rest, if the node is then to
// be closed.
func (n *cutNode) write(ctx context.Context) error {
	failed, resting := make(chan error, cutWriters), make(chan struct{}, cutWriters)
	for w := range cutWriters {
		rng := rand.New(rand.NewPCG(n.Seed, uint64(w)))
		go func() {
			for i := 0; n.Writes == 0 || i < n.Writes; i++ {
				if err := n.writeOnce(ctx, w, rng); err != nil {
					failed <- err
					return
				}
			}
			n.say("resting", nil)
			resting <- struct{}{}
		}()
	}
	var err error
	for rested := 0; err == nil; {
		select {
		case err = <-failed:
		case <-resting:
			if rested++; n.Close && rested == cutWriters {
				return nil
			}
		}
	}
	if errors.Is(err, store.ErrReadOnly) {
		err = errors.Join(err, n.onlyReads(ctx))
	}
	return err
}

// onlyReads checks what is left of a node whose store has met with an error of the disk.
func (n *cutNode) onlyReads(ctx context.Context) error {
	_, err := n.space.Update(ctx, func(tx *replica.Tx) error { return tx.Doc("more").Set(crdt.Path{"n"}, 1) })
	if !errors.Is(err, store.ErrReadOnly) {
		return fmt.Errorf("a write after the error ends with %w", err)
	}
	c, err := n.contents(ctx)
	if err != nil {
		return err
	}
	l, err := readCutLedger(n.Ledger)
	if err != nil {
		return err
	}
	n.say("readonly", cutReport{cutVerdict: l.judge(c)})
	return nil
}

func (n *cutNode) writeOnce(ctx context.Context, w int, rng *rand.Rand) error {
	e := n.draw(w, rng)
	if err := n.note(e); err != nil {
		return err
	}
	rc, err := n.space.Update(ctx, func(tx *replica.Tx) error {
		for _, key := range e.Keys {
			tx.Doc(key).Set(crdt.Path{}, map[string]any{"n": e.N, "body": cutBodyOf(e.N, key, e.Size)})
		}
		tx.Doc(fmt.Sprintf("count%d", w)).Increment(crdt.Path{"count"}, 1)
		return nil
	})
	if err != nil {
		return err
	}
	if err := n.note(cutLine{What: "ack", N: e.N, Dot: rc.Dot}); err != nil {
		return err
	}
	n.say("ack", nil)
	if n.Peer.Addr != "" && rng.IntN(6) == 0 {
		if err := n.space.WaitSynced(ctx, rc, 1); err != nil {
			return err
		}
		if err := n.note(cutLine{What: "synced", N: e.N}); err != nil {
			return err
		}
		n.say("synced", nil)
	}
	if n.Writeback && rng.IntN(3) == 0 {
		return n.writeBack(rng)
	}
	return nil
}

// draw says what is written next: most often something small, now and then what fills the logs, and what goes through the redo file.
func (n *cutNode) draw(w int, rng *rand.Rand) cutLine {
	e := cutLine{What: "try", N: n.next.Add(1), Writer: w}
	count := 1
	switch kind := rng.IntN(20); {
	case kind == 0:
		count, e.Size = cutLargeDocs, cutLarge
	case kind < 4:
		e.Size = rng.IntN(cutMaxMedium)
	case kind < 8:
		count, e.Size = 2, rng.IntN(cutMaxSmall)
	default:
		e.Size = rng.IntN(cutMaxSmall)
	}
	for _, k := range rng.Perm(cutLargeDocs + 2)[:count] {
		e.Keys = append(e.Keys, fmt.Sprintf("w%d-%d", w, k))
	}
	return e
}

// writeBack has the system write back some pages of some file, or all that it has. It may do so at any time and in any
// order, so a later page of a log can be on the disk before an earlier one.
func (n *cutNode) writeBack(rng *rand.Rand) error {
	files := make([]string, 0, 64)
	_ = filepath.WalkDir(n.dir(), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && !strings.HasSuffix(path, ".sock") {
			files = append(files, path)
		}
		return nil // files come and go meanwhile
	})
	f, err := os.Open(files[rng.IntN(len(files))])
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if rng.IntN(40) == 0 {
		return unix.Syncfs(int(f.Fd()))
	}
	fi, err := f.Stat()
	if err != nil || fi.Size() == 0 {
		return err
	}
	const page = 4096
	from := rng.Int64N(fi.Size()) &^ (page - 1)
	return unix.SyncFileRange(int(f.Fd()), from, page*(1+rng.Int64N(256)), unix.SYNC_FILE_RANGE_WRITE)
}
