package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
	"github.com/anabranch-db/anabranch/crdt"
)

const (
	// DefaultDocuments is how many documents a transaction holds: a commit with its sync costs about as much as writing some hundred
	// documents, so there is little to gain beyond.
	DefaultDocuments = 1000
	// maxTransactionText bounds the text of a transaction, well below what the store takes.
	maxTransactionText = 1 << 20
	// queueRecords and queueText bound what is parsed and not taken into a transaction yet. A record of more text than that waits until the
	// queue is empty.
	queueRecords = 2048
	queueText    = 8 << 20
	// idle is how long a record from a slow pipe waits for company.
	idle = 200 * time.Millisecond
)

// Options say how to import.
type Options struct {
	Space     string
	Format    records.Format
	Key       string // the field (or JSON pointer) that holds the key; "": records are {"key":…,"doc":…}
	SkipBad   bool   // pass over bad records, and count them
	Documents int    // of a transaction; 0: DefaultDocuments
	// CheckpointDir is where checkpoints are kept, made when needed.
	CheckpointDir string
	Restart       bool // do not go on where an earlier import stopped

	Resumed  func(p Progress) // called once if it goes on where an earlier one stopped
	Changed  func()           // called if there was an earlier one, but of another input
	Bad      func(error)      // called for each record that is passed over
	Progress func(Progress)   // called after each transaction
}

// Progress says how far an import is.
type Progress struct {
	Committed int64 `json:"committed"` // documents, with those of earlier, interrupted imports of the same input
	Skipped   int64 `json:"skipped"`
	Records   int64 `json:"records"` // of the input
	Bytes     int64 `json:"bytes"`   // of the input
	Size      int64 `json:"size,omitempty"`
	Changed   int64 `json:"transactions"` // that changed anything, in this run
}

// Commit commits one transaction.
type Commit func(ctx context.Context, ops []node.Op) (node.Receipt, error)

// item is one record on its way.
type item struct {
	op       node.Op
	text     int // bytes
	rec      records.Record
	bad      error // why it is passed over
	position records.Position
	hash     string // of the input up to position
}

// weight is how much of the queue the item takes.
func (it item) weight() int64 { return int64(min(it.text, queueText)) }

// Run imports. What was committed before an error stays, and Progress says how much that is. A bad record is a
// *records.Error.
func Run(ctx context.Context, in Input, commit Commit, o Options) (Progress, error) {
	if o.Documents == 0 {
		o.Documents = DefaultDocuments
	}
	opened, err := open(in, o)
	if err != nil {
		return Progress{}, err
	}
	im := &importer{o: o, in: in, commit: commit, src: opened.source, checkpoint: opened.checkpoint}
	im.progress = Progress{Committed: im.checkpoint.Committed, Skipped: im.checkpoint.Skipped, Size: in.Size}
	if opened.changed && o.Changed != nil {
		o.Changed()
	}
	if opened.resumed {
		im.reader = records.ResumeReader(opened.source, in.Name, im.checkpoint.Position)
		im.progress.Records, im.progress.Bytes = im.checkpoint.Position.Records, im.checkpoint.Position.Offset
		if o.Resumed != nil {
			o.Resumed(im.progress)
		}
	} else if im.reader, err = records.NewReader(opened.source, in.Name, o.Format); err != nil {
		return im.progress, err
	}
	err = im.run(ctx)
	if err == nil {
		err = im.checkpoint.remove()
	}
	return im.progress, err
}

type importer struct {
	o          Options
	in         Input
	commit     Commit
	reader     *records.Reader
	src        *hashedReader
	checkpoint *checkpoint
	progress   Progress

	queued *semaphore.Weighted // text in the queue
	batch  []item
	text   int
}

