package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
	"github.com/anabranch-db/anabranch/crdt"
)

// space remembers what was committed, and refuses what a test wants refused.
type space struct {
	transactions [][]string
	refuse       func(ops []node.Op) error
}

func (s *space) commit(_ context.Context, ops []node.Op) (node.Receipt, error) {
	if s.refuse != nil {
		if err := s.refuse(ops); err != nil {
			return node.Receipt{}, err
		}
	}
	var keys []string
	for _, op := range ops {
		keys = append(keys, op.Key)
	}
	s.transactions = append(s.transactions, keys)
	return node.Receipt{Changed: true}, nil
}

func (s *space) String() string { return fmt.Sprint(s.transactions) }

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"key\":\"k%d\",\"doc\":{}}\n", i+1)
	}
	return b.String()
}

func input(text string) Input {
	r := strings.NewReader(text)
	return Input{Name: "in", Reader: r, Size: int64(len(text)), Rewind: func() error { _, err := r.Seek(0, io.SeekStart); return err }}
}

func options(dir string) Options {
	return Options{Space: "main", Format: records.Auto, Documents: 2, CheckpointDir: dir}
}

func TestImportSplitsIntoTransactions(t *testing.T) {
	dir := t.TempDir()
	var s space
	p, err := Run(t.Context(), input(numbered(5)), s.commit, options(dir))
	if err != nil || s.String() != "[[k1 k2] [k3 k4] [k5]]" || p.Committed != 5 || p.Records != 5 || p.Bytes != p.Size {
		t.Errorf("%s, %+v, %v", &s, p, err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("a complete import leaves %v", left)
	}
}

func TestATransactionOfManyBytesIsEndedEarly(t *testing.T) {
	var s space
	big := fmt.Sprintf(`{"key":"b%%d","doc":{"x":"%s"}}`+"\n", strings.Repeat("y", maxTransactionText*2/3))
	o := options(t.TempDir())
	o.Documents = 100
	if _, err := Run(t.Context(), input(fmt.Sprintf(big+big, 1, 2)), s.commit, o); err == nil || !errors.Is(err, crdt.ErrLimit) {
		t.Errorf("a value over the limit of the store: %v", err)
	}
	medium := fmt.Sprintf(`{"key":"m%%d","doc":{"x":"%s"}}`+"\n", strings.Repeat("y", crdt.MaxValueBytes*3/4))
	if _, err := Run(t.Context(), input(fmt.Sprintf(medium+medium+medium, 1, 2, 3)), s.commit, o); err != nil || s.String() != "[[m1 m2] [m3]]" {
		t.Errorf("%s, %v", &s, err)
	}
}

// A store may find a transaction too large that the importer does not: then it is halved, and the record at fault is named.
func TestATransactionOverTheLimitIsHalved(t *testing.T) {
	refuse := func(ops []node.Op) error {
		for _, op := range ops {
			if op.Key == "k6" {
				return &crdt.LimitError{What: "transaction", Size: 9, Limit: 8, Unit: "bytes"}
			}
		}
		if len(ops) > 2 {
			return &crdt.LimitError{What: "transaction", Size: 9, Limit: 8, Unit: "bytes"}
		}
		return nil
	}
	o := options(t.TempDir())
	o.Documents = 8
	s := space{refuse: refuse}
	_, err := Run(t.Context(), input(numbered(8)), s.commit, o)
	var bad *records.Error
	if !errors.As(err, &bad) || bad.Line != 6 || s.String() != "[[k1 k2] [k3 k4] [k5]]" {
		t.Errorf("%s, %v", &s, err)
	}
	s = space{refuse: refuse}
	o.SkipBad = true
	var skipped []error
	o.Bad = func(err error) { skipped = append(skipped, err) }
	p, err := Run(t.Context(), input(numbered(8)), s.commit, o)
	if err != nil || p.Committed != 7 || p.Skipped != 1 || len(skipped) != 1 || s.String() != "[[k1 k2] [k3 k4] [k5] [k7 k8]]" {
		t.Errorf("%s, %+v, %v, %v", &s, p, skipped, err)
	}
}

// A failing store ends the import at once; nothing is taken for a bad record.
func TestAFailingStoreEndsTheImport(t *testing.T) {
	full := errors.New("disk full")
	dir := t.TempDir()
	s := space{refuse: func(ops []node.Op) error {
		if ops[0].Key == "k5" {
			return full
		}
		return nil
	}}
	o := options(dir)
	o.SkipBad = true
	p, err := Run(t.Context(), input(numbered(9)), s.commit, o)
	if !errors.Is(err, full) || p.Committed != 4 || p.Skipped != 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	s = space{}
	p, err = Run(t.Context(), input(numbered(9)), s.commit, o)
	if err != nil || s.String() != "[[k5 k6] [k7 k8] [k9]]" || p.Committed != 9 {
		t.Errorf("going on: %s, %+v, %v", &s, p, err)
	}
}

// Interrupted after any of its transactions, an import goes on behind it; in each format, through files and through pipes.
func TestImportGoesOnAfterEachTransaction(t *testing.T) {
	stop := errors.New("stop")
	inputs := map[string]string{
		"lines":  numbered(9),
		"array":  "[" + strings.ReplaceAll(strings.TrimSpace(numbered(9)), "\n", ",\n") + "\n]",
		"object": `{"k1":{},"k2":{},"k3":{},"k4":{},` + "\n" + `"k5":{},"k6":{},"k7":{},"k8":{},"k9":{}}`,
	}
	for name, text := range inputs {
		for after := 1; after <= 4; after++ {
			for _, pipe := range []bool{false, true} {
				o := options(t.TempDir())
				s := space{}
				s.refuse = func([]node.Op) error {
					if len(s.transactions) == after {
						return stop
					}
					return nil
				}
				in := input(text)
				if pipe {
					in = Input{Name: "in", Reader: iotestReader{strings.NewReader(text)}}
				}
				if _, err := Run(t.Context(), in, s.commit, o); !errors.Is(err, stop) {
					t.Fatal(err)
				}
				s.refuse = nil
				resumed := false
				o.Resumed = func(Progress) { resumed = true }
				in = input(text)
				if pipe {
					in = Input{Name: "in", Reader: iotestReader{strings.NewReader(text)}}
				}
				p, err := Run(t.Context(), in, s.commit, o)
				if err != nil || !resumed || s.String() != "[[k1 k2] [k3 k4] [k5 k6] [k7 k8] [k9]]" || p.Committed != 9 {
					t.Errorf("%s after %d, pipe %v: %s, %+v, resumed %v, %v", name, after, pipe, &s, p, resumed, err)
				}
			}
		}
	}
}

// iotestReader gives three bytes at a time.
type iotestReader struct{ r io.Reader }

func (r iotestReader) Read(p []byte) (int, error) { return r.r.Read(p[:min(3, len(p))]) }

func TestAnotherInputIsNotTakenForAnInterruptedOne(t *testing.T) {
	stop := errors.New("stop")
	o := options(t.TempDir())
	s := space{}
	s.refuse = func([]node.Op) error {
		if len(s.transactions) == 2 {
			return stop
		}
		return nil
	}
	if _, err := Run(t.Context(), input(numbered(9)), s.commit, o); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	other := strings.Replace(numbered(9), "k3", "x3", 1)
	if _, err := Run(t.Context(), Input{Name: "pipe", Reader: strings.NewReader(other)}, s.commit, o); !errors.Is(err, ErrChanged) {
		t.Errorf("through a pipe: %v", err)
	}
	for name, change := range map[string]func(*Options){
		"another space": func(o *Options) { o.Space = "other" },
		"another form":  func(o *Options) { o.Format = records.Lines },
	} {
		changed := o
		change(&changed)
		fresh := space{}
		if p, err := Run(t.Context(), input(numbered(9)), fresh.commit, changed); err != nil || p.Committed != 9 || len(fresh.transactions) != 5 {
			t.Errorf("%s: %s, %v", name, &fresh, err)
		}
	}
	fresh := space{}
	told := false
	changed := o
	changed.Changed = func() { told = true }
	if p, err := Run(t.Context(), input(other), fresh.commit, changed); err != nil || p.Committed != 9 || !told || fresh.transactions[1][0] != "x3" {
		t.Errorf("a file: %s, %v, told %v", &fresh, err, told)
	}
	if left, _ := os.ReadDir(o.CheckpointDir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestRestartBeginsAtTheBeginning(t *testing.T) {
	stop := errors.New("stop")
	o := options(t.TempDir())
	s := space{}
	s.refuse = func([]node.Op) error {
		if len(s.transactions) == 2 {
			return stop
		}
		return nil
	}
	if _, err := Run(t.Context(), input(numbered(9)), s.commit, o); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	o.Restart = true
	fresh := space{}
	if p, err := Run(t.Context(), input(numbered(9)), fresh.commit, o); err != nil || p.Committed != 9 || len(fresh.transactions) != 5 {
		t.Errorf("%s, %v", &fresh, err)
	}
	if left, _ := os.ReadDir(o.CheckpointDir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// A record from a slow pipe is committed without waiting for others, and an interruption does not wait for the pipe.
func TestASlowPipeIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pr, pw := io.Pipe()
		go func() { _, _ = pw.Write([]byte(numbered(1))) }()
		var s space
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := Run(ctx, Input{Name: "pipe", Reader: pr}, s.commit, options(t.TempDir()))
			done <- err
		}()
		synctest.Wait()
		if len(s.transactions) != 0 {
			t.Errorf("at once: %s", &s)
		}
		<-time.After(idle)
		synctest.Wait()
		if s.String() != "[[k1]]" {
			t.Errorf("after %s: %s", idle, &s)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
		pw.Close()
	})
}

func TestOldAndBrokenCheckpointsAreNoHindrance(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"empty.json": "", "short.json": `{"space":"main"`, "unknown.json": `{"spice":1}`, "negative.json": `{"position":{"offset":-1}}`,
		"long.json": strings.Repeat(" ", maxCheckpointBytes+1), "old.json": "{}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-maxAge - time.Hour)
	if err := os.Chtimes(filepath.Join(dir, "old.json"), long, long); err != nil {
		t.Fatal(err)
	}
	var s space
	if p, err := Run(t.Context(), input(numbered(3)), s.commit, options(dir)); err != nil || p.Committed != 3 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "old.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a checkpoint from long ago is still there: %v", err)
	}
}

// Whatever the file says: no panic, and what is taken as a checkpoint can be gone on from.
func FuzzParseCheckpoint(f *testing.F) {
	f.Add([]byte(`{"space":"main","key":"","format":"auto","head_bytes":20,"head_hash":"00","position":{"format":"jsonl","offset":20,"line":2,"records":1},"hash":"00","committed":1,"skipped":0}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCheckpoint(text)
		if err != nil {
			return
		}
		if _, err := records.ResumeReader(strings.NewReader("x"), "in", c.Position).Next(); err == nil && c.Position.Format != records.Lines {
			t.Errorf("%q was read as a record of an %s", "x", c.Position.Format)
		}
	})
}
