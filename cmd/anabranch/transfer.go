package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/importer"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
)

// importsDir is where the checkpoints of imports are, in the store directory.
const importsDir = "imports"

func newImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import [FILE|-]",
		Short: "Save documents from a file or a pipe",
		Long: `Save documents from a file, or from standard input. The file is JSON Lines, a JSON array, or a JSON object of documents by
key; of any size. Records are {"key":…,"doc":{…}}, as export writes them, or with --key plain documents that hold their key in a field. Each is
saved as put does, so importing the same again changes nothing.

The import splits itself into transactions. At a record that is bad it stops, says where, and keeps what was committed before; the same
command goes on at that place when the file is mended. With --skip-bad it goes on at once, and exits with code 3 if it passed over any.
Interrupted, it goes on where it stopped when it is given the same input again.`,
		Example: `  anabranch import fruits.jsonl
  zcat products.json.gz | anabranch import --key sku -`,
		Args: arguments(0, 1, "perhaps FILE or -"),
	}
	o := importer.Options{}
	format := cmd.Flags().String("format", string(records.Auto), "auto, jsonl, array or object")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"auto", "jsonl", "array", "object"}, cobra.ShellCompDirectiveNoFileComp))
	cmd.Flags().StringVar(&o.Key, "key", "", "field that holds the key, or a JSON pointer to it as /id/code")
	cmd.Flags().BoolVar(&o.SkipBad, "skip-bad", false, "pass over bad records, and count them")
	cmd.Flags().BoolVar(&o.Restart, "restart", false, "begin at the beginning, also where an earlier import was interrupted")
	cmd.Flags().IntVar(&o.Documents, "batch", importer.DefaultDocuments, "documents in a transaction, at most")
	addSettings(cmd, "sync", "sync-interval")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		var err error
		if o.Format, err = records.ParseFormat(*format); err != nil {
			return &usageError{err}
		}
		if o.Documents < 1 || o.Documents > node.MaxOps {
			return usagef("--batch %d: want 1 to %d", o.Documents, node.MaxOps)
		}
		in, done, err := a.openInput(args)
		if err != nil {
			return err
		}
		defer done()
		o.Space, o.CheckpointDir = a.space(), filepath.Join(a.cfg.Dir(), importsDir)
		return a.withNode(cmd.Context(), true, func(n node.Node) error { return a.importFrom(cmd.Context(), n, in, o) })
	}
	return cmd
}

func (a *app) openInput(args []string) (in importer.Input, done func(), err error) {
	if len(args) == 0 || args[0] == "-" {
		return importer.Input{Name: "standard input", Reader: a.stdin}, func() {}, nil
	}
	f, err := os.Open(args[0])
	if err != nil {
		return in, nil, err
	}
	in = importer.Input{Name: args[0], Reader: f}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		in.Size = info.Size()
		in.Rewind = func() error { _, err := f.Seek(0, io.SeekStart); return err }
	}
	return in, func() { f.Close() }, nil
}

// importOutput is what import prints with --output jsonl.
type importOutput struct {
	Imported int64 `json:"imported"`
	Skipped  int64 `json:"skipped"`
	Records  int64 `json:"records"`
}

func (a *app) importFrom(ctx context.Context, n node.Node, in importer.Input, o importer.Options) error {
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	o.Progress = func(p importer.Progress) {
		shown.Report(progress.State{Work: "import", Done: p.Bytes, Total: p.Size, Unit: "bytes", Count: p.Committed, Counted: "documents"})
	}
	o.Bad = func(err error) { fmt.Fprintf(a.stderr, "skipped: %v\n", err) }
	o.Resumed = func(p importer.Progress) {
		fmt.Fprintf(a.stderr, "going on behind record %d, where an earlier import of this input stopped (--restart begins at the beginning)\n", p.Records)
	}
	o.Changed = func() {
		fmt.Fprintln(a.stderr, "an earlier import of this input was interrupted, but the input has changed since: beginning at the beginning")
	}
	p, err := importer.Run(ctx, in, func(ctx context.Context, ops []node.Op) (node.Receipt, error) {
		return n.Commit(ctx, o.Space, ops)
	}, o)
	shown.Finish()
	if err != nil {
		return a.importStopped(p, err)
	}
	err = a.print(importOutput{p.Committed, p.Skipped, p.Records}, func(w io.Writer) {
		fmt.Fprintf(w, "%s imported\n", list(p.Committed, "document", "documents"))
	})
	if err == nil && p.Skipped > 0 {
		err = &partialError{fmt.Errorf("%s skipped", list(p.Skipped, "bad record was", "bad records were"))}
	}
	return err
}

// importStopped says what became of an import that did not get to its end, and how to go on.
func (a *app) importStopped(p importer.Progress, err error) error {
	var bad *records.Error
	advice := "the same command goes on there"
	switch {
	case errors.As(err, &bad) && bad.Fatal:
		advice = "mend the file, and the same command goes on there"
	case errors.As(err, &bad):
		advice = "mend the record, and the same command goes on there; or pass over bad records with --skip-bad"
	case errors.Is(err, importer.ErrChanged):
		return err
	}
	if p.Committed == 0 {
		return err
	}
	return fmt.Errorf("%w\nwhat was imported before it stays, %s: %s", err, list(p.Committed, "document", "documents"), advice)
}

func newExportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export [FILE|-]",
		Short: "Write all documents to a file or a pipe",
		Long: `Write all documents to a file, or to standard output, as JSON Lines ({"key":…,"doc":{…}} each), as a JSON array of the same, or as a
JSON object by key. All of them are from one moment, also while others write. import reads each format back without loss, except that values which do
not show (conflicts) are not exported, and a counter becomes its number.

A file gets its name when it is complete; until then it is FILE.partial. With --resume an export as JSON Lines that was
interrupted goes on in FILE.partial; what follows is then from a later moment.`,
		Example: `  anabranch export fruits.jsonl
  anabranch export --format object | jq .apple`,
		Args: arguments(0, 1, "perhaps FILE or -"),
	}
	format := cmd.Flags().String("format", string(records.Lines), "jsonl, array or object")
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"jsonl", "array", "object"}, cobra.ShellCompDirectiveNoFileComp))
	prefix := cmd.Flags().String("prefix", "", "only documents whose keys begin with this")
	resume := cmd.Flags().Bool("resume", false, "go on with FILE.partial")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f, err := records.ParseFormat(*format)
		if err != nil || f == records.Auto {
			return usagef("--format %q: want jsonl, array or object", *format)
		}
		e := exporter{format: f, o: node.ScanOptions{Prefix: *prefix}}
		if len(args) > 0 && args[0] != "-" {
			e.file = args[0]
		}
		if *resume && (e.file == "" || f != records.Lines) {
			return usagef("--resume goes on with a file of JSON Lines: name one, and no other --format")
		}
		e.resume = *resume
		a := appOf(cmd)
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.export(cmd.Context(), n, e) })
	}
	return cmd
}

type exporter struct {
	file   string // "": standard output
	format records.Format
	o      node.ScanOptions
	resume bool
}

// exportOutput is what export to a file prints with --output jsonl.
type exportOutput struct {
	File     string `json:"file"`
	Exported int64  `json:"exported"`
	Earlier  int64  `json:"earlier,omitempty"` // that were in FILE.partial
}

func (a *app) export(ctx context.Context, n node.Node, e exporter) error {
	if e.file == "" {
		_, err := a.writeRecords(ctx, n, e, a.stdout)
		return err
	}
	partial := e.file + ".partial"
	f, earlier, err := e.openPartial(partial)
	if err != nil {
		return err
	}
	defer f.Close()
	if earlier.lines > 0 {
		e.o.After = earlier.key
		fmt.Fprintf(a.stderr, "going on behind %s, the last of %s in %s\n", printable(earlier.key), list(earlier.lines, "document", "documents"), partial)
	}
	count, err := a.writeRecords(ctx, n, e, f)
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return fmt.Errorf("%w\nwhat was written is in %s", err, partial)
	}
	if err := os.Rename(partial, e.file); err != nil {
		return err
	}
	out := exportOutput{File: e.file, Exported: count + earlier.lines, Earlier: earlier.lines}
	return a.print(out, func(w io.Writer) {
		fmt.Fprintf(w, "%s exported to %s\n", list(out.Exported, "document", "documents"), e.file)
	})
}

func (a *app) writeRecords(ctx context.Context, n node.Node, e exporter, w io.Writer) (count int64, err error) {
	out, err := records.NewWriter(w, e.format)
	if err != nil {
		return 0, err
	}
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	defer shown.Finish()
	for doc, err := range n.Scan(ctx, a.space(), e.o) {
		if err != nil {
			return count, errors.Join(err, out.Flush())
		}
		if err := out.Write(doc.Key, doc.Doc); err != nil {
			return count, err
		}
		count++
		shown.Report(progress.State{Work: "export", Done: count, Unit: "documents"})
	}
	return count, out.Close()
}

// written is what is in the file of an interrupted export.
type written struct {
	lines int64
	key   string // of the last one
}

// openPartial opens the file to write to: a new one, or to go on with one, cut behind its last whole line.
func (e exporter) openPartial(path string) (*os.File, written, error) {
	if !e.resume {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
		return f, written{}, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, written{}, err
	}
	at, end, err := lastLine(f)
	if err == nil {
		err = f.Truncate(end)
	}
	if err == nil {
		_, err = f.Seek(end, io.SeekStart)
	}
	if err != nil {
		f.Close()
		return nil, written{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, at, nil
}

// lastLine reads through a file of JSON Lines, and returns its last whole line and where that ends.
func lastLine(f io.Reader) (at written, end int64, err error) {
	var last []byte
	for r := bufio.NewReaderSize(f, 1<<20); ; {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			return at, end, err
		}
		at.lines++
		end += int64(len(line))
		last = line
	}
	if last == nil {
		return at, 0, nil
	}
	var rec struct {
		Key string          `json:"key"`
		Doc json.RawMessage `json:"doc"`
	}
	if json.Unmarshal(bytes.TrimSpace(last), &rec) != nil || rec.Key == "" || rec.Doc == nil {
		return at, end, errors.New("its last line is no record of an export: remove the file, and export without --resume")
	}
	at.key = rec.Key
	return at, end, nil
}
