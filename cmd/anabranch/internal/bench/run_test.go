package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

// nodeVariable makes the test binary a node process.
const nodeVariable = "ANABRANCH_BENCH_TEST_NODE"

func TestMain(m *testing.M) {
	if os.Getenv(nodeVariable) != "" {
		if err := ServeNode(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func keysOnly(prefix string) badger.IteratorOptions {
	return badger.IteratorOptions{Prefix: []byte(prefix)}
}

func smallOptions(t *testing.T) Options {
	t.Helper()
	t.Setenv(nodeVariable, "1")
	return Options{Docs: minDocs, Pairs: 1, Dir: t.TempDir(), Node: []string{os.Args[0]}}
}

func expectEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("%s is left behind", entries[0].Name())
	}
}

func TestRunMeasuresEveryFigure(t *testing.T) {
	o := smallOptions(t)
	o.Only = []string{"W1", "w2", "w3", "w4", "w5"}
	report, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	expectEmpty(t, o.Dir)
	if len(report.Workloads) != len(o.Only) {
		t.Fatalf("%d workloads, want %d", len(report.Workloads), len(o.Only))
	}
	got := make(map[string]float64)
	for i, w := range report.Workloads {
		if len(w.Figures) != len(workloads[i].figures) {
			t.Errorf("%s has %d of %d figures", w.Name, len(w.Figures), len(workloads[i].figures))
		}
		for _, f := range w.Figures {
			if f.Ours != nil {
				got[f.Name] = *f.Ours
			}
		}
	}
	exact := map[string]float64{
		"different fields: edits lost":                              0,
		"the same field: edits lost":                                0,
		"different fields: edits readable as conflicts, both nodes": 0,
		"the same field: edits readable as conflicts, both nodes":   2 * minDocs / 10,
	}
	for name, want := range exact {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v, want %v", name, v, want)
		}
	}
	for _, name := range []string{figRate, figCPU, figWire, figDisk, figPeakA, figPeakB, figP50, figDeleteTime} {
		if got[name] <= 0 {
			t.Errorf("%s: %v, want more than nothing", name, got[name])
		}
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	o := smallOptions(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	begun := 0
	o.Progress = func(string) {
		if begun++; begun == 2 { // in the middle of the first pair
			cancel()
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want one of the context", err)
	}
	expectEmpty(t, o.Dir)
}

func TestNodeThatFailsSaysWhich(t *testing.T) {
	o := smallOptions(t)
	o.Node = []string{"/bin/sh", "-c", "echo it broke >&2; exit 3"}
	_, err := Run(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "node a") {
		t.Errorf("error %v, want one that names the node", err)
	}
	expectEmpty(t, o.Dir)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, o := range []Options{
		{Node: []string{"x"}, Docs: 10}, {Node: []string{"x"}, Pairs: -1}, {Node: []string{"x"}, Only: []string{"w9"}}, {},
	} {
		if _, err := Run(t.Context(), o); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: error %v, want ErrOptions", o, err)
		}
	}
}

func TestScaleMeasuresEveryStep(t *testing.T) {
	o, err := smallOptions(t).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	got, err := o.try(t.Context(), workload{name: "scale", trial: func(t *trial) error {
		return t.compareSizes([]size{{minDocs, "few", false}, {2 * minDocs, "many", false}})
	}}, engineOurs, 0)
	if err != nil {
		t.Fatal(err)
	}
	names := append(slices.Clone(steps), figPeakA, figPeakB, figOwnPeakA, figOwnPeakB)
	for _, f := range perDocument {
		names = append(names, f.name)
	}
	for _, name := range names {
		for _, size := range []string{"few", "many"} {
			if got[atSize(name, size)] <= 0 {
				t.Errorf("%s: %v, want more than nothing", atSize(name, size), got[atSize(name, size)])
			}
		}
	}
}
