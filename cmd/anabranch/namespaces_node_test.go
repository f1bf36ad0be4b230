//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// netNode is a node in a namespace of its own, one process after another.
type netNode struct {
	t      *testing.T
	wires  *wires
	index  int
	dir    string
	id     string
	peers  []string // arguments
	offset time.Duration
	copies []storeCopy
	// mayBeFar: its clock may be further ahead than peers put up with. Then no copy of its store is made.
	mayBeFar bool

	life  atomic.Int64 // odd from before the process is stopped until the next one answers
	cmd   *exec.Cmd
	ended chan struct{}
	log   *os.File
}

// storeCopy is a copy of a store's directory, from when no process had it open, or a backup.
type storeCopy struct {
	path     string
	isBackup bool
	at       int // the ledger's clock
}

func newNetNodes(t *testing.T, w *wires) []*netNode {
	t.Helper()
	base := t.TempDir()
	var nodes []*netNode
	for i := range w.names {
		n := &netNode{t: t, wires: w, index: i, dir: filepath.Join(base, fmt.Sprint("node", i))}
		n.id = strings.TrimSpace(command(t, "--dir", n.dir, "id"))
		var err error
		if n.log, err = os.Create(filepath.Join(base, fmt.Sprintf("node%d.log", i))); err != nil {
			t.Fatal(err)
		}
		n.life.Store(1)
		t.Cleanup(func() { n.stop(unix.SIGKILL); n.showLog() })
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		for _, m := range nodes {
			switch {
			case m.index < n.index:
				n.peers = append(n.peers, "--peer", fmt.Sprintf("%s@%s:%s", m.id, w.address(m.index, n.index), nodePort))
			case m.index > n.index:
				n.peers = append(n.peers, "--allow", m.id)
			}
		}
	}
	return nodes
}

// maxOffline is short, so that a node that is cut off no longer holds pruning back, and has to rejoin.
const maxOffline = "8s"

