package nettest

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// Journal is a log that a test can read and wait for.
type Journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (j *Journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

// Logger returns a logger that writes to it.
func (j *Journal) Logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// String returns all that it has.
func (j *Journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// Says waits until the log has all the parts.
func (j *Journal) Says(t testing.TB, parts ...string) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		missing := ""
		for _, p := range parts {
			if !strings.Contains(j.String(), p) {
				missing = p
			}
		}
		if missing == "" {
			return
		}
	}
	t.Errorf("the log does not say %q:\n%s", parts, j.String())
}
