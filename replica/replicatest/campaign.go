package replicatest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"
)

// Campaign runs many seeds.
type Campaign struct {
	First   uint64 // the first seed
	Runs    int    // how many, from First on; zero: until the context ends
	Workers int    // runs at once; zero: one
	// Failures ends the campaign after so many failing seeds. Zero: 10.
	Failures int
	// Progress, if not nil, is called after each run, by one goroutine at a time.
	Progress func(Report)
}

// Report is what a campaign came to.
type Report struct {
	First   uint64
	Runs    int
	Elapsed time.Duration
	Counts  Counts
	Failed  []*Failure
}

// SeedsPerSecond returns the rate of all workers together.
func (r *Report) SeedsPerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Runs) / r.Elapsed.Seconds()
}

// Run runs the campaign until it is through, too much has failed, or ctx ends.
func (c Campaign) Run(ctx context.Context) Report {
	begun := time.Now()
	if c.Failures == 0 {
		c.Failures = 10
	}
	report := Report{First: c.First}
	var mu sync.Mutex // guards report and next
	next := 0
	take := func() (uint64, bool) {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil || c.Runs > 0 && next >= c.Runs || len(report.Failed) >= c.Failures {
			return 0, false
		}
		next++
		return c.First + uint64(next-1), true
	}
	var wg sync.WaitGroup
	for range max(c.Workers, 1) {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				counts, failure := Run(seed, nil)
				mu.Lock()
				report.add(counts, failure)
				report.Elapsed = time.Since(begun)
				if c.Progress != nil {
					c.Progress(report)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return report
}

// RunOne runs one seed and writes what happens in it to trace, unless that is nil.
func RunOne(seed uint64, trace io.Writer) Report {
	begun := time.Now()
	report := Report{First: seed}
	report.add(Run(seed, trace))
	report.Elapsed = time.Since(begun)
	return report
}

func (r *Report) add(counts Counts, failure *Failure) {
	r.Runs++
	r.Counts.Add(counts)
	if failure != nil {
		r.Failed = append(r.Failed, failure)
	}
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, k := range Kinds() {
		fmt.Fprintf(t, "%s\t%d\t\n", k, r.Counts[k])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failed {
		if _, err := fmt.Fprintf(w, "\n%v\n", f); err != nil {
			return err
		}
	}
	last := r.First + uint64(max(r.Runs, 1)-1)
	_, err := fmt.Fprintf(w, "\n%d runs (seeds %d to %d) in %s, %.0f a second; %d failed\n",
		r.Runs, r.First, last, r.Elapsed.Round(time.Millisecond), r.SeedsPerSecond(), len(r.Failed))
	return err
}

// MarshalJSON implements json.Marshaler. The keys are stable.
func (r Report) MarshalJSON() ([]byte, error) {
	counts := make(map[string]int64, numKinds)
	for _, k := range Kinds() {
		counts[k.Key()] = r.Counts[k]
	}
	failed := make([]map[string]any, 0, len(r.Failed))
	for _, f := range r.Failed {
		failed = append(failed, map[string]any{"seed": f.Seed, "step": f.Step, "error": f.Text})
	}
	return json.Marshal(map[string]any{
		"first": r.First, "runs": r.Runs, "seconds": r.Elapsed.Seconds(), "seeds_per_second": r.SeedsPerSecond(),
		"counts": counts, "failed": failed,
	})
}
