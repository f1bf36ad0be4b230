package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"text/tabwriter"
)

// Comparison is what changed from an earlier report to this one.
type Comparison struct {
	Before    Machine            `json:"before_machine"`
	Workloads []WorkloadCompared `json:"workloads"`
}

// WorkloadCompared is one workload that both reports have.
type WorkloadCompared struct {
	Name    string           `json:"name"`
	Figures []FigureCompared `json:"figures"`
}

// FigureCompared is one figure of both reports. Where the ideal ran in both, OfIdeal compares the ratios to it within pairs: the
// machine may have been busier at one time than at the other, and these say less of that.
type FigureCompared struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Ours    *Change `json:"ours,omitempty"`
	OfIdeal *Change `json:"of_ideal,omitempty"`
}

// Change is a figure before and after.
type Change struct {
	Before Spread  `json:"before"`
	After  Spread  `json:"after"`
	Ratio  float64 `json:"ratio"` // of the medians, after to before; 0 if that before is 0
	// Beyond is "more" or "less" if no run after is within the runs before, nor one before within those after, and there were
	// two of each at least; "" if the change may be noise.
	Beyond string `json:"beyond_spread,omitempty"`
}

// Spread is the median and the range of the runs.
type Spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
	Runs   int     `json:"runs"`
}

// maxReportBytes bounds a report that is read; one of 1000 pairs is smaller.
const maxReportBytes = 16 << 20

// ReadReport reads the JSON that WriteJSON wrote. Errors wrap ErrOptions if the file is no such thing.
func ReadReport(file string) (*Report, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: read the earlier report: %w", ErrOptions, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReportBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the earlier report: %w", err)
	}
	r := new(Report)
	if err := json.Unmarshal(text, r); err != nil || len(text) > maxReportBytes || r.Docs == 0 || len(r.Workloads) == 0 {
		return nil, fmt.Errorf("%w: %s is no report of a benchmark: give a file that `anabranch bench --report FILE` wrote", ErrOptions, file)
	}
	return r, nil
}

// CheckComparable reports, before anything is measured, whether a run with these options could be compared with an earlier one.
func CheckComparable(before *Report, o Options) error {
	o, err := o.withDefaults()
	if err != nil {
		return err
	}
	var wrong []error
	if before.Docs != o.Docs {
		wrong = append(wrong, fmt.Errorf("%w: the earlier run was of %d documents: use --docs %d", ErrOptions, before.Docs, before.Docs))
	}
	if before.Seed != o.Seed {
		wrong = append(wrong, fmt.Errorf("%w: the earlier run had other documents: use --seed %d", ErrOptions, before.Seed))
	}
	return errors.Join(wrong...)
}

// Compare returns what changed since before, in what both have.
func (r *Report) Compare(before *Report) *Comparison {
	c := &Comparison{Before: before.Machine}
	for _, w := range r.Workloads {
		i := slices.IndexFunc(before.Workloads, func(b WorkloadReport) bool { return b.Name == w.Name })
		if i < 0 {
			continue
		}
		compared := WorkloadCompared{Name: w.Name}
		for _, f := range w.Figures {
			k := slices.IndexFunc(before.Workloads[i].Figures, func(b FigureReport) bool { return b.Name == f.Name && b.Unit == f.Unit })
			if k < 0 {
				continue
			}
			b := before.Workloads[i].Figures[k]
			fc := FigureCompared{Name: f.Name, Unit: f.Unit, Ours: changed(b.OursRuns, f.OursRuns), OfIdeal: changed(b.ratios(), f.ratios())}
			if fc.Ours != nil {
				compared.Figures = append(compared.Figures, fc)
			}
		}
		if len(compared.Figures) > 0 {
			c.Workloads = append(c.Workloads, compared)
		}
	}
	return c
}

// changed returns nil if one of the two has no runs.
func changed(before, after []float64) *Change {
	if len(before) == 0 || len(after) == 0 {
		return nil
	}
	c := &Change{Before: spreadOf(before), After: spreadOf(after)}
	if c.Before.Median != 0 {
		c.Ratio = c.After.Median / c.Before.Median
	}
	if len(before) < 2 || len(after) < 2 {
		return c
	}
	switch {
	case c.After.Least > c.Before.Most:
		c.Beyond = "more"
	case c.After.Most < c.Before.Least:
		c.Beyond = "less"
	}
	return c
}

func spreadOf(runs []float64) Spread {
	return Spread{Median: *middle(runs), Least: slices.Min(runs), Most: slices.Max(runs), Runs: len(runs)}
}

// WriteTable writes the comparison for people.
func (c *Comparison) WriteTable(w io.Writer) error {
	beyond := 0
	for _, work := range c.Workloads {
		fmt.Fprintf(w, "\n%s, compared with the earlier run\n", work.Name)
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "  \tbefore\tnow\tnow/before\t\t")
		for _, f := range work.Figures {
			for _, row := range []struct {
				name   string
				change *Change
			}{{label(f.Name, f.Unit), f.Ours}, {"  times the ideal", f.OfIdeal}} {
				if row.change == nil {
					continue
				}
				if row.change.Beyond != "" {
					beyond++
				}
				fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\t%s\t\n", row.name, row.change.Before, row.change.After, ratioText(row.change.Ratio), row.change.word())
			}
		}
		if err := tab.Flush(); err != nil {
			return err
		}
	}
	if len(c.Workloads) == 0 {
		_, err := fmt.Fprintln(w, "\nthe earlier run measured nothing that this one did")
		return err
	}
	_, err := fmt.Fprintf(w, "\n%d figures changed by more than the spread of both runs\n", beyond)
	return err
}

func (c *Change) word() string {
	switch {
	case c.Beyond != "":
		return c.Beyond
	case min(c.Before.Runs, c.After.Runs) < 2:
		return "single runs"
	}
	return "within the spread"
}

// String shows the median, and the range if there is one.
func (s Spread) String() string {
	if s.Runs < 2 {
		return short(&s.Median)
	}
	return short(&s.Median) + " (" + short(&s.Least) + " to " + short(&s.Most) + ")"
}

func ratioText(ratio float64) string {
	if ratio == 0 {
		return ""
	}
	return strconv.FormatFloat(ratio, 'f', 2, 64)
}
