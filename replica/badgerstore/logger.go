package badgerstore

import (
	"fmt"
	"log/slog"
	"strings"
)

// logger passes Badger's messages to slog. What Badger calls information (levels, replays, cache ratios) is
// of use only when one looks for a fault, so it becomes debug output.
type logger struct {
	*slog.Logger

	flushFailed func(message string) // told of each memtable that could not be written
}

func newLogger(l *slog.Logger, dir string) *logger {
	return &logger{Logger: l.With("store", dir)}
}

func (l *logger) Warningf(format string, args ...any) { l.Warn(text(format, args)) }
func (l *logger) Infof(format string, args ...any)    { l.Debug(text(format, args)) }

// Debugf drops the message: there are several for each commit.
func (l *logger) Debugf(string, ...any) {}

func text(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
