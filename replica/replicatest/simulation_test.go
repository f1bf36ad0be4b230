package replicatest

import (
	"bufio"
	"context"
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

var seedFlag = flag.Uint64("seed", 0, "run this seed alone, and print what happens")

// seedsForCoverage is how many seeds come to every kind of fault with much to spare.
const seedsForCoverage = 300

// TestSimulation runs ANABRANCH_SIM_SEEDS seeds from ANABRANCH_SIM_FIRST on; with -seed just that one.
func TestSimulation(t *testing.T) {
	if *seedFlag != 0 {
		if _, failure := Run(*seedFlag, os.Stdout); failure != nil {
			t.Fatal(failure)
		}
		return
	}
	c := Campaign{
		First:   uint64(numberFrom(t, "ANABRANCH_SIM_FIRST", 1)),
		Runs:    numberFrom(t, "ANABRANCH_SIM_SEEDS", seedsForCoverage),
		Workers: min(runtime.GOMAXPROCS(0), 2),
	}
	report := c.Run(context.Background())
	for _, f := range report.Failed {
		t.Error(f)
	}
	var table strings.Builder
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
	if c.Runs < seedsForCoverage || t.Failed() {
		return
	}
	for _, k := range report.Counts.Missing() {
		t.Errorf("%d seeds never came to %s", c.Runs, k)
	}
}

func numberFrom(t *testing.T, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: want a number from 1 on", name, text)
	}
	return n
}

// TestFixedSeeds runs the seeds that once found a fault. Each file of testdata/seeds has a seed a line, after
// lines with # that say what it found.
func TestFixedSeeds(t *testing.T) {
	files, err := filepath.Glob("../../testdata/seeds/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files of seeds: %v", err)
	}
	// With the histories that a seed made before there were clients, or such readers, too.
	histories := []without{{}, {absence: true}, {readers: true}, {clients: true}}
	if testing.Short() {
		histories = histories[:1]
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, seed := range readSeeds(t, file) {
				for _, leave := range histories {
					if _, failure := run(seed, nil, leave); failure != nil {
						t.Errorf("without %+v: %v", leave, failure)
					}
				}
			}
		})
	}
}

func readSeeds(t *testing.T, file string) []uint64 {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seeds []uint64
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		seeds = append(seeds, seed)
	}
	return seeds
}

// TestSameSeedSameRun: a seed that fails must fail again, so nothing in a run may depend on anything else.
func TestSameSeedSameRun(t *testing.T) {
	for seed := uint64(1); seed <= 20; seed++ {
		var first, second strings.Builder
		a, _ := Run(seed, &first)
		b, _ := Run(seed, &second)
		if a != b || first.String() != second.String() {
			t.Errorf("seed %d does not run the same way twice", seed)
		}
	}
}
