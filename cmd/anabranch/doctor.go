package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
)

func newDoctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the store: files, log, feed, digest, vectors",
		Long: `Check the store. The files are checked first, each block by its checksum (left out while a node serves the store); then, for each space,
everything that derives from the documents is computed again and compared: the log, the feed, the digest, the counts and the vectors.

With --repair what derives is made what it should be, and nothing is lost. Damage to documents themselves cannot be mended here: keep a copy of the
directory, and let a new node fetch them from its peers. The exit code is 5 if anything is wrong that was not mended.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	repair := cmd.Flags().Bool("repair", false, "make what derives from the documents what it should be")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a := appOf(cmd)
		if err := a.checkTables(cmd.Context()); err != nil {
			return err
		}
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.examine(cmd.Context(), n, *repair) })
	}
	return cmd
}

// examine verifies all spaces.
func (a *app) examine(ctx context.Context, n node.Node, repair bool) error {
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	defer shown.Finish()
	bad := 0
	for _, s := range st.Spaces {
		report, err := n.Verify(ctx, s.Name, repair, func(keys int64) {
			shown.Report(progress.State{Work: "doctor", Done: keys, Unit: "keys"})
		})
		if err != nil {
			return err
		}
		if repair && len(report.Problems) > 0 {
			if report, err = a.verifyRepaired(ctx, n, report); err != nil {
				return err
			}
		}
		bad += len(report.Problems)
		if err := a.printReport(report); err != nil {
			return err
		}
	}
	if bad == 0 {
		return nil
	}
	advice := "run `anabranch doctor --repair` to rebuild what derives from the documents"
	if repair {
		advice = "what is left cannot be rebuilt from this store: keep a copy, and let a new node fetch the documents from its peers"
	}
	return &damagedError{fmt.Errorf("%s found: %s", list(int64(bad), "problem", "problems"), advice)}
}

// verifyRepaired tells what a repair has mended by looking again: what is left is what counts.
func (a *app) verifyRepaired(ctx context.Context, n node.Node, before node.Report) (node.Report, error) {
	after, err := n.Verify(ctx, before.Space, false, nil)
	after.Repaired = len(before.Problems) + int(before.Suppressed) - len(after.Problems) - int(after.Suppressed)
	return after, err
}

func (a *app) printReport(r node.Report) error {
	return a.print(r, func(w io.Writer) {
		state := "sound"
		if len(r.Problems) > 0 {
			state = "NOT SOUND"
		}
		fmt.Fprintf(w, "%s: %s: %s, %s, %s, digest %s\n", printableKey(r.Space), state, list(r.Documents, "document", "documents"),
			list(r.LogEntries, "log entry", "log entries"), list(r.FeedEntries, "feed entry", "feed entries"), r.Digest)
		if r.Repaired > 0 {
			fmt.Fprintf(w, "  %s repaired\n", list(int64(r.Repaired), "problem", "problems"))
		}
		for _, p := range r.Problems {
			kind := "damage"
			if p.Derived {
				kind = "repairable"
			}
			fmt.Fprintf(w, "  %s: %s: %s\n", kind, p.What, printableKey(p.Where))
		}
		if r.Suppressed > 0 {
			fmt.Fprintf(w, "  and %d more\n", r.Suppressed)
		}
	})
}

// tablesCommand is the name under which the program runs itself to check the files. On a damaged file the storage engine may crash the process that
// reads it, so that is another one.
const tablesCommand = "verify-tables"

func newTablesCommand() *cobra.Command {
	return &cobra.Command{
		Use:    tablesCommand,
		Short:  "Check the files of the store (doctor runs this in a process of its own)",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(cmd *cobra.Command, _ []string) error { return verifyTables(appOf(cmd).cfg.Dir()) },
	}
}

// maxChildOutput bounds what is kept of the output of the checking process, which may be a crash.
const maxChildOutput = 64 << 10

// checkTables checks the files in another process, unless a node serves the store.
func (a *app) checkTables(ctx context.Context) error {
	dir := a.cfg.Dir()
	if c, err := control.Dial(ctx, dir); err == nil {
		fmt.Fprintln(a.stderr, "a node serves the store: the checksums of the files are not checked; stop it to check them too")
		return c.Close()
	}
	if !storeExists(dir) {
		return nil // opening says so
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	child := exec.CommandContext(ctx, self, tablesCommand, "--dir", dir, "--lock-wait", a.cfg.Text("lock-wait"))
	child.Args[0] = "anabranch"
	out := &cutBuffer{most: maxChildOutput}
	child.Stdout, child.Stderr = out, out
	err = child.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &exit):
		return err
	}
	switch exit.ExitCode() {
	case exitLocked:
		return nil // opening waits for it, or says who has it
	case exitDamaged:
		return &damagedError{errors.New(string(bytes.TrimPrefix(bytes.TrimSpace(out.b), []byte("anabranch: "))))}
	case exitRefused, exitDiskFull, exitError:
		return nil // opening says the same, with the right code
	}
	return &damagedError{fmt.Errorf("the process that checks the files of %s crashed (%v): a file is damaged; keep a copy of the directory, and let a new node fetch the documents from its peers\n%s",
		dir, exit, firstLines(out.b, 3))}
}

func firstLines(b []byte, n int) []byte {
	lines := bytes.SplitN(bytes.TrimSpace(b), []byte("\n"), n+1)
	return bytes.Join(lines[:min(n, len(lines))], []byte("\n"))
}

// cutBuffer keeps the beginning of what is written to it.
type cutBuffer struct {
	b    []byte
	most int
}

func (c *cutBuffer) Write(p []byte) (int, error) {
	c.b = append(c.b, p[:min(len(p), c.most-len(c.b))]...)
	return len(p), nil
}
