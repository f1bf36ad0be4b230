package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/bench"
)

func init() { extra = append(extra, newBenchCommand, newBenchNodeCommand) }

// benchNodeCommand is the hidden command that a benchmark runs for each of its nodes.
const benchNodeCommand = "bench-node"

func newBenchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure two nodes on this machine, beside the least that the machine would need",
		Long: `Measure two nodes, each a process of its own, that exchange documents over QUIC on the loopback interface:

  w1      a fresh node catches up
  w2      single writes arrive at a peer, and how many a second
  w3      two nodes that were equal meet again after one in 1000, and one in 10, documents changed
  w4      documents were edited on both sides while apart
  w5      nearly all documents were deleted; w5-stable: and pruned
  fields  setting one field of a small document and of a large one
  scale   what must cost the same however many documents there are, and what each of them costs

Beside ours runs an ideal: the same entries in the same store, the same bytes over the same network, and no more. Ours and
the ideal take turns, and what counts is the ratio, for absolute figures depend on what else the machine does.
The targets are made for two cores and 100,000 documents. A full run takes about ten minutes and 1 GB of disk; with
--docs 10000 --pairs 1 it takes one.`,
		Example: `  anabranch bench
  anabranch bench --only w1,w3 --pairs 5 --report bench.json
  anabranch bench --only w1,w3 --pairs 5 --compare bench.json
  anabranch bench --docs 10000 --pairs 1`,
		Args: noArguments,
	}
	o := bench.Options{}
	f := cmd.Flags()
	f.IntVar(&o.Docs, "docs", 100_000, "number of documents; targets in absolute terms are judged with the default only")
	f.IntVar(&o.Pairs, "pairs", 3, "how many times ours and the ideal are run, in turns")
	f.StringSliceVar(&o.Only, "only", nil, "workloads to run, of "+strings.Join(bench.Workloads(), ", ")+" (default all)")
	f.BoolVar(&o.Large, "large", false, "in scale, also a million documents: some minutes and 2 GB of disk")
	f.Uint64Var(&o.Seed, "seed", 1, "makes other documents")
	f.StringVar(&o.Dir, "temp", "", "where stores are made and removed again; on a disk, not in memory (default: the system's directory for temporary files)")
	f.StringVar(&o.CPUProfiles, "cpuprofile", "", "write CPU profiles of the nodes into this directory")
	f.StringVar(&o.AllocProfiles, "allocprofile", "", "write profiles of the nodes' allocations into this directory")
	file := f.String("report", "", "also write the figures as JSON into this file")
	before := f.String("compare", "", "an earlier --report: also show what has changed since, beside the spread of both")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return appOf(cmd).bench(cmd, o, *file, *before) }
	for _, name := range []string{"temp", "cpuprofile", "allocprofile"} {
		cmd.MarkFlagDirname(name)
	}
	cmd.RegisterFlagCompletionFunc("only", cobra.FixedCompletions(bench.Workloads(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func (a *app) bench(cmd *cobra.Command, o bench.Options, file, compare string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to run nodes with it: %w", err)
	}
	o.Node = []string{self, benchNodeCommand}
	var before *bench.Report
	if compare != "" { // now, and not after minutes of measuring
		if before, err = bench.ReadReport(compare); err == nil {
			err = bench.CheckComparable(before, o)
		}
		if errors.Is(err, bench.ErrOptions) {
			return usagef("%w", err)
		}
		if err != nil {
			return err
		}
	}
	clear := a.benchProgress(&o)
	report, err := bench.Run(cmd.Context(), o)
	clear()
	if errors.Is(err, bench.ErrOptions) {
		return usagef("%w", err)
	}
	if err != nil {
		return err
	}
	if file != "" {
		if err := writeReport(file, report); err != nil {
			return err
		}
	}
	if before != nil {
		report.Compared = report.Compare(before)
	}
	var werr error
	err = a.print(report, func(w io.Writer) { werr = report.WriteTable(w) })
	return errors.Join(err, werr)
}

// benchProgress tells on the terminal, or a line of JSON at a time, what is being measured. The function that it returns
// clears that away.
func (a *app) benchProgress(o *bench.Options) (clear func()) {
	f, isFile := a.stderr.(*os.File)
	switch a.cfg.Text("progress") {
	case "json":
		o.Progress = func(text string) {
			// Progress that cannot be told is no reason to give up.
			_ = encodeLine(a.stderr, map[string]string{"measuring": text})
		}
	case "auto":
		if isFile && term.IsTerminal(int(f.Fd())) {
			o.Progress = func(text string) { fmt.Fprintf(a.stderr, "\r\x1b[K%s", text) }
			return func() { fmt.Fprint(a.stderr, "\r\x1b[K") }
		}
	}
	return func() {}
}

func writeReport(file string, report *bench.Report) error {
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return errors.Join(report.WriteJSON(f), f.Close())
}

func newBenchNodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:    benchNodeCommand,
		Short:  "Be a node of a benchmark, told what to do on standard input",
		Hidden: true,
		Args:   noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			go tendMemory(cmd.Context()) // as in serve; it ends with the command
			return bench.ServeNode(cmd.Context(), a.stdin, a.stdout)
		},
	}
}
