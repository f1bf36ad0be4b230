package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/replica/replicatest"
)

func init() { extra = append(extra, newSimCommand) }

// newSimCommand makes the command that runs the simulator.
func newSimCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run random histories of simulated replicas against an oracle",
		Long: `Run random histories of simulated replicas and compare each state with what an oracle computes from the
definition: crashes, lost and repeated frames, partitions, restored backups, clocks that are wrong.

Nothing is read or written. The same seed makes the same history, so a run that fails can be repeated: --seed N alone
runs that seed and prints what happens in it. A failing seed is worth a report.`,
		Example: `  anabranch sim                       1000 seeds
  anabranch sim --minutes 10          as many as ten minutes allow
  anabranch sim --seed 4711           that one, step by step
  anabranch sim --seed 5000 --runs 200`,
		Args: noArguments,
	}
	seed := cmd.Flags().Uint64("seed", 1, "the seed, or the first of several")
	runs := cmd.Flags().Int("runs", 1000, "how many seeds to run")
	minutes := cmd.Flags().Float64("minutes", 0, "run for so long instead of for a number of seeds")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case *runs < 1:
			return usagef("--runs %d: want at least 1", *runs)
		case *minutes < 0:
			return usagef("--minutes %g: want more than 0", *minutes)
		case cmd.Flags().Changed("runs") && *minutes > 0:
			return usagef("give --runs or --minutes, not both")
		}
		a := appOf(cmd)
		if cmd.Flags().Changed("seed") && !cmd.Flags().Changed("runs") && *minutes == 0 {
			return a.simulateOne(*seed)
		}
		c := replicatest.Campaign{First: *seed, Runs: *runs, Workers: runtime.GOMAXPROCS(0)}
		ctx := cmd.Context()
		if *minutes > 0 {
			c.Runs = 0
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(*minutes*float64(time.Minute)))
			defer cancel()
		}
		return a.simulate(ctx, cmd.Context(), c)
	}
	return cmd
}

// simulateOne runs one seed and prints its steps.
func (a *app) simulateOne(seed uint64) error {
	var trace io.Writer
	if !a.wantsJSON() {
		trace = a.stdout
	}
	report := replicatest.RunOne(seed, trace)
	return a.finishSimulation(report)
}

// simulate runs a campaign until runCtx ends; outer ends early only if the user interrupts.
func (a *app) simulate(runCtx, outer context.Context, c replicatest.Campaign) error {
	progress := a.simProgress()
	if progress != nil {
		c.Progress = progress.update
	}
	report := c.Run(runCtx)
	if progress != nil {
		progress.end()
	}
	if err := a.finishSimulation(report); err != nil {
		return err
	}
	return outer.Err()
}

func (a *app) finishSimulation(report replicatest.Report) error {
	var werr error
	if err := a.print(report, func(w io.Writer) { werr = report.WriteTable(w) }); err != nil {
		return err
	}
	if werr != nil {
		return werr
	}
	if n := len(report.Failed); n > 0 {
		return fmt.Errorf("%s of %d failed; replay the first with `anabranch sim --seed %d`", list(int64(n), "seed", "seeds"), report.Runs, report.Failed[0].Seed)
	}
	return nil
}

// simProgress shows how far a campaign is: a line that is written over on a terminal, or a line of JSON a second.
type simProgress struct {
	w    io.Writer
	json bool
	last time.Time
}

// simProgress returns nil if no progress is wanted.
func (a *app) simProgress() *simProgress {
	f, isFile := a.stderr.(*os.File)
	switch a.cfg.Text("progress") {
	case "json":
		return &simProgress{w: a.stderr, json: true}
	case "auto":
		if isFile && term.IsTerminal(int(f.Fd())) {
			return &simProgress{w: a.stderr}
		}
	}
	return nil
}

func (p *simProgress) update(r replicatest.Report) {
	every := 200 * time.Millisecond
	if p.json {
		every = time.Second
	}
	now := time.Now()
	if now.Sub(p.last) < every {
		return
	}
	p.last = now
	if p.json {
		_ = encodeLine(p.w, map[string]any{"runs": r.Runs, "failed": len(r.Failed), "seconds": r.Elapsed.Seconds(), "seeds_per_second": r.SeedsPerSecond()})
		return
	}
	fmt.Fprintf(p.w, "\r\x1b[K%d seeds, %.0f a second, %d failed", r.Runs, r.SeedsPerSecond(), len(r.Failed))
}

func (p *simProgress) end() {
	if !p.json && !p.last.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
