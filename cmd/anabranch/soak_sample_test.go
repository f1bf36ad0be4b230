//go:build linux

package main

import (
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// soakSample is what all nodes take together at one moment. The most of the three would hide what one of them loses.
type soakSample struct {
	at          time.Duration
	memory      int64 // bytes that are no part of a file
	goroutines  int64
	threads     int64
	descriptors int64
	disk        int64 // bytes that the files take on the disk
}

func (s *soak) sample(at time.Duration) soakSample {
	sum := soakSample{at: at}
	for i, p := range s.procs {
		proc := fmt.Sprintf("/proc/%d/", p.Process.Pid)
		status, err := os.ReadFile(proc + "status")
		if err != nil {
			s.t.Errorf("node %d is gone: %v", i, err)
			return sum
		}
		sum.memory += 1024 * statusField(string(status), "RssAnon:")
		sum.goroutines += s.goroutines(i)
		sum.threads += statusField(string(status), "Threads:")
		if fds, err := os.ReadDir(proc + "fd"); err == nil {
			sum.descriptors += int64(len(fds))
		}
		sum.disk += allocated(s.dirs[i])
	}
	return sum
}

// goroutines asks a node's metrics.
func (s *soak) goroutines(i int) int64 {
	resp, err := http.Get("http://" + s.admin[i] + "/metrics")
	if err != nil {
		s.t.Errorf("node %d: %v", i, err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Errorf("node %d: %v", i, err)
	}
	return statusField(string(text), "\ngo_goroutines ")
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func statusField(status, name string) int64 {
	_, rest, _ := strings.Cut(status, name)
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[0], 10, 64)
	return n
}

// allocated returns the room that files take: Badger makes its logs larger than what is in them.
func allocated(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil && unix.Lstat(path, &st) == nil {
			bytes += st.Blocks * 512
		}
		return nil // files come and go meanwhile
	})
	return bytes
}

// soakMeasure is one of the things that must be flat.
type soakMeasure struct {
	name  string
	of    func(soakSample) int64
	scale float64
	unit  string
	// slack is what may come on top of a tenth: what a garbage collection, or one table more, makes. In a short run, caches and
	// memtables still fill up.
	slack, slackShort int64
}

// soakShort is how long it takes until everything is as full as it gets.
const soakShort = 10 * time.Minute

var soakMeasures = []soakMeasure{
	{"memory", func(s soakSample) int64 { return s.memory }, 1 << 20, "MiB", 24 << 20, 192 << 20},
	{"goroutines", func(s soakSample) int64 { return s.goroutines }, 1, "", 24, 24},
	{"threads", func(s soakSample) int64 { return s.threads }, 1, "", 12, 12},
	{"descriptors", func(s soakSample) int64 { return s.descriptors }, 1, "", 24, 24},
	{"disk", func(s soakSample) int64 { return s.disk }, 1 << 20, "MiB", 96 << 20, 96 << 20},
}

// report compares the last third of the time with the one before, and describes the run.
func (s *soak) report(samples []soakSample, after []node.Report) string {
	s.t.Helper()
	third := len(samples) / 3
	if third == 0 {
		s.t.Fatalf("only %d samples", len(samples))
	}
	before, last := samples[third:2*third], samples[2*third:]
	var b strings.Builder
	fmt.Fprintf(&b, "| all %d nodes together | mean of the second third | mean of the last third | most | slope an hour |\n|---|---|---|---|---|\n", soakNodes)
	for _, m := range soakMeasures {
		x, y := mean(before, m.of), mean(last, m.of)
		fmt.Fprintf(&b, "| %s | %.1f %s | %.1f %s | %.1f %s | %+.1f %s |\n", m.name,
			x/m.scale, m.unit, y/m.scale, m.unit, float64(most(samples[third:], m.of))/m.scale, m.unit, slope(samples[third:], m.of)/m.scale, m.unit)
		slack := m.slack
		if s.length < soakShort {
			slack = m.slackShort
		}
		if y > 1.1*x+float64(slack) {
			s.t.Errorf("%s grows: from %.1f to %.1f %s", m.name, x/m.scale, y/m.scale, m.unit)
		}
	}
	fmt.Fprintf(&b, "\n%s, %d nodes, %d transactions a second at each: %d documents made, %d deleted. In the end each node has %d documents, %d documents stored, %d log entries.\n",
		s.length, soakNodes, soakRate, s.created.Load(), s.deleted.Load(), after[0].Documents, after[0].Stored, after[0].LogEntries)
	return b.String()
}

func mean(samples []soakSample, of func(soakSample) int64) float64 {
	sum := int64(0)
	for _, s := range samples {
		sum += of(s)
	}
	return float64(sum) / float64(len(samples))
}

func most(samples []soakSample, of func(soakSample) int64) (most int64) {
	for _, s := range samples {
		most = max(most, of(s))
	}
	return most
}

// slope is that of the straight line that fits best, for an hour.
func slope(samples []soakSample, of func(soakSample) int64) float64 {
	var n, x, y, xx, xy float64
	for _, s := range samples {
		at, v := s.at.Hours(), float64(of(s))
		n, x, y, xx, xy = n+1, x+at, y+v, xx+at*at, xy+at*v
	}
	return (n*xy - x*y) / (n*xx - x*x)
}
