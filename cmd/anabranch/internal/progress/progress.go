package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// State is how far the work is.
type State struct {
	Work  string `json:"work"` // "import", "export", "doctor"
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0: not known
	Unit  string `json:"unit"`            // of Done and Total: "bytes", "documents", "keys"
	// Count is a second number for people, for instance documents where Done are bytes.
	Count   int64  `json:"count,omitempty"`
	Counted string `json:"counted,omitempty"`
	// Seconds since the beginning, and whether this is the last line.
	Seconds  float64 `json:"seconds"`
	Finished bool    `json:"finished,omitempty"`
}

// Reporter shows states. Its methods may be called from several goroutines.
type Reporter interface {
	Report(State)
	// Finish shows the last state and takes a bar away.
	Finish()
}

// The modes of New.
const (
	Auto = "auto"
	JSON = "json"
	None = "none"
)

// period is the time between two lines of JSON.
const period = time.Second

// New returns a Reporter on w.
func New(w io.Writer, mode string) Reporter {
	switch {
	case mode == JSON:
		return &lines{w: w, now: time.Now}
	case mode == Auto && isTerminal(w):
		return &bar{w: w, begun: time.Now()}
	}
	return nothing{}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

type nothing struct{}

func (nothing) Report(State) {}
func (nothing) Finish()      {}

// lines writes a line at the first report, then at most one a period, and one in the end.
type lines struct {
	w   io.Writer
	now func() time.Time

	mu      sync.Mutex
	begun   time.Time
	written time.Time
	last    State
}

func (l *lines) Report(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if l.begun.IsZero() {
		l.begun = now
	}
	s.Seconds = now.Sub(l.begun).Seconds()
	l.last = s
	if l.written.IsZero() || now.Sub(l.written) >= period {
		l.write(now)
	}
}

func (l *lines) Finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun.IsZero() {
		return // nothing was reported
	}
	now := l.now()
	l.last.Seconds, l.last.Finished = now.Sub(l.begun).Seconds(), true
	l.write(now)
}

func (l *lines) write(now time.Time) {
	l.written = now
	_ = json.NewEncoder(l.w).Encode(l.last) // progress that cannot be shown is no reason to stop the work
}

// bar is made at the first report, when it is known what is counted.
type bar struct {
	w     io.Writer
	begun time.Time

	mu        sync.Mutex
	container *mpb.Progress
	bar       *mpb.Bar
	last      State
}

func (b *bar) Report(s State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = s
	if b.bar == nil {
		b.start(s)
	}
	if s.Total > 0 {
		b.bar.SetTotal(s.Total, false)
	}
	b.bar.SetCurrent(s.Done)
}

func (b *bar) start(s State) {
	b.container = mpb.New(mpb.WithOutput(b.w), mpb.WithAutoRefresh(), mpb.WithWidth(48))
	count := decor.Any(func(decor.Statistics) string {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.describe()
	})
	if s.Total > 0 {
		b.bar = b.container.AddBar(s.Total, mpb.PrependDecorators(decor.Name(s.Work+" "), decor.Percentage()),
			mpb.AppendDecorators(count, decor.Name(" "), decor.AverageETA(decor.ET_STYLE_GO)), mpb.BarRemoveOnComplete())
		return
	}
	b.bar = b.container.AddSpinner(0, mpb.PrependDecorators(decor.Name(s.Work+" ")), mpb.AppendDecorators(count), mpb.BarRemoveOnComplete())
}

// describe is called with mu held.
func (b *bar) describe() string {
	n, unit := b.last.Done, b.last.Unit
	if b.last.Counted != "" {
		n, unit = b.last.Count, b.last.Counted
	}
	seconds := time.Since(b.begun).Seconds()
	return fmt.Sprintf("%d %s, %.0f/s", n, unit, float64(n)/max(seconds, 0.001))
}

func (b *bar) Finish() {
	b.mu.Lock()
	running, container := b.bar, b.container
	b.bar = nil
	b.mu.Unlock()
	if running == nil {
		return
	}
	running.Abort(true)
	container.Wait()
}
