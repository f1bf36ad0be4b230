package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Options say what to measure.
type Options struct {
	// Docs is the number of documents of W1 and W3; W4 takes a tenth of it, W5 half. 0 is 100,000, for which the targets are
	// made: with another number those in absolute terms are shown and not judged.
	Docs int
	// Pairs is how many times ours and the ideal are run, in turns. 0 is 3.
	Pairs int
	// Only names the workloads to run: W1 to W5, fields, scale. Empty: all.
	Only []string
	// Large adds a million documents to scale. It takes some 2 GB of disk, and minutes.
	Large bool
	// Seed makes the documents. 0 is 1.
	Seed uint64
	// Dir is where stores are made, and removed again. Empty: the system's directory for temporary files. It has to be
	// on a disk: a memory file system makes each sync free.
	Dir string
	// Node is the command line of a node process, which calls ServeNode.
	Node []string
	// CPUProfiles and AllocProfiles are directories for profiles of the measured part of each node process. Empty: none.
	CPUProfiles, AllocProfiles string
	// Progress, if not nil, is told what is going on.
	Progress func(text string)
}

// ErrOptions is wrapped by the errors about Options that make no sense.
var ErrOptions = errors.New("invalid options")

const (
	fullDocs     = 100_000
	defaultPairs = 3
	minDocs      = 1_000
)

func (o Options) withDefaults() (Options, error) {
	if o.Docs == 0 {
		o.Docs = fullDocs
	}
	if o.Pairs == 0 {
		o.Pairs = defaultPairs
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if len(o.Node) == 0 {
		return o, fmt.Errorf("bench: %w: Node is empty", ErrOptions)
	}
	if o.Docs < minDocs || o.Docs > 10_000_000 || o.Pairs < 0 || o.Pairs > 1000 {
		return o, fmt.Errorf("%w: %d documents in %d pairs: use %d to 10,000,000 documents and 1 to 1000 pairs", ErrOptions, o.Docs, o.Pairs, minDocs)
	}
	for i, name := range o.Only {
		o.Only[i] = strings.ToLower(name)
		if !slices.ContainsFunc(workloads, func(w workload) bool { return w.name == o.Only[i] }) {
			return o, fmt.Errorf("%w: unknown workload %q: there are %s", ErrOptions, name, strings.Join(Workloads(), ", "))
		}
	}
	for _, dir := range []string{o.CPUProfiles, o.AllocProfiles} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return o, err
		}
	}
	return o, nil
}

// workload is one of W1 to W5 or a check of scale.
type workload struct {
	name    string
	title   string
	figures []figure
	trial   func(t *trial) error
	ideal   bool // the ideal is run beside ours
	once    bool // not in pairs: the check compares ours with ours
}

// Workloads returns the names that Options.Only takes.
func Workloads() []string {
	names := make([]string, 0, len(workloads))
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

// trial is one run of a workload by one engine, in a directory of its own.
type trial struct {
	ctx     context.Context
	o       Options
	engine  string
	label   string // names the trial in files and messages
	dir     string
	running []*process
	values  map[string]float64
}

// Run measures. Whatever way it ends, no process and no file of it is left, apart from profiles.
func Run(ctx context.Context, o Options) (*Report, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	report := newReport(o)
	for _, w := range workloads {
		if len(o.Only) > 0 && !slices.Contains(o.Only, w.name) {
			continue
		}
		rows, err := o.measure(ctx, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", w.name, err)
		}
		report.Workloads = append(report.Workloads, WorkloadReport{Name: w.name, Title: w.title, Figures: rows})
	}
	report.Seconds = time.Since(report.Began).Seconds()
	return report, nil
}

// measure runs one workload in pairs. Which engine begins changes from pair to pair, so that neither has the better place.
func (o Options) measure(ctx context.Context, w workload) ([]FigureReport, error) {
	pairs := o.Pairs
	if w.once {
		pairs = 1
	}
	results := map[string][]map[string]float64{}
	for pair := range pairs {
		engines := []string{engineOurs}
		if w.ideal {
			engines = append(engines, engineIdeal)
		}
		if pair%2 == 1 {
			slices.Reverse(engines)
		}
		for _, engine := range engines {
			o.Progress(fmt.Sprintf("%s, %s, %d of %d", w.name, engine, pair+1, pairs))
			values, err := o.try(ctx, w, engine, pair)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", engine, err)
			}
			results[engine] = append(results[engine], values)
		}
	}
	rows := make([]FigureReport, 0, len(w.figures))
	for _, f := range w.figures {
		if row, ok := f.evaluate(o, results[engineOurs], results[engineIdeal]); ok {
			rows = append(rows, row)
		}
	}
	return rows, nil
}

