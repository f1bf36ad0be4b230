//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cutDisk is a disk that can lose its power: a file system in an image, used by one process after another.
//
// A cut is the ext4 ioctl that file system tests use for it: from one moment on nothing more is written to the
// device, and the journal is not brought to an end either. What was in memory only, of files, directories and the journal, is
// gone; what was on its way to the device in that moment has arrived or not. So a cut may fall into the middle of a sync,
// which it could not if the process were stopped first. What this disk does not do is to forget what it was given and not yet told
// to flush: a drive that lies about flushes is not tested here.
type cutDisk struct {
	t        *testing.T
	image    string // what is mounted
	evidence string // what the cut before left
	mount    string
	ledger   string
	identity string
	rng      *rand.Rand
	boots    int
}

const (
	cutDiskBytes = 640 << 20 // sparse
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

func newCutDisk(t *testing.T, seed uint64) *cutDisk {
	t.Helper()
	if testing.Short() {
		t.Skip("not tested: power cuts take some seconds and write some hundred megabytes")
	}
	if os.Geteuid() != 0 {
		t.Skip("not tested: power cuts need root, to mount a file system")
	}
	dir := t.TempDir()
	d := &cutDisk{
		t: t, image: filepath.Join(t.ArtifactDir(), "disk.img"), evidence: filepath.Join(t.ArtifactDir(), "cut.img"),
		mount: filepath.Join(dir, "mount"), ledger: filepath.Join(dir, "ledger"), identity: filepath.Join(dir, "identity"),
		rng: rand.New(rand.NewPCG(seed, 0)),
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(d.image, cutDiskBytes), os.Mkdir(d.mount, 0o700), os.Mkdir(d.identity, 0o700)); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image).CombinedOutput()
	if err != nil {
		t.Skipf("not tested: power cuts need mkfs.ext4: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.Remove(d.image)
			os.Remove(d.evidence)
		}
	})
	return d
}

// cutProcess is a node on such a disk.
type cutProcess struct {
	*exec.Cmd
	disk  *cutDisk
	lines chan string // closed at the end of the output
	err   bytes.Buffer
	root  *os.File // the mounted directory, as that process sees it
	ended bool
}

// start starts a node on the disk and returns when the disk is mounted.
func (d *cutDisk) start(spec cutSpec) *cutProcess {
	d.t.Helper()
	d.boots++
	spec.Image, spec.Mount, spec.Ledger, spec.Identity = d.image, d.mount, d.ledger, d.identity
	spec.Boot = d.ledger + ".boot"
	if err := os.WriteFile(spec.Boot, fmt.Appendf(nil, "00000000-0000-4000-8000-%012d\n", d.boots), 0o600); err != nil {
		d.t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		d.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	p := &cutProcess{Cmd: exec.Command(self), disk: d, lines: make(chan string)}
	p.Env = append(os.Environ(), cutEnv+"=1")
	p.Stderr = &p.err
	p.SysProcAttr = &unix.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	in, err := p.StdinPipe() // stays open: its end tells the process to end
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	if err := p.Start(); errors.Is(err, unix.EPERM) {
		d.t.Skipf("not tested: power cuts need a mount namespace: %v", err)
	} else if err != nil {
		d.t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			p.lines <- strings.TrimSpace(line)
		}
	}()
	d.t.Cleanup(p.end)
	if _, err := in.Write(text); err != nil {
		d.t.Fatal(err)
	}
	if word, _ := p.next(); word != "mounted" {
		p.end()
		if p.ProcessState.ExitCode() == cutNoMount {
			d.t.Skipf("not tested: power cuts need loop devices and mounts: %s", p.err.String())
		}
		d.t.Fatalf("the process ends with %v\n%s", p.ProcessState, p.err.String())
	}
	if p.root, err = os.Open(fmt.Sprintf("/proc/%d/root%s", p.Process.Pid, d.mount)); err != nil {
		d.t.Fatal(err)
	}
	return p
}

// next returns the next line of the output, "" when there is no more.
func (p *cutProcess) next() (word, detail string) {
	select {
	case line := <-p.lines:
		word, detail, _ = strings.Cut(line, " ")
	case <-time.After(patience):
		p.disk.t.Errorf("the process has said nothing for %s", patience)
		p.Process.Kill()
	}
	return word, detail
}

// report waits for a report under this word.
func (p *cutProcess) report(word string) cutReport {
	p.disk.t.Helper()
	got, detail := p.next()
	return p.parse(got, word, detail)
}

