package bench

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// processUsage returns the CPU time of this process and the greatest size that it had in memory. The system's own account of
// that (ru_maxrss) begins with what the parent had, so the kernel's high-water mark of the address space comes first.
func processUsage() (usage, error) {
	var ru unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
		return usage{}, err
	}
	u := usage{CPU: ru.Utime.Nano() + ru.Stime.Nano(), PeakBytes: ru.Maxrss << 10}
	if m, ok := memory(); ok {
		u.PeakBytes = int64(m.VmHWM)
	}
	return u, nil
}

// memory returns what the kernel tells of this process's; false where there is no /proc.
func memory() (procfs.ProcStatus, bool) {
	self, err := procfs.Self()
	if err != nil {
		return procfs.ProcStatus{}, false
	}
	status, err := self.NewStatus()
	return status, err == nil
}

// ownPeak samples how much memory the process has that is no page of a file: the kernel keeps no high-water mark of that.
type ownPeak struct{ bytes atomic.Int64 }

const sampleEvery = 20 * time.Millisecond

func (p *ownPeak) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		if m, ok := memory(); ok {
			p.bytes.Store(max(p.bytes.Load(), int64(m.RssAnon)))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// diskBytes returns the blocks that the files beneath dir take: lengths would count the holes of sparse logs.
func diskBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		sum += st.Blocks * 512
		return nil
	})
	return sum, err
}

// profile is what a node process is asked to record of itself.
type profile struct {
	cpu  *os.File
	heap string
}

func (p *profile) begin(a profileArgs) (struct{}, error) {
	p.heap = a.Heap
	if a.CPU == "" {
		return struct{}{}, nil
	}
	f, err := os.Create(a.CPU)
	if err != nil {
		return struct{}{}, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return struct{}{}, errors.Join(err, f.Close())
	}
	p.cpu = f
	return struct{}{}, nil
}

func (p *profile) end() error {
	var err error
	if p.cpu != nil {
		pprof.StopCPUProfile()
		err = p.cpu.Close()
		p.cpu = nil
	}
	if p.heap == "" {
		return err
	}
	f, ferr := os.Create(p.heap)
	if ferr != nil {
		return errors.Join(err, ferr)
	}
	p.heap = ""
	runtime.GC() // the profile is of the last complete collection
	return errors.Join(err, pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}

// median runs f so often and returns the median time.
func median(n int, f func(i int) error) (time.Duration, error) {
	times := make([]time.Duration, n)
	for i := range times {
		began := time.Now()
		if err := f(i); err != nil {
			return 0, err
		}
		times[i] = time.Since(began)
	}
	slices.Sort(times)
	return times[n/2], nil
}
