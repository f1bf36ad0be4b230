package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is everything that a run measured. Its JSON names are stable.
type Report struct {
	Began     time.Time        `json:"began"`
	Seconds   float64          `json:"seconds"`
	Machine   Machine          `json:"machine"`
	Docs      int              `json:"docs"`
	Pairs     int              `json:"pairs"`
	Seed      uint64           `json:"seed"`
	Workloads []WorkloadReport `json:"workloads"`
	// Compared is what changed since an earlier report, nil if there is none to compare with.
	Compared *Comparison `json:"compared,omitempty"`
}

// Machine is where it was measured.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// WorkloadReport is what one workload came to.
type WorkloadReport struct {
	Name    string         `json:"name"`
	Title   string         `json:"title"`
	Figures []FigureReport `json:"figures"`
}

// FigureReport is one figure: medians of the runs, the median of the ratios within pairs, and what they are held against.
type FigureReport struct {
	Name      string    `json:"name"`
	Unit      string    `json:"unit"`
	Ours      *float64  `json:"ours,omitempty"`
	Ideal     *float64  `json:"ideal,omitempty"`
	Ratio     *float64  `json:"ratio,omitempty"` // ours to ideal
	OursRuns  []float64 `json:"ours_runs,omitempty"`
	IdealRuns []float64 `json:"ideal_runs,omitempty"`
	Target    string    `json:"target,omitempty"`
	Met       *bool     `json:"met,omitempty"` // absent where there is no target, or it does not apply to this run
}

func newReport(o Options) *Report {
	return &Report{Began: time.Now().UTC().Truncate(time.Second), Machine: machine(), Docs: o.Docs, Pairs: o.Pairs, Seed: o.Seed}
}

// figure says how a value is shown and judged.
type figure struct {
	name   string
	unit   string
	target target
}

// target is a bound on the ratio to the ideal or on the value itself.
type target struct {
	of    targetKind
	bound float64
	// scaled: the bound is made for fullDocs documents and is not judged with another number.
	scaled bool
}

type targetKind int

const (
	noTarget targetKind = iota
	ratioAtLeast
	ratioAtMost
	valueAtMost
)

func (t target) String() string {
	bound := strconv.FormatFloat(t.bound, 'g', -1, 64)
	switch t.of {
	case ratioAtLeast:
		return "≥ " + bound + " × ideal"
	case ratioAtMost:
		return "≤ " + bound + " × ideal"
	case valueAtMost:
		return "≤ " + bound
	}
	return ""
}

// evaluate returns the figure's row; ok is false if no run recorded it.
func (f figure) evaluate(o Options, ours, ideal []map[string]float64) (FigureReport, bool) {
	r := FigureReport{Name: f.name, Unit: f.unit, Target: f.target.String()}
	r.OursRuns, r.IdealRuns = valuesOf(ours, f.name), valuesOf(ideal, f.name)
	r.Ours, r.Ideal, r.Ratio = middle(r.OursRuns), middle(r.IdealRuns), middle(r.ratios())
	if r.Ours == nil && r.Ideal == nil {
		return r, false
	}
	if f.target.of != noTarget && (!f.target.scaled || o.Docs == fullDocs) {
		r.Met = f.target.judge(r)
	}
	return r, true
}

// valuesOf returns what was recorded under a name. An engine records a figure in each of its runs, or in none.
func valuesOf(runs []map[string]float64, name string) (values []float64) {
	for _, run := range runs {
		if v, ok := run[name]; ok {
			values = append(values, v)
		}
	}
	return values
}

// ratios returns ours to the ideal in each pair; nothing if not every run is of a pair.
func (f FigureReport) ratios() []float64 {
	if len(f.OursRuns) != len(f.IdealRuns) {
		return nil
	}
	var all []float64
	for i, ours := range f.OursRuns {
		if f.IdealRuns[i] > 0 {
			all = append(all, ours/f.IdealRuns[i])
		}
	}
	return all
}

func (t target) judge(r FigureReport) *bool {
	var met bool
	switch {
	case t.of == valueAtMost && r.Ours != nil:
		met = *r.Ours <= t.bound
	case r.Ratio == nil:
		return nil
	case t.of == ratioAtLeast:
		met = *r.Ratio >= t.bound
	default:
		met = *r.Ratio <= t.bound
	}
	return &met
}

// middle returns the median, nil of nothing.
func middle(values []float64) *float64 {
	n := len(values)
	if n == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(values))
	m := (sorted[(n-1)/2] + sorted[n/2]) / 2
	return &m
}

// percentile returns the value below which the given part of the times lies.
func percentile(sorted []float64, part float64) float64 {
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

// Missed returns the number of targets that were judged and missed.
func (r *Report) Missed() int {
	n := 0
	for _, w := range r.Workloads {
		for _, f := range w.Figures {
			if f.Met != nil && !*f.Met {
				n++
			}
		}
	}
	return n
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes the report for people.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "%s/%s, %d CPUs, %s; %d documents, medians of %d pairs\n", r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go, r.Docs, r.Pairs)
	for _, work := range r.Workloads {
		fmt.Fprintf(w, "\n%s: %s\n", work.Name, work.Title)
		tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(tab, "  \tours\tideal\tratio\ttarget\t")
		for _, f := range work.Figures {
			ratio := ""
			if f.Ratio != nil {
				ratio = strconv.FormatFloat(*f.Ratio, 'f', 2, 64)
			}
			fmt.Fprintf(tab, "  %s\t%s\t%s\t%s\t%s\t%s\n", label(f.Name, f.Unit), short(f.Ours), short(f.Ideal), ratio, f.Target, verdict(f))
		}
		if err := tab.Flush(); err != nil {
			return err
		}
	}
	if r.Compared != nil {
		if err := r.Compared.WriteTable(w); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%d targets missed; %.0f s\n", r.Missed(), r.Seconds)
	return err
}

// label names a figure for people.
func label(name, unit string) string {
	if unit == "" {
		return name
	}
	return name + ", " + unit
}

func verdict(f FigureReport) string {
	switch {
	case f.Met == nil && f.Target != "":
		return "not judged"
	case f.Met == nil:
		return ""
	case *f.Met:
		return "met"
	}
	return "MISSED"
}

// short writes a number with three significant digits, or whole with separators.
func short(value *float64) string {
	if value == nil {
		return ""
	}
	v := *value
	if a := math.Abs(v); a < 100 && v != math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', max(0, 2-int(math.Floor(math.Log10(a)))), 64)
	}
	text := strconv.FormatFloat(math.Round(v), 'f', 0, 64)
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 && text[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return b.String()
}