// run takes items from the reading goroutine. It does not wait for that to end: a read from a pipe may never return.
func (im *importer) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	im.queued = semaphore.NewWeighted(queueText)
	items := make(chan item, queueRecords)
	ended := make(chan error, 1)
	go func() {
		ended <- im.read(ctx, items)
		close(items)
	}()
	timer := time.NewTimer(idle)
	defer timer.Stop()
	for {
		select {
		case it, ok := <-items:
			if !ok {
				return errors.Join(im.flush(ctx), <-ended)
			}
			im.queued.Release(it.weight())
			if err := im.take(ctx, it); err != nil {
				return err
			}
			if len(im.batch) == 1 {
				timer.Reset(idle)
			}
		case <-timer.C:
			if err := im.flush(ctx); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// take adds a record to the transaction, which is committed when it is full.
func (im *importer) take(ctx context.Context, it item) error {
	if it.bad != nil && !im.o.SkipBad {
		return errors.Join(im.flush(ctx), it.bad)
	}
	full := len(im.batch) > 0 && (len(im.batch) >= im.o.Documents || im.text+it.text > maxTransactionText)
	if full {
		if err := im.flush(ctx); err != nil {
			return err
		}
	}
	im.batch = append(im.batch, it)
	im.text += it.text
	return nil
}

// flush commits what is collected and notes the place behind it.
func (im *importer) flush(ctx context.Context) error {
	if len(im.batch) == 0 {
		return nil
	}
	batch := im.batch
	im.batch, im.text = nil, 0
	good := batch[:0:0]
	for _, it := range batch {
		if it.bad != nil {
			im.skip(it.bad)
			continue
		}
		good = append(good, it)
	}
	if err := im.commitItems(ctx, good); err != nil {
		return err
	}
	return im.mark(batch[len(batch)-1])
}

// mark notes the place behind it in the checkpoint.
func (im *importer) mark(it item) error {
	im.progress.Records, im.progress.Bytes = it.position.Records, it.position.Offset
	c := im.checkpoint
	c.Position, c.Hash, c.Committed, c.Skipped = it.position, it.hash, im.progress.Committed, im.progress.Skipped
	if c.HeadBytes == 0 {
		c.HeadBytes, c.HeadHash = im.src.first, im.src.headHash
	}
	if im.o.Progress != nil {
		im.o.Progress(im.progress)
	}
	if err := c.save(im.o.CheckpointDir); err != nil {
		return fmt.Errorf("note how far the import is: %w", err)
	}
	return nil
}

// commitItems commits the records in one transaction, or in several if the store finds it too large.
func (im *importer) commitItems(ctx context.Context, items []item) error {
	if len(items) == 0 {
		return nil
	}
	ops := make([]node.Op, 0, len(items))
	for _, it := range items {
		ops = append(ops, it.op)
	}
	rc, err := im.commit(ctx, ops)
	switch {
	case err == nil:
		im.progress.Committed += int64(len(items))
		if rc.Changed {
			im.progress.Changed++
		}
		return nil
	case !isOfRecord(err):
		return err
	case len(items) > 1:
		half := len(items) / 2
		if err := im.commitItems(ctx, items[:half]); err != nil {
			return err
		}
		return im.commitItems(ctx, items[half:])
	}
	bad := im.reader.Bad(items[0].rec, err)
	if !im.o.SkipBad {
		// Everything before it is committed; the place to go on is before it, which the checkpoint of the last transaction is at worst.
		return bad
	}
	im.skip(bad)
	return nil
}

// isOfRecord reports whether an error of a commit may be the fault of a single record.
func isOfRecord(err error) bool {
	return errors.Is(err, crdt.ErrLimit) || errors.Is(err, crdt.ErrValue) || errors.Is(err, crdt.ErrKey) || errors.Is(err, crdt.ErrPath)
}

func (im *importer) skip(bad error) {
	im.progress.Skipped++
	if im.o.Bad != nil {
		im.o.Bad(bad)
	}
}

// read sends the records until the end, which is nil, or an error that leaves no way on.
func (im *importer) read(ctx context.Context, items chan<- item) error {
	for {
		rec, err := im.reader.Next()
		var e *records.Error
		if err == io.EOF || errors.As(err, &e) && e.Fatal {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		it := item{rec: rec, text: len(rec.Bytes), bad: err}
		if err == nil {
			it.op, err = im.parse(rec)
			if err != nil {
				it.bad = im.bad(rec, err)
			}
		}
		it.rec.Bytes = nil // it is gone with the next call
		if err := im.queued.Acquire(ctx, it.weight()); err != nil {
			return err
		}
		it.position = im.reader.Position()
		it.hash = im.src.upTo(it.position.Offset)
		select {
		case items <- it:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// bad places an error inside a record: the line of the record and the one inside it add up.
func (im *importer) bad(rec records.Record, err error) error {
	var in *crdt.JSONError
	if errors.As(err, &in) {
		rec.Line += in.Line - 1
		err = fmt.Errorf("at %q: %w", in.Pointer, in.Err)
	}
	return im.reader.Bad(rec, err)
}
