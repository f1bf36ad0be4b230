package protocol

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
)

var updateFlag = flag.Bool("update", false, "rewrite the expected output of the scenarios")

// TestScenarios plays the transcripts of testdata/scenarios/session_*.txt. Lines that begin with > are commands, those
// below are what they print; # begins a comment.
//
//	node A a:3 b:2      a replica that durably holds this; it writes under the small letter of its name
//	connect A B         a session on each side
//	write A 4           A commits a transaction with this time
//	send A B            what A has to say to B goes on its way
//	deliver A B         the next message arrives at B, if there is one
//	lose A B            or is lost
//	repeat A B          or arrives, and is still on its way
//	commit B            what B has merged becomes durable
//	clock B slow        from now on B refuses what it is sent; "right" ends that
//	retry A B           A offers again what B refused for its clock
//	compare A B         A wants to compare digests
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../testdata/scenarios/session_*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := play(t, string(want))
			if *updateFlag {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("got:\n%s", got)
			}
		})
	}
}

// play runs the commands of a transcript and returns it with the output that they have now.
func play(t *testing.T, text string) string {
	w := &world{t: t, nodes: make(map[string]*scenarioNode), sessions: make(map[[2]string]*Session), wires: make(map[[2]string][]Message)}
	var out strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		command, isCommand := strings.CutPrefix(line, "> ")
		if !isCommand && line != "" && !strings.HasPrefix(line, "#") {
			continue // output, made anew
		}
		fmt.Fprintln(&out, line)
		if isCommand {
			for _, l := range w.run(strings.Fields(command)) {
				fmt.Fprintln(&out, "  "+l)
			}
		}
	}
	return out.String()
}

type world struct {
	t        *testing.T
	nodes    map[string]*scenarioNode
	sessions map[[2]string]*Session  // by the node and its peer
	wires    map[[2]string][]Message // by sender and receiver
}

type scenarioNode struct {
	self     crdt.ReplicaID
	vv       crdt.VersionVector
	merged   []crdt.Dot // not durable yet
	slow     bool
	vvMemory crdt.VersionVector
}

func (n *scenarioNode) state() State {
	return State{Self: n.self, VV: n.vv.Clone(), Closed: true, Digest: crdt.Digest{Lo: uint64(n.vv.Len())}}
}

func letter(name string) crdt.ReplicaID { return crdt.ReplicaID(name[0]-'A') + 0xa }

func (w *world) run(args []string) []string {
	switch command, name := args[0], args[1]; command {
	case "node":
		w.nodes[name] = newScenarioNode(w.t, name, args[2:])
	case "connect":
		for _, pair := range [][2]string{{name, args[2]}, {args[2], name}} {
			w.sessions[pair] = NewSession(w.nodes[pair[0]].state())
			w.wires[pair] = nil
		}
	case "write":
		n := w.nodes[name]
		w.advance(name, []crdt.Dot{dot(n.self, number(w.t, args[2]))})
	case "commit":
		n := w.nodes[name]
		risen := n.merged
		n.merged = nil
		w.advance(name, risen)
	case "clock":
		w.nodes[name].slow = args[2] == "slow"
	case "retry":
		w.sessions[[2]string{name, args[2]}].RetryHeld()
	case "compare":
		w.sessions[[2]string{name, args[2]}].CompareDigests()
	case "send":
		return w.send(name, args[2])
	case "deliver", "lose", "repeat":
		return w.arrive(command, name, args[2])
	default:
		w.t.Fatalf("unknown command %q", command)
	}
	return nil
}

func newScenarioNode(t *testing.T, name string, dots []string) *scenarioNode {
	n := &scenarioNode{self: letter(name)}
	for _, d := range dots {
		r, at, _ := strings.Cut(d, ":")
		n.vv.Advance(dot(letter(strings.ToUpper(r)), number(t, at)))
	}
	n.vvMemory = n.vv.Clone()
	return n
}

func number(t *testing.T, s string) hlc.Time {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return hlc.Time(n)
}

func (w *world) advance(name string, risen []crdt.Dot) {
	n := w.nodes[name]
	for _, d := range risen {
		n.vv.Advance(d)
		n.vvMemory.Advance(d)
	}
	for pair, s := range w.sessions {
		if pair[0] == name {
			s.Advance(n.state(), risen)
		}
	}
}

func (w *world) send(from, to string) []string {
	pair := [2]string{from, to}
	var said []string
	for {
		m, err := w.sessions[pair].Next(wholeLog{})
		if err != nil {
			return append(said, "error: "+err.Error())
		}
		if m == nil {
			break
		}
		w.wires[pair] = append(w.wires[pair], m)
		said = append(said, show(m))
	}
	if said == nil {
		return []string{"nothing"}
	}
	return said
}

func (w *world) arrive(how, from, to string) []string {
	wire := w.wires[[2]string{from, to}]
	if len(wire) == 0 {
		return []string{"nothing is on its way"}
	}
	m := wire[0]
	if how != "repeat" {
		w.wires[[2]string{from, to}] = slices.Clone(wire[1:])
	}
	if how == "lose" {
		return []string{show(m) + ": lost"}
	}
	s := w.sessions[[2]string{to, from}]
	step, err := s.Receive(m)
	if err != nil {
		return []string{show(m) + ": error: " + err.Error()}
	}
	said := show(m)
	if step.Merge != nil {
		said += ": " + w.merge(s, w.nodes[to], step.Merge)
	}
	if step.LostWrites {
		said += ": the peer has writes of ours that we lost"
		w.nodes[to].self = 0xf
	}
	if step.Refused != nil {
		said += ": noted"
	}
	if step.Compared != NotCompared {
		said += ": " + map[Comparison]string{Equal: "equal", Differs: "differs", Mismatch: "mismatch"}[step.Compared]
	}
	return []string{said}
}

// merge is what a host does with a delta.
func (w *world) merge(s *Session, n *scenarioNode, d *Delta) string {
	end := dot(d.Origin, d.To)
	switch {
	case n.slow:
		s.Refuse(d, RefusedClock, "")
		return "refused, its clock is ahead"
	case n.vvMemory.Get(d.Origin) < d.From:
		s.Refuse(d, RefusedGap, "")
		return "refused, it leaves a gap"
	case n.vvMemory.Covers(end):
		return "known"
	}
	n.vvMemory.Advance(end)
	n.merged = append(n.merged, end)
	return "merged"
}
