package crdttest_test

import (
	"flag"
	"os"
	"testing"

	"pgregory.net/rapid"

	"github.com/anabranch-db/anabranch/crdt/crdttest"
)

// TestMain asks for more cases than rapid's usual 100; -rapid.checks=N on the command line is stronger.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "2000"); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(m.Run())
}

func TestLaws(t *testing.T) {
	for _, law := range crdttest.Laws() {
		t.Run(law.Name, func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				if err := law.Check(crdttest.Rapid(t)); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}
