//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
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
)

const (
	soakNodes     = 3
	soakRate      = 40 // transactions a second at each node
	soakMaxWindow = 5000
	soakBody      = 1500 // bytes of each document
)

// soak is one run of TestSoak.
type soak struct {
	t      *testing.T
	length time.Duration
	window int // documents of each writer that live at a time
	dirs   []string
	procs  []*process
	admin  []string // addresses of their metrics

	created, deleted atomic.Int64
}

// Three nodes write, delete and exchange at a steady rate, for an hour or so. The documents that live are as many all the time, so memory,
// goroutines, descriptors and disk must be as much in the end as they were when all had got going.
//
// ANABRANCH_SOAK_MINUTES says how long; ANABRANCH_SOAK_REPORT names a file for a summary.
func TestSoak(t *testing.T) {
	text := os.Getenv("ANABRANCH_SOAK_MINUTES")
	if text == "" {
		t.Skip("not tested: it takes its time; run .ci/deep soak, or set ANABRANCH_SOAK_MINUTES")
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{t: t, length: time.Duration(minutes * float64(time.Minute))}
	s.window = min(soakMaxWindow, int(s.length.Seconds()*soakRate/6)) // all writers delete from a sixth of the time on
	s.start()
	samples := s.run()
	after := s.settle()
	report := s.report(samples, after)
	t.Logf("\n%s", report)
	if path := os.Getenv("ANABRANCH_SOAK_REPORT"); path != "" && !t.Failed() {
		if err := os.WriteFile(path, []byte(report), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts the nodes, each of which dials those before it.
func (s *soak) start() {
	s.t.Helper()
	base := s.t.TempDir()
	var ids []string
	for i := range soakNodes {
		s.dirs = append(s.dirs, filepath.Join(base, fmt.Sprint("node", i)))
		ids = append(ids, strings.TrimSpace(command(s.t, "--dir", s.dirs[i], "id")))
	}
	var peers []string
	for i, dir := range s.dirs {
		s.admin = append(s.admin, freeAddress(s.t))
		args := append([]string{"--dir", dir, "serve", "--listen", "127.0.0.1:0", "--admin", s.admin[i], "--prune-delay", "10s"}, peers...)
		for _, id := range ids[i+1:] {
			args = append(args, "--allow", id)
		}
		p := start(s.t, args...)
		s.procs = append(s.procs, p)
		s.t.Cleanup(func() {
			p.kill()
			if s.t.Failed() {
				s.t.Logf("node %d said:\n%s", i, p.out.String())
			}
		})
		c := reach(s.t, dir)
		st, err := c.Status(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		peers = append(peers, "--peer", ids[i]+"@"+st.Addresses[0])
		c.Close()
	}
}

// run writes for as long as the test lasts, and samples.
func (s *soak) run() []soakSample {
	ctx, stop := context.WithTimeout(s.t.Context(), s.length)
	defer stop()
	var writers sync.WaitGroup
	for i := range s.dirs {
		writers.Go(func() { s.write(ctx, i) })
	}
	began := time.Now()
	var samples []soakSample
	for tick := time.NewTicker(max(s.length/400, time.Second)); ctx.Err() == nil; {
		select {
		case <-tick.C:
			samples = append(samples, s.sample(time.Since(began)))
		case <-ctx.Done():
			tick.Stop()
		}
	}
	writers.Wait()
	return samples
}

// write makes a document, deletes the oldest of its own once there are enough, and counts in one that all share: a transaction
// each time.
func (s *soak) write(ctx context.Context, i int) {
	c := reach(s.t, s.dirs[i])
	defer c.Close()
	rng := rand.New(rand.NewPCG(1, uint64(i)))
	tick := time.NewTicker(time.Second / soakRate)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		ops := []node.Op{
			{Op: node.OpPut, Key: soakKey(i, n), Value: soakDocument(rng, n)},
			{Op: node.OpIncrement, Key: fmt.Sprintf("count/%d", rng.IntN(16)), Path: "/n", By: 1},
		}
		if n >= s.window {
			ops = append(ops, node.Op{Op: node.OpRemove, Key: soakKey(i, n-s.window)})
		}
		if _, err := c.Commit(ctx, "main", ops); err != nil {
			if ctx.Err() == nil {
				s.t.Errorf("node %d: %v", i, err)
			}
			return
		}
		s.created.Add(1)
		s.deleted.Add(int64(len(ops) - 2))
	}
}

func soakKey(i, n int) string { return fmt.Sprintf("doc/%d/%08d", i, n) }

// soakDocument returns text that does not compress to nothing.
func soakDocument(rng *rand.Rand, n int) json.RawMessage {
	text := make([]byte, soakBody)
	for i := range text {
		text[i] = 'a' + byte(rng.IntN(26))
	}
	return fmt.Appendf(nil, `{"n":%d,"text":%q}`, n, text)
}

// settle waits until the nodes are equal and nothing is left of what was deleted, and closes them.
func (s *soak) settle() []node.Report {
	s.t.Helper()
	clients := make([]*control.Client, len(s.dirs))
	for i, dir := range s.dirs {
		clients[i] = reach(s.t, dir)
	}
	for i := range clients[1:] {
		awaitEqual(s.t, clients[0], clients[i+1])
	}
	var reports []node.Report
	for i, c := range clients {
		reports = append(reports, s.awaitForgotten(i, c))
		c.Close()
	}
	for i, p := range s.procs {
		if err := p.Process.Signal(unix.SIGTERM); err != nil {
			s.t.Fatal(err)
		}
		p.Wait()
		if out := command(s.t, "--dir", s.dirs[i], "doctor"); !strings.Contains(out, "main: sound") {
			s.t.Errorf("node %d: doctor says\n%s", i, out)
		}
	}
	return reports
}

// awaitForgotten waits until a store holds no document but those that are there for a reader, and no log entry more than their
// last writes need.
func (s *soak) awaitForgotten(i int, c *control.Client) node.Report {
	s.t.Helper()
	for giveUp := time.Now().Add(2 * patience); ; <-time.After(time.Second) {
		r, err := c.Verify(s.t.Context(), "main", false, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		if r.Stored == r.Documents && r.LogEntries == 0 {
			return r
		}
		if time.Now().After(giveUp) {
			s.t.Errorf("node %d still holds traces of what was deleted: %+v", i, r)
			return r
		}
	}
}
