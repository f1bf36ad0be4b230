package badgerstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Badger's own way to make a commit durable (SyncWrites) syncs two files: the log of its memtable, and its value log, in which we
// keep nothing. A sync that finds nothing to write is not free: it flushes the disk all the same. It also leaves the entry of a new log in
// its directory to the file system. So we sync for ourselves, after the commit.

// activeLog is the log that Badger writes to. It belongs to whoever holds commitMu.
type activeLog struct {
	file    *os.File // nil before the first sync
	next    string   // path of the log that will follow it
	commits int      // transactions since file was certainly the one
}

// sync makes durable what was committed last. All before that is durable already: with SyncAlways each commit is,
// and Badger begins a log with a whole commit.
func (l *activeLog) sync(data string) error {
	if err := l.follow(data); err != nil {
		return err
	}
	l.commits = 0
	return syncData(l.file)
}

// follow goes over to the newest log. Badger numbers them one after the other and begins one at most for a transaction, so that after a single
// one no directory need be read. After several the next log can be written to a table and gone.
func (l *activeLog) follow(data string) error {
	if l.file != nil && l.commits <= 1 {
		// os.Lstat would make an error of its own, with the path in it, for each commit.
		if err := unix.Access(l.next, unix.F_OK); errors.Is(err, unix.ENOENT) {
			return nil
		}
	}
	logs, err := logFiles(data)
	if err != nil {
		return err
	}
	if len(logs) == 0 {
		return fmt.Errorf("there is no log in %s", data)
	}
	newest := logs[len(logs)-1]
	number, err := logNumber(newest)
	if err != nil {
		return err
	}
	file, err := os.Open(newest)
	if err != nil {
		return err
	}
	if err := errors.Join(l.close(), syncPath(data)); err != nil {
		return errors.Join(err, file.Close())
	}
	l.file, l.next = file, filepath.Join(data, fmt.Sprintf("%05d%s", number+1, logSuffix))
	return nil
}

func (l *activeLog) close() error {
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