// start starts the node and waits until it answers.
func (n *netNode) start() {
	n.t.Helper()
	args := append([]string{"netns", "exec", n.wires.names[n.index], "anabranch", "--dir", n.dir, "--log-level", "info",
		"serve", "--listen", "0.0.0.0:" + nodePort, "--prune-delay", "1s", "--max-offline", maxOffline}, n.peers...)
	n.cmd = exec.Command("ip", args...)
	n.cmd.Env = append(os.Environ(), "ANABRANCH_CLOCK_OFFSET="+n.offset.String())
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	n.ended = ended
	go func() {
		n.cmd.Wait()
		close(ended)
	}()
	for giveUp := time.Now().Add(patience); ; {
		if c, err := control.Dial(n.t.Context(), n.dir); err == nil {
			c.Close()
			n.life.Add(1)
			return
		}
		select {
		case <-ended:
			n.t.Fatalf("node %d ends at once: %v", n.index, n.cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(giveUp) {
			n.t.Fatalf("node %d does not answer after %s", n.index, patience)
		}
	}
}

// stop sends a signal and waits until the process is gone.
func (n *netNode) stop(signal unix.Signal) {
	if n.cmd == nil {
		return
	}
	n.life.Add(1)
	_ = n.cmd.Process.Signal(signal) // it may be gone
	<-n.ended
	n.cmd = nil
}

// maxCopies is how many a node has at most: a new one takes the place of the oldest.
const maxCopies = 3

func (n *netNode) keep(c storeCopy) {
	if len(n.copies) == maxCopies {
		os.RemoveAll(n.copies[0].path)
		n.copies = n.copies[1:]
	}
	n.copies = append(n.copies, c)
}

// copyStore copies the store. No process has it open.
func (n *netNode) copyStore(at int) {
	n.t.Helper()
	c := storeCopy{path: fmt.Sprintf("%s.copy%d", n.dir, at), at: at}
	replaceDir(n.t, c.path, n.dir)
	n.keep(c)
}

// backUp backs the store up, under the node that has it open.
func (n *netNode) backUp(at int) {
	n.t.Helper()
	c := storeCopy{path: fmt.Sprintf("%s.backup%d", n.dir, at), at: at, isBackup: true}
	command(n.t, "--dir", n.dir, "backup", "--force", "--with-identity", c.path)
	n.keep(c)
}

// putBack puts the store back to a copy of it. No process has it open.
func (n *netNode) putBack(c storeCopy) {
	n.t.Helper()
	if !c.isBackup {
		replaceDir(n.t, n.dir, c.path)
		return
	}
	if err := os.RemoveAll(n.dir); err != nil {
		n.t.Fatal(err)
	}
	command(n.t, "--dir", n.dir, "restore", c.path)
}

// replaceDir puts a copy of one directory in the place of another.
func replaceDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// showLog prints the end of what the node said, if the test has failed.
func (n *netNode) showLog() {
	defer n.log.Close()
	if !n.t.Failed() {
		return
	}
	text, err := os.ReadFile(n.log.Name())
	if err != nil {
		n.t.Log(err)
	}
	n.t.Logf("node %d said in the end:\n%s", n.index, text[max(0, len(text)-4000):])
}

// status asks the node; nil if it does not answer.
func (n *netNode) status() *node.Status {
	c, err := control.Dial(n.t.Context(), n.dir)
	if err != nil {
		return nil
	}
	defer c.Close()
	st, err := c.Status(n.t.Context())
	if err != nil {
		return nil
	}
	return &st
}

// shows returns the whole numbers in all documents of the node, and all of it as text, for comparison.
func (n *netNode) shows(ctx context.Context) (numbers map[string]map[string]int, all string) {
	n.t.Helper()
	c, err := control.Dial(ctx, n.dir)
	if err != nil {
		n.t.Fatal(err)
	}
	defer c.Close()
	numbers = make(map[string]map[string]int)
	var b strings.Builder
	for doc, err := range c.Scan(ctx, "main", node.ScanOptions{}) {
		if err != nil {
			n.t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %s\n", doc.Key, doc.Doc)
		if !strings.HasPrefix(doc.Key, "own/") {
			continue
		}
		var fields map[string]int
		if err := json.Unmarshal(doc.Doc, &fields); err != nil {
			n.t.Fatalf("node %d: %s: %v", n.index, doc.Key, err)
		}
		numbers[doc.Key] = fields
	}
	return numbers, b.String()
}

// disturb does something to the node, and tells what.
func (n *netNode) disturb(l *netLedger, rng *rand.Rand) string {
	n.t.Helper()
	pause := time.Duration(rng.IntN(2)*rng.IntN(2000)) * time.Millisecond
	var what string
	switch d := rng.IntN(10); {
	case d < 1:
		n.stop(unix.SIGTERM)
		what = "stopped"
	case d < 2, n.mayBeFar && (d < 5 || d < 8 && len(n.copies) == 0):
		n.stop(unix.SIGKILL)
		what = "killed"
	case d < 4 || d < 8 && len(n.copies) == 0:
		n.stop(unix.SIGKILL)
		n.copyStore(l.now())
		what = "killed and copied"
	case d < 5:
		n.backUp(l.now())
		return "backed up"
	case d < 8:
		c := n.copies[rng.IntN(len(n.copies))]
		l.quiet.Lock()
		n.stop(unix.SIGKILL)
		n.putBack(c)
		l.putBack(n.index, c.at)
		l.quiet.Unlock()
		what = fmt.Sprintf("put back to %d", c.at)
	default:
		n.stop(unix.SIGKILL)
		if n.offset = offsets[rng.IntN(len(offsets))]; n.mayBeFar && rng.IntN(2) == 0 {
			n.offset = farOffsets[rng.IntN(len(farOffsets))]
		}
		what = fmt.Sprintf("killed, and its clock set to %s", n.offset)
	}
	<-time.After(pause)
	n.start()
	return what
}

// offsets of clocks: behind, and ahead by no more than peers put up with.
var offsets = []time.Duration{0, 20 * time.Second, 50 * time.Second, -30 * time.Second, -10 * time.Minute, -3 * time.Hour}

// farOffsets are ahead by more. What a node writes so is held back, and issued again when its clock is right; but only if nobody else took
// it, as a second such clock would, and if the store is not put back to a copy that has it.
var farOffsets = []time.Duration{10 * time.Minute, 400 * 24 * time.Hour}
