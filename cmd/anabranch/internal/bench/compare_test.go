package bench

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func reportOf(name string, ours, ideal []float64) *Report {
	return &Report{Docs: fullDocs, Seed: 1, Workloads: []WorkloadReport{{Name: "w1", Figures: []FigureReport{
		{Name: name, Unit: "ms", Ours: middle(ours), OursRuns: ours, Ideal: middle(ideal), IdealRuns: ideal},
	}}}}
}

func TestComparisonKeepsNoiseFromChange(t *testing.T) {
	for name, c := range map[string]struct {
		before, after []float64
		ratio         float64
		beyond        string
	}{
		"apart, more":     {[]float64{10, 11, 12}, []float64{22, 23, 21}, 2, "more"},
		"apart, less":     {[]float64{20, 22}, []float64{10, 11}, 0.5, "less"},
		"overlapping":     {[]float64{10, 30}, []float64{25, 35}, 1.5, ""},
		"single runs":     {[]float64{10}, []float64{100}, 10, ""},
		"from nothing":    {[]float64{0, 0}, []float64{1, 1}, 0, "more"},
		"the same at all": {[]float64{4, 4}, []float64{4, 4}, 1, ""},
	} {
		got := changed(c.before, c.after)
		if got.Beyond != c.beyond || got.Ratio != c.ratio {
			t.Errorf("%s: %+v, want ratio %v and %q", name, got, c.ratio, c.beyond)
		}
	}
}

func TestComparisonOfBusyAndIdleRuns(t *testing.T) {
	// The machine was twice as slow before. What ours takes of the ideal is the same.
	before := reportOf("time", []float64{20, 22}, []float64{10, 11})
	now := reportOf("time", []float64{10, 11}, []float64{5, 5.5})
	now.Compared = now.Compare(before)
	f := now.Compared.Workloads[0].Figures[0]
	if f.Ours.Beyond != "less" || f.OfIdeal.Ratio != 1 || f.OfIdeal.Beyond != "" {
		t.Errorf("got %s", asJSON(t, f))
	}
	var b bytes.Buffer
	if err := now.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"time, ms           21 (20 to 22)", "times the ideal", "1.00        within the spread", "1 figures changed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestReportsThatHaveNothingInCommon(t *testing.T) {
	var b bytes.Buffer
	if err := reportOf("time", []float64{1}, nil).Compare(reportOf("wire", []float64{1}, nil)).WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.String(), "nothing that this one did") {
		t.Errorf("got %q", b.String())
	}
}

func TestReadReportRefusesWhatIsNone(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good.json")
	f, err := os.Create(good)
	if err != nil {
		t.Fatal(err)
	}
	r := reportOf("time", []float64{1}, nil)
	r.Began = time.Unix(1000, 0).UTC()
	if err := errors.Join(r.WriteJSON(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadReport(good); err != nil || asJSON(t, got) != asJSON(t, r) {
		t.Errorf("got %s, %v", asJSON(t, got), err)
	}
	for name, text := range map[string]string{"empty": "", "other": `{"a":1}`, "cut": `{"docs":100000,"workl`, "list": "[]"} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(file); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "--report") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, err := ReadReport(filepath.Join(dir, "none")); !errors.Is(err, ErrOptions) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestOtherDocumentsCannotBeCompared(t *testing.T) {
	before := &Report{Docs: 5000, Seed: 7}
	o := Options{Node: []string{"x"}}
	err := CheckComparable(before, o)
	if !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), "--docs 5000") || !strings.Contains(err.Error(), "--seed 7") {
		t.Errorf("error %v", err)
	}
	o.Docs, o.Seed = 5000, 7
	if err := CheckComparable(before, o); err != nil {
		t.Error(err)
	}
}
