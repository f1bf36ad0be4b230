//go:build linux && amd64

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// The tracer runs a program and lets a system call of it fail: the Nth of all that touch files below a directory, counted over
// all its threads. It does by ptrace what strace does by --inject, but that counts each thread for itself, and no run of a Go program
// has its calls on the same threads. As it waits for any child, it is a process of its own.

const traceEnv = "ANABRANCH_TEST_TRACE"

// traceSpec says what to run and which call fails.
type traceSpec struct {
	Args   []string
	Dir    string
	Nth    int  // 0: none
	Onward bool // and each one after it
	Errno  unix.Errno
	Report string // file for a traceReport
}

// traceReport says what there was to fail, and what did.
type traceReport struct {
	Calls  int    `json:"calls"`
	Failed int    `json:"failed"`
	First  string `json:"first"` // of those that failed
}

func init() {
	text := os.Getenv(traceEnv)
	if text == "" {
		return
	}
	t := &tracer{threads: make(map[int]*tracedThread)}
	err := errors.Join(os.Unsetenv(traceEnv), json.Unmarshal([]byte(text), &t.spec))
	if err == nil {
		err = t.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tracer:", err)
		os.Exit(1)
	}
	os.Exit(t.exit)
}

type tracer struct {
	spec    traceSpec
	report  traceReport
	threads map[int]*tracedThread
	exit    int
}

type tracedThread struct {
	inCall bool
	fail   bool // the call that it is in
}

// traced is what matters of a call: its name, and which arguments say what file it is of.
type traced struct {
	name string
	fd   int // the argument with a descriptor; -1: none
	path int // the argument with a path; -1: none
}

var tracedCalls = map[uint64]traced{
	unix.SYS_READ: {"read", 0, -1}, unix.SYS_PREAD64: {"pread", 0, -1}, unix.SYS_WRITE: {"write", 0, -1}, unix.SYS_PWRITE64: {"pwrite", 0, -1},
	unix.SYS_OPENAT: {"open", -1, 1}, unix.SYS_MKDIRAT: {"mkdir", -1, 1}, unix.SYS_UNLINKAT: {"unlink", -1, 1}, unix.SYS_RENAMEAT: {"rename", -1, 1},
	unix.SYS_RENAMEAT2: {"rename", -1, 1}, unix.SYS_FSYNC: {"fsync", 0, -1}, unix.SYS_FDATASYNC: {"fdatasync", 0, -1}, unix.SYS_FTRUNCATE: {"truncate", 0, -1},
	unix.SYS_FALLOCATE: {"fallocate", 0, -1}, unix.SYS_MMAP: {"mmap", 4, -1}, unix.SYS_GETDENTS64: {"readdir", 0, -1},
	unix.SYS_FACCESSAT: {"access", -1, 1},
	unix.SYS_MSYNC:     {"msync", -1, -1}, // only stores map files
}

func (t *tracer) run() error {
	runtime.LockOSThread() // ptrace belongs to a thread
	cmd := exec.Command(t.spec.Args[0], t.spec.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &unix.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil {
		return err
	}
	if err := unix.PtraceSetOptions(pid, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_TRACECLONE|unix.PTRACE_O_EXITKILL); err != nil {
		return err
	}
	t.threads[pid] = &tracedThread{}
	if err := unix.PtraceSyscall(pid, 0); err != nil {
		return err
	}
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		case status.Exited(), status.Signaled():
			delete(t.threads, tid)
			if tid != pid {
				continue
			}
			if t.exit = status.ExitStatus(); status.Signaled() {
				t.exit = 128 + int(status.Signal())
			}
			return t.write()
		case status.Stopped():
			if err := t.stopped(tid, status); err != nil && !errors.Is(err, unix.ESRCH) { // it was killed meanwhile
				return err
			}
		}
	}
}

func (t *tracer) write() error {
	text, err := json.Marshal(t.report)
	if err != nil {
		return err
	}
	return os.WriteFile(t.spec.Report, text, 0o600)
}

// stopped lets a thread go on.
func (t *tracer) stopped(tid int, status unix.WaitStatus) error {
	th := t.threads[tid]
	if th == nil {
		t.threads[tid] = &tracedThread{}
		return unix.PtraceSyscall(tid, 0) // a new thread begins with a stop
	}
	signal := int(status.StopSignal())
	switch {
	case signal == int(unix.SIGTRAP)|0x80:
		var err error
		if th.inCall = !th.inCall; th.inCall {
			err = t.enter(tid, th)
		} else if th.fail {
			th.fail = false
			err = t.leave(tid)
		}
		if err != nil {
			return err
		}
		signal = 0
	case status.TrapCause() > 0: // a new thread was made
		signal = 0
	}
	return unix.PtraceSyscall(tid, signal)
}

// enter looks at a call that begins, and keeps the kernel from doing it if it is to fail.
func (t *tracer) enter(tid int, th *tracedThread) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	call, ok := tracedCalls[regs.Orig_rax]
	if !ok {
		return nil
	}
	file := t.file(tid, call, &regs)
	if file == "" {
		return nil
	}
	t.report.Calls++
	if t.spec.Nth == 0 || t.report.Calls < t.spec.Nth || t.report.Calls > t.spec.Nth && !t.spec.Onward {
		return nil
	}
	if t.report.Failed++; t.report.Failed == 1 {
		t.report.First = call.name + " " + file
	}
	th.fail = true
	regs.Orig_rax = ^uint64(0)
	return errors.Join(unix.PtraceSetRegs(tid, &regs), t.write())
}

// leave sets what a call that was kept back returns.
func (t *tracer) leave(tid int) error {
	var regs unix.PtraceRegs
	if err := unix.PtraceGetRegs(tid, &regs); err != nil {
		return err
	}
	regs.Rax = -uint64(t.spec.Errno)
	return unix.PtraceSetRegs(tid, &regs)
}

// file returns what file a call is of, below the directory; "" if it is of another one.
func (t *tracer) file(tid int, call traced, regs *unix.PtraceRegs) string {
	args := [...]uint64{regs.Rdi, regs.Rsi, regs.Rdx, regs.R10, regs.R8, regs.R9}
	switch {
	case call.fd >= 0:
		path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(args[call.fd])))
		if err != nil {
			return ""
		}
		return t.below(path)
	case call.path >= 0:
		text := make([]byte, unix.PathMax)
		n, _ := unix.PtracePeekData(tid, uintptr(args[call.path]), text) // up to the end of what is mapped
		path, _, _ := strings.Cut(string(text[:n]), "\x00")
		return t.below(path)
	}
	return "a mapped file"
}

func (t *tracer) below(path string) string {
	rest, ok := strings.CutPrefix(path, t.spec.Dir)
	if !ok {
		return ""
	}
	return strings.TrimPrefix(rest, "/")
}
