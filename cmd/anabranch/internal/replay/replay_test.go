package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// combinations are the ways to run a trace.
var combinations = []struct {
	store     Store
	transport Transport
}{
	{MemoryStore, MemoryTransport}, {MemoryStore, QUICTransport}, {BadgerStore, MemoryTransport}, {BadgerStore, QUICTransport},
}

// The traces in testdata were made by hand, with hashes computed by a program that shares nothing with this one:
//
//	puts       concurrent values of one field; the time decides, then the name of the replica, bytewise
//	deletions  what was written concurrently survives, what was seen does not
//	shapes     leaves that become maps and maps that become leaves; names and values of every kind
//	crossing   replicas that merge each other again and again, and old states that are needed late
func TestHandmadeHistories(t *testing.T) {
	for _, name := range []string{"puts", "deletions", "shapes", "crossing"} {
		for _, c := range combinations {
			t.Run(name+" "+string(c.store)+" "+string(c.transport), func(t *testing.T) {
				t.Setenv("TMPDIR", t.TempDir())
				r, err := Run(t.Context(), Options{Trace: trail(name), Final: goal(name), Store: c.store, Transport: c.transport})
				if err != nil {
					t.Fatal(err)
				}
				reportFindings(t, r)
				if !r.OK() || r.Transactions == 0 || r.Syncs == 0 || r.Bytes == 0 || r.Documents == 0 {
					t.Errorf("%+v", r)
				}
				nothingIn(t, os.Getenv("TMPDIR"))
			})
		}
	}
}

func trail(name string) string { return filepath.Join("testdata", name+".jsonl") }
func goal(name string) string  { return filepath.Join("testdata", name+".final.json") }

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("left behind: %s", e.Name())
	}
}

func TestConflictsAreCountedRightAfterMerges(t *testing.T) {
	r, err := Run(t.Context(), Options{Trace: trail("puts")})
	if err != nil {
		t.Fatal(err)
	}
	// m1: tea; m2: salt; m3: both, still; m4: tea, of old and settle, and salt.
	if r.Conflicts != 6 {
		t.Errorf("%d conflicts, want 6", r.Conflicts)
	}
}

func TestKeepersAndCouriers(t *testing.T) {
	r, err := Run(t.Context(), Options{Trace: trail("crossing")})
	if err != nil {
		t.Fatal(err)
	}
	if r.Keepers == 0 || r.Couriers == 0 {
		t.Errorf("%d keepers and %d couriers", r.Keepers, r.Couriers)
	}
}

// edited writes a changed copy of a trace and returns its path.
func edited(t *testing.T, name, old, replacement string) string {
	t.Helper()
	text, err := os.ReadFile(trail(name))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Count(text, []byte(old)) != 1 {
		t.Fatalf("%q is not there once", old)
	}
	path := filepath.Join(t.TempDir(), "edited.jsonl")
	if err := os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(replacement), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongHashIsFoundAndBlamed(t *testing.T) {
	line := `"commit":"m3","parents":["m1","m2"],"replica":"r3.1","time":6000,"state":"`
	r, err := Run(t.Context(), Options{Trace: edited(t, "puts", line, line[:len(line)-1]+`"0000000000000000","x":"`)})
	if err == nil {
		t.Fatalf("an unknown member was read over: %+v", r)
	}
	text, err := os.ReadFile(trail("puts"))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(text), line) + len(line)
	r, err = Run(t.Context(), Options{Trace: edited(t, "puts", line+string(text[at:at+16]), line+"0000000000000000")})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || r.LinesDiffering != 1 || len(r.Findings) != 1 {
		t.Fatalf("%+v", r)
	}
	f := r.Findings[0]
	if !strings.Contains(f.Where, "line 8 (commit m3, replica r3.1)") || !strings.Contains(f.What, "should be 0000000000000000") ||
		!strings.Contains(f.What, "so its hash is wrong") {
		t.Errorf("%+v", f)
	}
}

// TestWrongStateIsShownByField lets one replica write something that the history does not have.
func TestWrongStateIsShownByField(t *testing.T) {
	r, err := Run(t.Context(), Options{Trace: trail("puts"), Final: goal("puts"), disturb: func(line int, m *member) error {
		if line != 3 {
			return nil
		}
		_, err := m.space.Update(t.Context(), func(tx *replica.Tx) error {
			tx.Doc("tea").Set(crdt.Path{"price"}, 66)
			tx.Doc("cocoa").Set(crdt.Path{"new"}, "x")
			return tx.Doc("tea").Remove(crdt.Path{"name"})
		})
		return err
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || r.LinesDiffering == 0 || r.FinalDiffering != 2 {
		t.Fatalf("%+v", r)
	}
	var got []string
	for _, d := range r.Findings[0].Differences {
		got = append(got, d.String())
	}
	want := "cocoa /new: \"x\", want nothing|tea /name: nothing, want \"Tea\"|tea /price: 66, want 6"
	if strings.Join(got, "|") != want || r.Findings[0].Documents != 2 {
		t.Errorf("line 3 differs in %q, want %q", got, want)
	}
	last := r.Findings[len(r.Findings)-1]
	if last.Where != "puts.final.json" || len(last.Differences) != 2 {
		t.Errorf("in the end: %+v", last)
	}
}

func TestReplicaThatGoesBackIsRefused(t *testing.T) {
	_, err := Run(t.Context(), Options{Trace: edited(t, "puts", `"settle","parents":["m3"]`, `"settle","parents":["late"]`)})
	if err == nil || !strings.Contains(err.Error(), "line 9 (commit settle, replica r3.1): its parents lack something that its replica had before") {
		t.Errorf("got %v", err)
	}
}

func TestInterruptLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Run(ctx, Options{Trace: trail("crossing"), Store: BadgerStore, Transport: QUICTransport, Progress: func(done, total int) {
		if done == total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	nothingIn(t, os.Getenv("TMPDIR"))
}

// TestStoresAreClosedAndOpenedAgain needs more replicas than there are open stores.
func TestStoresAreClosedAndOpenedAgain(t *testing.T) {
	var b strings.Builder
	names := "abcdefghijkl"
	parent := ""
	for round := range 2 {
		for i, name := range names {
			commit := string(name) + strings.Repeat("'", round)
			parents := "[]"
			if parent != "" {
				parents = `["` + parent + `"]`
			}
			b.WriteString(`{"commit":"` + commit + `","parents":` + parents + `,"replica":"` + string(name) + `","time":` +
				string(rune('1'+round)) + `0` + string(rune('0'+i/10)) + string(rune('0'+i%10)) + `,"state":"e3b0c44298fc1c14","ops":[]}` + "\n")
			parent = commit
		}
	}
	// With one field the states are no longer empty; it is enough that all agree.
	text := strings.Replace(b.String(), `"ops":[]`, `"ops":[{"op":"put","key":"k","path":["x"],"value":1}]`, 1)
	path := filepath.Join(t.TempDir(), "many.jsonl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{Trace: path, Store: BadgerStore})
	if err != nil {
		t.Fatal(err)
	}
	if r.StoresOpened <= len(names) || r.ReplicasDiffering != 0 || r.Documents != 1 {
		t.Errorf("%+v", r)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Store: "disk"}, {Transport: "tcp"}} {
		if err := o.Check(); err == nil {
			t.Errorf("%+v passed", o)
		}
	}
}