// awaitReport is report, whatever the process says before.
func (p *cutProcess) awaitReport(word string) cutReport {
	p.disk.t.Helper()
	for {
		switch got, detail := p.next(); got {
		case "ack", "synced":
		default:
			return p.parse(got, word, detail)
		}
	}
}

func (p *cutProcess) parse(got, word, detail string) (r cutReport) {
	p.disk.t.Helper()
	if got != word {
		p.end()
		p.disk.t.Fatalf("boot %d: %q instead of %q; the disk as it was found is %s (with -artifacts it is kept)\n%s",
			p.disk.boots, got, word, p.disk.evidence, p.err.String())
	}
	if err := json.Unmarshal([]byte(detail), &r); err != nil {
		p.disk.t.Fatal(err)
	}
	return r
}

// run reads on until the process has said a word so many times, and for a moment longer.
func (p *cutProcess) run(word string, times int, moment time.Duration) {
	p.disk.t.Helper()
	var after <-chan time.Time
	giveUp := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok || line == "failed" {
				p.end()
				p.disk.t.Fatalf("boot %d: the node ended before its power was cut\n%s", p.disk.boots, p.err.String())
			}
			if line == word {
				times--
			}
			if times == 0 {
				after = time.After(moment)
			}
		case <-after:
			return
		case <-giveUp:
			p.disk.t.Fatalf("boot %d: %d times %q are still to come after %s\n%s", p.disk.boots, times, word, patience, p.err.String())
		}
	}
}

// cut cuts the power. With stop the process is stopped before, so that what it has acknowledged is known to the last write; but then what it
// asked of the system comes to its end, and no sync is cut in two. Without, it may go on for a moment without its disk.
func (p *cutProcess) cut(stop bool, grace time.Duration) {
	d := p.disk
	d.t.Helper()
	if stop {
		p.stop()
		grace = 0
	}
	e := cutLine{What: "cut", Before: d.ledgerSize()}
	p.shutdown()
	e.After = d.ledgerSize()
	for over := time.After(grace); grace > 0; {
		select {
		case _, ok := <-p.lines:
			if !ok {
				grace = 0
			}
		case <-over:
			grace = 0
		}
	}
	p.end()
	if err := e.appendTo(d.ledger); err != nil {
		d.t.Fatal(err)
	}
	os.Remove(d.evidence)
	if out, err := exec.Command("cp", "--sparse=always", d.image, d.evidence).CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}

// shutdown takes the device away.
func (p *cutProcess) shutdown() {
	p.disk.t.Helper()
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, p.root.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		p.disk.t.Skipf("not tested: power cuts need ext4's shutdown: %v", errno)
	}
}

// stop stops the process and returns when none of its threads runs, in the system neither; or when it has ended.
func (p *cutProcess) stop() {
	d := p.disk
	d.t.Helper()
	if err := p.Process.Signal(unix.SIGSTOP); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Fatal(err)
	}
	for giveUp := time.Now().Add(patience); p.running(); <-time.After(time.Millisecond) {
		if time.Now().After(giveUp) {
			d.t.Fatalf("the process has not stopped in %s", patience)
		}
	}
}

// running says whether a thread is neither stopped nor ended.
func (p *cutProcess) running() bool {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Process.Pid))
	if err != nil {
		p.disk.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // that thread has ended
		}
		_, after, _ := strings.Cut(string(text), ") ") // the name before it may hold anything
		if !strings.HasPrefix(after, "T") && !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X") {
			return true
		}
	}
	return false
}

func (d *cutDisk) ledgerSize() int64 {
	fi, err := os.Stat(d.ledger)
	if errors.Is(err, fs.ErrNotExist) { // cut before its beginning
		return 0
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return fi.Size()
}

// end ends the process, and returns when its disk is unmounted.
func (p *cutProcess) end() {
	if p.ended {
		return
	}
	p.ended = true
	if p.root != nil {
		p.root.Close()
	}
	p.Process.Kill()
	for range p.lines {
	}
	p.Wait()
	for giveUp := time.Now().Add(patience); p.disk.attached(); <-time.After(time.Millisecond) {
		if time.Now().After(giveUp) {
			p.disk.t.Fatalf("the disk is still in use %s after its process has ended", patience)
		}
	}
}

// attached says whether a loop device holds the image.
func (d *cutDisk) attached() bool {
	names, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(text)) == d.image {
			return true
		}
	}
	return false
}
