//go:build linux

package main

import (
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica"
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
