package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
)

func newDoctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check the store: files, log, feed, digest, vectors",
		Long: `Check the store. The files are checked first, each block by its checksum; then, for each space, everything that
derives from the documents is computed again and compared: the log, the feed, the digest, the counts and the vectors.

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
	if len(st.Clock.Held) > 0 {
		printHeld(a.stderr, st.Clock.Held)
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
		fmt.Fprintf(w, "%s: %s: %s, %s, %s, digest %s\n", printable(r.Space), state, list(r.Documents, "document", "documents"),
			list(r.LogEntries, "log entry", "log entries"), list(r.FeedEntries, "feed entry", "feed entries"), r.Digest)
		if r.Repaired > 0 {
			fmt.Fprintf(w, "  %s repaired\n", list(int64(r.Repaired), "problem", "problems"))
		}
		for _, p := range r.Problems {
			kind := "damage"
			if p.Derived {
				kind = "repairable"
			}
			fmt.Fprintf(w, "  %s: %s: %s\n", kind, p.What, printable(p.Where))
		}
		if r.Suppressed > 0 {
			fmt.Fprintf(w, "  and %d more\n", r.Suppressed)
		}
	})
}

// checkTables reads each block of the files and compares the checksums. The store need not be open for it, and may be.
func (a *app) checkTables(ctx context.Context) error {
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	defer shown.Finish()
	err := badgerstore.VerifyTables(ctx, a.cfg.Dir(), func(done, total int) {
		shown.Report(progress.State{Work: "doctor", Done: int64(done), Total: int64(total), Unit: "files"})
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // opening the store says what is missing
	}
	return err
}
