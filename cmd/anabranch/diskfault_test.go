//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// The disk fails under a node that writes. From then on nothing is acknowledged, and what was is there: for reading at once,
// and when the node is started again on a disk that works.
func TestFailingDiskLeavesWhatWasAcknowledged(t *testing.T) {
	tests := []struct {
		name string
		fail func(p *cutProcess)
	}{
		{"each call ends with an I/O error", (*cutProcess).shutdown},
		{"the system makes the file system read-only", func(p *cutProcess) {
			// What the system does by itself upon an error in the file system's own structures.
			command := exec.Command("nsenter", "--mount", "--target", strconv.Itoa(p.Process.Pid), "mount", "-o", "remount,abort", p.disk.mount)
			if out, err := command.CombinedOutput(); err != nil {
				t.Skipf("not tested: %v: %s", err, out)
			}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, seed := powerCuts(t)
			d := newCutDisk(t, seed)
			p := d.start(cutSpec{Sync: replica.SyncAlways, Seed: seed, Commit: 5})
			p.report("ready")
			p.run("ack", 30, 0)
			p.stop() // or a sync that is under way could still succeed
			e := cutLine{What: "cut", Before: d.ledgerSize(), After: d.ledgerSize()}
			test.fail(p)
			if err := p.Process.Signal(unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			r := p.awaitReport("readonly")
			d.judge("on the failed disk", r)
			if len(r.Lost) > 0 {
				t.Errorf("writes %v were acknowledged and cannot be read any more", r.Lost)
			}
			p.end()
			if err := e.appendTo(d.ledger); err != nil {
				t.Fatal(err)
			}
			r = d.start(cutSpec{Sync: replica.SyncAlways, Commit: 5, Last: true}).report("ready")
			d.judge("on a disk that works", r)
			if len(r.Lost) > 0 || len(r.Late) > 0 {
				t.Errorf("on a disk that works: writes %v are lost, %v were acknowledged when there was no disk any more", r.Lost, r.Late)
			}
		})
	}
}

// smallDisk is a file system of some size, and a file that takes the room on it.
type smallDisk struct {
	t       *testing.T
	dir     string
	ballast string
}

func newSmallDisk(t *testing.T, bytes int64) *smallDisk {
	t.Helper()
	d := &smallDisk{t: t, dir: t.TempDir()}
	d.ballast = filepath.Join(d.dir, "ballast")
	if err := unix.Mount("anabranch-test", d.dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", bytes)); err != nil {
		t.Skipf("not tested: mounting a small file system needs root: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(d.dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

// fill takes room bit by bit until no more than so much is free.
func (d *smallDisk) fill(free int64) {
	f, err := os.OpenFile(d.ballast, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer f.Close()
	for piece := make([]byte, 256<<10); ; {
		var st unix.Statfs_t
		if err := unix.Statfs(d.dir, &st); err != nil {
			d.t.Error(err)
			return
		}
		if int64(st.Bavail)*int64(st.Bsize) <= free {
			return
		}
		if _, err := f.Write(piece); err != nil {
			d.t.Error(err)
			return
		}
	}
}

func (d *smallDisk) clear() {
	if err := os.Remove(d.ballast); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.t.Fatal(err)
	}
}

// writeUntilFull has writers write while the disk fills up, until each is refused.
func writeUntilFull(t *testing.T, d *smallDisk, c *control.Client, l *ledger, next *atomic.Int64) {
	t.Helper()
	var writers sync.WaitGroup
	body := fmt.Appendf(nil, "%q", strings.Repeat("x", 8<<10))
	for w := range killWriters {
		writers.Go(func() {
			for {
				n := next.Add(1)
				key := fmt.Sprintf("w%d-%d", w, n%keysPerWriter)
				l.note(l.attempted, key, n)
				_, err := c.Commit(t.Context(), "main", []node.Op{
					{Op: node.OpSet, Key: key, Path: "/n", Value: fmt.Append(nil, n)}, {Op: node.OpSet, Key: key, Path: "/body", Value: body},
				})
				if err == nil {
					l.note(l.acked, key, n)
					continue
				}
				if !errors.Is(err, store.ErrNoSpace) {
					t.Errorf("on the full disk a write ends with %v", err)
				}
				return
			}
		})
	}
	d.fill(60 << 20) // the store wants 96 MiB
	writers.Wait()
}

// A node whose disk fills up goes on reading, takes nothing that it cannot keep, from its user or from a peer, and
// goes on when there is room; and if it is killed on the full disk, nothing is lost either.
func TestServingNodeOnAFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("fills a file system of 400 MB, and waits for a peer to try again")
	}
	disk := newSmallDisk(t, 400<<20)
	a, b := filepath.Join(disk.dir, "a"), filepath.Join(t.TempDir(), "b")
	idA, idB := strings.TrimSpace(command(t, "--dir", a, "id")), strings.TrimSpace(command(t, "--dir", b, "id"))
	command(t, "--dir", b, "put", "other", `{"n":0}`)
	other := start(t, "--dir", b, "serve", "--listen", "127.0.0.1:0", "--allow", idA)
	defer other.kill()
	peer := reach(t, b)
	st, err := peer.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	serve := []string{"--dir", a, "serve", "--listen", "127.0.0.1:0", "--peer", idB + "@" + st.Addresses[0]}
	full := start(t, serve...)
	defer func() { full.kill() }()
	c := reach(t, a)
	l := newLedger()
	var next atomic.Int64

	writeUntilFull(t, disk, c, l, &next)
	shown := make(map[string]int64)
	for doc, err := range c.Scan(t.Context(), "main", node.ScanOptions{}) {
		if err != nil {
			t.Fatalf("reading on the full disk: %v", err)
		}
		shown[doc.Key] = numberOf(t, doc)
	}
	l.check(t, "on the full disk", shown, l.acked)
	rc, err := peer.Commit(t.Context(), "main", []node.Op{{Op: node.OpSet, Key: "other", Path: "/n", Value: []byte("1")}})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := peer.Wait(t.Context(), "main", rc, 1, time.Second); n != 0 || !errors.Is(err, node.ErrOffline) {
		t.Errorf("a node without room has acknowledged a peer's write: %d, %v", n, err)
	}

	disk.clear()
	if _, err := c.Commit(t.Context(), "main", []node.Op{{Op: node.OpSet, Key: "more", Path: "/n", Value: []byte("1")}}); err != nil {
		t.Errorf("with room again a write ends with %v", err)
	}
	if _, err := peer.Wait(t.Context(), "main", rc, 1, 2*patience); err != nil {
		t.Errorf("with room again the peer's write does not arrive: %v", err)
	}

	writeUntilFull(t, disk, c, l, &next)
	full.kill()
	c.Close()
	if out, err := exec.Command("anabranch", "--dir", a, "get", "more").CombinedOutput(); err == nil || !strings.Contains(string(out), store.ErrNoSpace.Error()) {
		t.Errorf("opened on the full disk: %v, %s", err, out)
	}
	disk.clear()
	if out := command(t, "--dir", a, "doctor"); !strings.Contains(out, "main: sound") {
		t.Errorf("doctor says\n%s", out)
	}
	l.check(t, "after being killed on the full disk", exported(t, a), l.acked)
	full = start(t, serve...)
	awaitEqual(t, reach(t, a), peer)
	t.Logf("%d writes tried until the disk was full twice, %d documents", next.Load(), len(shown))
}

func numberOf(t *testing.T, doc node.Document) int64 {
	t.Helper()
	var fields struct{ N int64 }
	if err := json.Unmarshal(doc.Doc, &fields); err != nil {
		t.Fatal(err)
	}
	return fields.N
}