func (o Options) try(ctx context.Context, w workload, engine string, pair int) (_ map[string]float64, err error) {
	dir, err := os.MkdirTemp(o.Dir, "anabranch-bench-")
	if err != nil {
		return nil, err
	}
	t := &trial{
		ctx: ctx, o: o, engine: engine, dir: dir, values: map[string]float64{},
		label: fmt.Sprintf("%s-%s-%d", w.name, engine, pair+1),
	}
	defer func() {
		for _, p := range t.running {
			p.kill()
		}
		if rerr := os.RemoveAll(dir); rerr != nil {
			err = errors.Join(err, rerr)
		}
		if ctx.Err() != nil {
			err = ctx.Err()
		}
	}()
	// What an earlier trial left to be written must not be written in this one's time.
	settle()
	if err := w.trial(t); err != nil {
		return nil, err
	}
	return t.values, nil
}

func (t *trial) record(name string, value float64) { t.values[name] = value }

// node starts a process and opens a store in it; the same name gives the same store.
func (t *trial) node(name, sync string) (*process, openResult, error) {
	return t.nodeWith(name, openArgs{Sync: sync})
}

func (t *trial) nodeWith(name string, a openArgs) (*process, openResult, error) {
	p, err := t.process(name)
	if err != nil {
		return nil, openResult{}, err
	}
	dir := filepath.Join(t.dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, openResult{}, err
	}
	a.Engine, a.Dir, a.Seed = t.engine, dir, t.o.Seed
	opened, err := call[openResult](p, "open", a)
	return p, opened, err
}

func (t *trial) process(name string) (*process, error) {
	p, err := start(t.ctx, t.o.Node, name)
	if err != nil {
		return nil, err
	}
	t.running = append(t.running, p)
	return p, nil
}

// stop ends a process, which closes its store.
func (t *trial) stop(p *process) error {
	t.running = slices.DeleteFunc(t.running, func(r *process) bool { return r == p })
	return p.stop()
}

func (t *trial) disk(name string) (float64, error) {
	n, err := diskBytes(filepath.Join(t.dir, name))
	return float64(n), err
}

// profiled runs f while the nodes record what was asked for.
func (t *trial) profiled(what string, nodes []*process, f func() error) error {
	if t.o.CPUProfiles == "" && t.o.AllocProfiles == "" {
		return f()
	}
	file := func(dir, name, kind string) string {
		if dir == "" {
			return ""
		}
		path, err := filepath.Abs(filepath.Join(dir, fmt.Sprintf("%s-%s-%s.%s.pprof", t.label, what, name, kind)))
		if err != nil {
			return ""
		}
		return path
	}
	for _, p := range nodes {
		args := profileArgs{CPU: file(t.o.CPUProfiles, p.name, "cpu"), Heap: file(t.o.AllocProfiles, p.name, "allocs")}
		if _, err := call[struct{}](p, "profile", args); err != nil {
			return err
		}
	}
	err := f()
	for _, p := range nodes {
		_, perr := call[struct{}](p, "profile-end", nil)
		err = errors.Join(err, perr)
	}
	return err
}

func machine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Go: runtime.Version()}
}
