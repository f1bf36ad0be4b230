package bench

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func runs(values ...float64) []map[string]float64 {
	var all []map[string]float64
	for _, v := range values {
		all = append(all, map[string]float64{"x": v})
	}
	return all
}

func TestRatioIsTheMedianWithinPairs(t *testing.T) {
	// The machine was slow in the second pair. The ratio of the medians would be 100/80.
	f := figure{"x", "", target{of: ratioAtLeast, bound: 0.5}}
	r, ok := f.evaluate(Options{Docs: fullDocs}, runs(100, 20, 120), runs(200, 40, 80))
	if !ok || *r.Ours != 100 || *r.Ideal != 80 || *r.Ratio != 0.5 || r.Met == nil || !*r.Met {
		t.Errorf("got %s, want ours 100, ideal 80, ratio 0.5, met", asJSON(t, r))
	}
}

func TestTargetsAreJudgedOnlyWhereTheyApply(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		what   string
		target target
		docs   int
		ours   float64
		ideal  float64
		want   *bool
	}{
		{"ratio met", target{of: ratioAtMost, bound: 1.5}, 1000, 3, 2, &yes},
		{"ratio missed", target{of: ratioAtMost, bound: 1.5}, 1000, 3.1, 2, &no},
		{"ratio too small", target{of: ratioAtLeast, bound: 0.5}, 1000, 0.9, 2, &no},
		{"value met", target{of: valueAtMost, bound: 165}, 1000, 165, 0, &yes},
		{"value missed", target{of: valueAtMost, bound: 165}, 1000, 166, 0, &no},
		{"value made for another size", target{of: valueAtMost, bound: 165, scaled: true}, 1000, 166, 0, nil},
		{"value of the full size", target{of: valueAtMost, bound: 165, scaled: true}, fullDocs, 166, 0, &no},
		{"no target", target{}, fullDocs, 166, 1, nil},
	} {
		r, _ := figure{"x", "", c.target}.evaluate(Options{Docs: c.docs}, runs(c.ours), runs(c.ideal))
		if (r.Met == nil) != (c.want == nil) || r.Met != nil && *r.Met != *c.want {
			t.Errorf("%s: got %s", c.what, asJSON(t, r))
		}
	}
}

func TestFigureOfTheIdealAloneIsShown(t *testing.T) {
	r, ok := figure{"x", "", target{}}.evaluate(Options{}, []map[string]float64{{}}, runs(5))
	if !ok || r.Ours != nil || *r.Ideal != 5 {
		t.Errorf("got %v, %s", ok, asJSON(t, r))
	}
	if _, ok := (figure{"y", "", target{}}).evaluate(Options{}, runs(1), runs(1)); ok {
		t.Error("a figure that nobody recorded has a row")
	}
}

func TestTableSaysWhatWasMissed(t *testing.T) {
	met, missed := true, false
	one, many := 1.0, 123456.0
	r := &Report{Began: time.Unix(0, 0), Workloads: []WorkloadReport{{Name: "w1", Title: "bulk", Figures: []FigureReport{
		{Name: "rate", Unit: "documents/s", Ours: &many, Target: "≥ 1", Met: &met},
		{Name: "wire", Ours: &one, Target: "≤ 0", Met: &missed},
	}}}}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rate, documents/s  123,456", "≥ 1     met", "≤ 0     MISSED", "1 targets missed"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, b.String())
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for _, c := range []struct {
		v    float64
		want string
	}{{0, "0"}, {0.01234, "0.0123"}, {1.5, "1.50"}, {17.94, "17.9"}, {100.4, "100"}, {999.6, "1,000"}, {1234567, "1,234,567"}, {-1234, "-1,234"}} {
		if got := short(&c.v); got != c.want {
			t.Errorf("%v: %q, want %q", c.v, got, c.want)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
