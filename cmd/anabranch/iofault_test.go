//go:build linux && amd64

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/replica"
)

// faultBench is where nodes meet with errors of their files: a store with some contents, of which each node gets a copy.
type faultBench struct {
	t      *testing.T
	store  string
	ledger string
	base   string
}

// faultRun is what came of one node.
type faultRun struct {
	words  []string // what it said last, with the reports
	stderr string
	trace  traceReport
	// refused: the store does not open any more, and says why.
	refused bool
}

func newFaultBench(t *testing.T) *faultBench {
	t.Helper()
	base := t.TempDir()
	b := &faultBench{t: t, base: base, store: filepath.Join(base, "store"), ledger: filepath.Join(base, "ledger")}
	if err := os.Mkdir(b.store, 0o700); err != nil {
		t.Fatal(err)
	}
	r := b.run(b.spec(b.store, b.ledger, 7), nil)
	if r.last() != "closed" {
		t.Fatalf("the first node says %q\n%s", r.words, r.stderr)
	}
	return b
}

// spec is of a node that opens its store, writes, and closes.
func (b *faultBench) spec(dir, ledger string, seed uint64) cutSpec {
	return cutSpec{Mount: dir, Ledger: ledger, Sync: replica.SyncAlways, Seed: seed, Writes: 12, Close: true}
}

// run runs a node to its end, under the tracer if there is something to trace.
func (b *faultBench) run(spec cutSpec, trace *traceSpec) faultRun {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), cutEnv+"=1")
	if trace != nil {
		trace.Args, trace.Report = []string{self}, filepath.Join(b.base, "trace")
		os.Remove(trace.Report)
		text, err := json.Marshal(trace)
		if err != nil {
			b.t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, traceEnv+"="+string(text))
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(spec); err != nil {
		b.t.Fatal(err)
	}
	hung := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	var r faultRun
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		if word := lines.Text(); word != "ack" && word != "resting" {
			r.words = append(r.words, word)
		}
	}
	cmd.Wait()
	r.stderr = stderr.String()
	if !hung.Stop() {
		b.t.Fatalf("the node does not end within %s: %q\n%s", patience, r.words, r.stderr)
	}
	if trace != nil {
		text, err := os.ReadFile(trace.Report)
		if err == nil {
			err = json.Unmarshal(text, &r.trace)
		}
		if err != nil {
			b.t.Fatalf("%v\n%s", err, r.stderr)
		}
	}
	return r
}

// last returns the last word, without what belongs to it.
func (r faultRun) last() string {
	if len(r.words) == 0 {
		return ""
	}
	word, _, _ := strings.Cut(r.words[len(r.words)-1], " ")
	return word
}

// report returns a report that the node made.
func (r faultRun) report(word string) (report cutReport, ok bool) {
	for _, line := range r.words {
		if text, found := strings.CutPrefix(line, word+" "); found {
			return report, json.Unmarshal([]byte(text), &report) == nil
		}
	}
	return report, false
}

// judge checks a report: whatever happened, what was acknowledged is there.
func (b *faultBench) judge(where string, r cutReport) {
	b.t.Helper()
	if len(r.Lost) > 0 || len(r.Late) > 0 || len(r.Wrong) > 0 || len(r.WentBack) > 0 {
		b.t.Errorf("%s: writes %v are lost; %q; %q", where, r.Lost, r.Wrong, r.WentBack)
	}
}

// One call of all that a node makes on the files of its store fails, or that one and all after it: as it opens, while
// it writes, as it closes. It says so, or needs not; it acknowledges nothing that it does not have; and on a disk that works
// again everything that was acknowledged is there, and the store is sound.
//
// ANABRANCH_IO_FAULTS is the number of calls that are let fail, spread over all of them; "all" is each.
func TestIOErrorAtAnyCallLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("not tested: it takes half a minute")
	}
	count := 50
	if text := os.Getenv("ANABRANCH_IO_FAULTS"); text == "all" {
		count = 1 << 30
	} else if text != "" {
		var err error
		if count, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	b := newFaultBench(t)
	all := b.one(0, false).trace.Calls
	if all < 100 {
		t.Fatalf("a node makes only %d calls on its files: the tracer does not see them", all)
	}
	outcomes := make(map[string]int)
	names := make(map[string]int)
	for i := range min(count, all) {
		nth := 1 + i*all/min(count, all)
		for _, onward := range []bool{i%2 == 0, i%2 == 1}[:1+min(1, count/all)] {
			r := b.one(nth, onward)
			if r.trace.Failed == 0 {
				outcomes["not reached"]++
				continue
			}
			name, _, _ := strings.Cut(r.trace.First, " ")
			names[name]++
			outcomes[r.outcome()]++
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d calls, of which failed %v; what came of it: %v", all, show(names), show(outcomes))
	if outcomes["read-only"] == 0 || outcomes["not opened"] == 0 {
		t.Error("the test has tested little")
	}
}

func show(m map[string]int) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return strings.Join(parts, ", ")
}

// outcome names what the node did about the error.
func (r faultRun) outcome() string {
	_, opened := r.report("ready")
	_, readOnly := r.report("readonly")
	switch {
	case r.refused:
		return "refused afterwards"
	case !opened:
		return "not opened"
	case readOnly:
		return "read-only"
	case r.last() == "closed":
		return "went on"
	}
	return "not closed well"
}

// one lets the nth call fail, and checks what is there afterwards.
func (b *faultBench) one(nth int, onward bool) faultRun {
	b.t.Helper()
	dir, ledger := filepath.Join(b.base, "copy"), filepath.Join(b.base, "copy.ledger")
	replaceDir(b.t, dir, b.store)
	replaceDir(b.t, ledger, b.ledger)
	r := b.run(b.spec(dir, ledger, uint64(nth)), &traceSpec{Dir: filepath.Join(dir, "store"), Nth: nth, Onward: onward, Errno: unix.EIO})
	where := fmt.Sprintf("call %d (%s), onward %v", nth, r.trace.First, onward)
	for _, word := range []string{"ready", "readonly"} {
		if report, ok := r.report(word); ok {
			b.judge(where+": "+word, report)
		}
	}
	for _, crash := range []string{"panic:", "fatal error:", "unexpected fault"} {
		if strings.Contains(r.stderr, crash) {
			b.t.Errorf("%s: the node crashes\n%s", where, r.stderr)
		}
	}
	if r.last() == "failed" && strings.TrimSpace(r.stderr) == "" {
		b.t.Errorf("%s: it fails without a word", where)
	}
	after := b.run(cutSpec{Mount: dir, Ledger: ledger, Sync: replica.SyncAlways, Last: true}, nil)
	report, ok := after.report("ready")
	if !ok && strings.Contains(r.trace.First, "MANIFEST") && strings.Contains(after.stderr, "store is damaged") && strings.Contains(after.stderr, "restore a backup") {
		// Badger has written down a table, could not sync that, and threw the table away: see docs/operations.md.
		r.refused = true
		return r
	}
	if !ok || after.last() != "closed" {
		b.t.Errorf("%s: on a disk that works again: %q\n%s\nbefore that: %q\n%s", where, after.words, after.stderr, r.words, r.stderr)
		return r
	}
	b.judge(where+": on a disk that works again", report)
	return r
}
