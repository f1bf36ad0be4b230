package crdttest_test

import (
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/codec"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

// recordedLine is one commit of a recorded edit history: what its replica had merged before, what it did, and the hash
// of what it then showed.
type recordedLine struct {
	Commit  string
	Parents []string
	Replica string
	Time    int64
	State   string
	Ops     []struct {
		Op, Key string
		Path    []string
		Value   json.RawMessage
	}
}

// replayed is the state after a line: packed cells by document. States share what did not change.
type replayed map[string][]byte

func readRecorded(t *testing.T, name string) []recordedLine {
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(unzipped)
	scanner.Buffer(nil, 16<<20)
	var lines []recordedLine
	for scanner.Scan() {
		var l recordedLine
		if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestRecordedHistories replays real edit histories with their real merges, one replica for each of their authors'
// sessions, and compares what shows after each line with what was recorded.
func TestRecordedHistories(t *testing.T) {
	if testing.Short() {
		t.Skip("some seconds of work")
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for range 6 {
		dir = filepath.Dir(dir)
		if found, _ = filepath.Glob(filepath.Join(dir, "shared", "data", "*", "trace.jsonl.gz")); len(found) > 0 {
			break
		}
	}
	if len(found) == 0 {
		t.Skip("no folder shared/data with recorded edit histories")
	}
	for _, name := range found {
		t.Run(filepath.Base(filepath.Dir(name)), func(t *testing.T) {
			t.Parallel()
			replay(t, readRecorded(t, name))
		})
	}
}

func replay(t *testing.T, lines []recordedLine) {
	// Replica IDs sort as the recorded names do, because these break ties there.
	names := map[string]bool{}
	for _, l := range lines {
		names[l.Replica] = true
	}
	ids := map[string]crdt.ReplicaID{}
	for i, name := range slices.Sorted(maps.Keys(names)) {
		ids[name] = crdt.ReplicaID(i + 1)
	}
	states := map[string]replayed{}
	hashes := map[string]string{} // of documents, by their packed cells
	merges := 0
	for _, l := range lines {
		state := replayed{}
		for i, parent := range l.Parents {
			if i > 0 {
				merges++
			}
			mergeReplayed(t, state, states[parent])
		}
		ev := crdt.EventAt(crdt.Dot{Replica: ids[l.Replica], Time: hlc.FromUnixMilli(l.Time)})
		applyRecorded(t, state, l, ev)
		states[l.Commit] = state
		if got := hashReplayed(t, state, hashes); got != l.State {
			t.Fatalf("after %s the state has the hash %s, recorded is %s", l.Commit, got, l.State)
		}
	}
	t.Logf("%d lines, %d merges", len(lines), merges)

	lasts := map[string]string{} // by replica
	for _, l := range lines {
		lasts[l.Replica] = l.Commit
	}
	replicas := slices.Sorted(maps.Keys(lasts))
	all, reverse := replayed{}, replayed{}
	for i, name := range replicas {
		mergeReplayed(t, all, states[lasts[name]])
		mergeReplayed(t, reverse, states[lasts[replicas[len(replicas)-1-i]]])
	}
	last := lines[len(lines)-1]
	if a, b := hashReplayed(t, all, hashes), hashReplayed(t, reverse, hashes); a != last.State || b != last.State {
		t.Errorf("all merged in one order have the hash %s, in another %s, recorded is %s", a, b, last.State)
	}
}

func load(t *testing.T, packed []byte) *crdt.Document {
	t.Helper()
	fields, err := codec.ParseCells(packed)
	if err != nil {
		t.Fatal(err)
	}
	return crdt.NewDocument(fields)
}

func mergeReplayed(t *testing.T, into, from replayed) {
	for key, packed := range from {
		own, ok := into[key]
		switch {
		case !ok:
			into[key] = packed
		case string(own) != string(packed):
			d := load(t, own)
			for f := range load(t, packed).Fields() {
				d.MergeField(crdt.VersionVector{}, f.Path, f.Cell)
			}
			into[key] = codec.AppendCells(nil, slices.Collect(d.Fields()))
		}
	}
}

func applyRecorded(t *testing.T, state replayed, l recordedLine, ev crdt.Event) {
	open := map[string]*crdt.Document{}
	for _, op := range l.Ops {
		d := open[op.Key]
		if d == nil {
			d = load(t, state[op.Key])
			open[op.Key] = d
		}
		p, err := crdt.Path(op.Path).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if op.Op != "put" {
			if !d.Remove(ev, p) {
				t.Fatalf("%s: nothing to remove at %s %s", l.Commit, op.Key, p)
			}
			continue
		}
		leaves, err := crdt.ParseJSONValue(p, op.Value)
		if err != nil {
			t.Fatal(err)
		}
		d.SetLeaves(ev, p, leaves)
	}
	for key, d := range open {
		state[key] = codec.AppendCells(nil, slices.Collect(d.Fields()))
	}
}

func hashReplayed(t *testing.T, state replayed, hashes map[string]string) string {
	whole := sha256.New()
	for _, key := range slices.Sorted(maps.Keys(state)) {
		packed := string(state[key])
		hash, ok := hashes[packed]
		if !ok {
			hash = hashDocument(load(t, state[key]))
			hashes[packed] = hash
		}
		if hash != "" {
			fmt.Fprintf(whole, "%s\t%s\n", key, hash)
		}
	}
	return hex.EncodeToString(whole.Sum(nil))[:16]
}

// hashDocument returns the hash of what shows, "" if nothing does.
func hashDocument(d *crdt.Document) string {
	var lines []string
	for p, v := range d.Leaves() {
		lines = append(lines, fmt.Sprintf("%s\t%s\n", p, v.AppendJSON(nil)))
	}
	if len(lines) == 0 {
		return ""
	}
	slices.Sort(lines)
	h := sha256.New()
	for _, line := range lines {
		h.Write([]byte(line))
	}
	return hex.EncodeToString(h.Sum(nil))
}
