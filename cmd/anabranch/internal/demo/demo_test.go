package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// leavesNothing lets temporary files go into a folder of their own, which must be empty in the end.
func leavesNothing(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Cleanup(func() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("left behind: %s", e.Name())
		}
	})
}

func TestNodesMeetAgainWithEverything(t *testing.T) {
	leavesNothing(t)
	var stages []Stage
	r, err := Run(t.Context(), Options{Show: func(s Stage, r *Report) {
		stages = append(stages, s)
		if s != Apart {
			return
		}
		for name, n := range r.Apart.Pending {
			if n < 200 || n > 260 { // its own changes: the records before were acknowledged
				t.Errorf("%s has %d changes for its peers", name, n)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Stage{Opened, Loaded, Apart, Healed, Settled, Finished}; len(stages) != len(want) {
		t.Errorf("stages %v", stages)
	}
	if !r.OK || len(r.Nodes) != 3 || r.Nodes[0].Documents != r.Written.Regions+1 || r.Apart.LostPackets == 0 {
		t.Errorf("report %+v", r)
	}
	for _, n := range r.Nodes[1:] {
		if n.Digest != r.Nodes[0].Digest || n.Contents != r.Nodes[0].Contents {
			t.Errorf("%s differs: %+v and %+v", n.Name, n, r.Nodes[0])
		}
	}
	checkMerged(t, r)
}

func checkMerged(t *testing.T, r *Report) {
	t.Helper()
	got := make(map[string]Field)
	for _, f := range r.Healed.Merged {
		got[f.Path] = f
	}
	for _, want := range []Field{
		{"/capital", "Oslo", "oslo"}, {"/currency", "NOK", "lima"}, {"/calling", "+47", "nairobi"},
		{"/name/no", "Norge", "oslo"}, {"/name/es", "Noruega", "lima"}, {"/name/sw", "Norway", "nairobi"}, {"/name/en", "Norway", "oslo"},
	} {
		if got[want.Path] != want {
			t.Errorf("the shared record has %+v, want %+v", got[want.Path], want)
		}
	}
	if s := r.Healed.Survived; len(s) != 2 || s[0] != (Field{"/name/es", "Antártida", "lima"}) || s[1].Node != "nairobi" {
		t.Errorf("of the deleted record there is %+v", s)
	}
	c := r.Healed.Conflicts
	if len(c) != 1 || c[0].Path != "/name/en" || c[0].Shown.Value != "Republic of Türkiye" || c[0].Shown.Node != "nairobi" ||
		len(c[0].Kept) != 1 || c[0].Kept[0].Value != "Türkiye" || c[0].Kept[0].Node != "oslo" {
		t.Errorf("conflicts %+v", c)
	}
	var edits int64
	for _, e := range r.Apart.Edits {
		edits += int64(e.Fields)
	}
	if r.Healed.Edits != edits || edits < 700 {
		t.Errorf("counted %d edits of %d", r.Healed.Edits, edits)
	}
	if r.Settled.Conflicts != 0 {
		t.Errorf("%d conflicts are left", r.Settled.Conflicts)
	}
}

func TestNodesThatDifferAreAnError(t *testing.T) {
	leavesNothing(t)
	r, err := Run(t.Context(), Options{meddle: func(nodes []*node) error {
		for _, n := range nodes {
			n.cable.cut.Store(true)
		}
		_, err := nodes[2].space.Update(t.Context(), func(tx *replica.Tx) error {
			return tx.Doc(regionKey("NO")).Set(crdt.Path{"capital"}, "Bergen")
		})
		return err
	}})
	if !errors.Is(err, ErrDiffer) || r == nil || r.OK {
		t.Fatalf("got %v, %+v", err, r)
	}
}

func TestInterruptLeavesNothing(t *testing.T) {
	for _, at := range []Stage{Opened, Loaded, Apart, Settled} {
		leavesNothing(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Run(ctx, Options{Show: func(s Stage, _ *Report) {
			if s == at {
				cancel()
			}
		}})
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrDiffer) {
			t.Errorf("interrupted after stage %d: %v", at, err)
		}
		cancel()
	}
}

var escapes = regexp.MustCompile("\x1b\\[[0-9]+m")

func TestOutputFitsATerminalAndNeedsNoColour(t *testing.T) {
	var plain, painted bytes.Buffer
	a, b := NewPrinter(&plain, false), NewPrinter(&painted, true)
	if _, err := Run(t.Context(), Options{Show: func(s Stage, r *Report) { a.Show(s, r); b.Show(s, r) }}); err != nil {
		t.Fatal(err)
	}
	if got := escapes.ReplaceAllString(painted.String(), ""); got != plain.String() || painted.Len() == plain.Len() {
		t.Errorf("with colours it says %q, without %q", got, plain.String())
	}
	for l := range strings.Lines(plain.String()) {
		l = strings.TrimSuffix(l, "\n")
		if utf8.RuneCountInString(l) > 80 || strings.TrimRight(l, " ") != l {
			t.Errorf("too long, or ends with spaces: %q", l)
		}
	}
	for _, want := range []string{"every packet is lost", "none is lost", "their edits survive", "no conflicts anywhere", "  equal\n"} {
		if !strings.Contains(plain.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, &plain)
		}
	}
}
