package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/replay"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/trace"
	"github.com/anabranch-db/anabranch/crdt"
)

func init() { extra = append(extra, newReplayCommand) }

// newReplayCommand makes the command that runs an edit history.
func newReplayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "replay TRACE",
		Short: "Run a recorded edit history through real replicas and check it",
		Long: `Run a recorded edit history through real replicas and check what comes out.

TRACE has a line of JSON for each commit: who made it and when, the commits that its author had seen, the changes, and the hash of the
state that must come out. Each author becomes a replica with a store of its own, and each commit seen a sync between two of
them. After each line the documents are compared with the hash; in the end all replicas meet, and must agree with each other and
with --final, a JSON object with the documents as they must be.

The stores are made for this and removed. TRACE and --final may be compressed with gzip.`,
		Example: `  anabranch replay trace.jsonl.gz --final final.json.gz
  anabranch replay trace.jsonl --store badger --transport quic`,
		Args: arguments(1, 1, "TRACE"),
	}
	final := cmd.Flags().String("final", "", "compare the last state with this `FILE`")
	store := cmd.Flags().String("store", string(replay.MemoryStore), "where replicas keep their documents: mem or badger")
	transport := cmd.Flags().String("transport", string(replay.MemoryTransport), "what they sync over: mem or quic")
	cmd.MarkFlagFilename("final")
	for name, words := range map[string][]string{
		"store":     {string(replay.MemoryStore), string(replay.BadgerStore)},
		"transport": {string(replay.MemoryTransport), string(replay.QUICTransport)},
	} {
		cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		o := replay.Options{Trace: args[0], Final: *final, Store: replay.Store(*store), Transport: replay.Transport(*transport), Logger: a.log}
		if err := o.Check(); err != nil {
			return &usageError{err}
		}
		shown := progress.New(a.stderr, a.cfg.Text("progress"))
		o.Progress = func(done, total int) {
			shown.Report(progress.State{Work: "replay", Done: int64(done), Total: int64(total), Unit: "steps"})
		}
		result, err := replay.Run(cmd.Context(), o)
		shown.Finish()
		if err != nil {
			return err
		}
		return a.printReplay(result)
	}
	return cmd
}

func (a *app) printReplay(r *replay.Result) error {
	err := a.print(replayOutputOf(r), func(w io.Writer) { writeReplay(w, r) })
	if err != nil || r.OK() {
		return err
	}
	return fmt.Errorf("%s: what came out is not what the history says", r.Trace)
}

// replayOutput is what replay prints with --output jsonl.
type replayOutput struct {
	OK           bool            `json:"ok"`
	Trace        string          `json:"trace"`
	Final        string          `json:"final,omitempty"`
	Store        string          `json:"store"`
	Transport    string          `json:"transport"`
	Lines        int             `json:"lines"`
	Ops          int             `json:"ops"`
	Replicas     int             `json:"replicas"`
	Keepers      int             `json:"keepers"`
	Couriers     int             `json:"couriers"`
	Opened       int             `json:"stores_opened"`
	Transactions int             `json:"transactions"`
	Syncs        int             `json:"syncs"`
	Bytes        uint64          `json:"bytes"`
	Conflicts    int             `json:"conflicts"`
	Documents    int             `json:"documents"`
	Fields       int             `json:"fields"`
	State        string          `json:"state"`
	Digest       string          `json:"digest"`
	Seconds      float64         `json:"seconds"`
	BadLines     int             `json:"lines_differing"`
	BadDocuments int             `json:"documents_differing"`
	BadReplicas  int             `json:"replicas_differing"`
	Findings     []replayFinding `json:"findings"`
}

type replayFinding struct {
	Where       string             `json:"where"`
	What        string             `json:"what"`
	Documents   int                `json:"documents,omitempty"`
	Differences []replayDifference `json:"differences,omitempty"`
}

type replayDifference struct {
	Key  string          `json:"key"`
	Path string          `json:"path"`
	Want json.RawMessage `json:"want,omitempty"`
	Got  json.RawMessage `json:"got,omitempty"`
}

func replayOutputOf(r *replay.Result) replayOutput {
	out := replayOutput{
		OK: r.OK(), Trace: r.Trace, Final: r.Final, Store: string(r.Store), Transport: string(r.Transport),
		Lines: r.Lines, Ops: r.Ops, Replicas: r.Replicas, Keepers: r.Keepers, Couriers: r.Couriers, Opened: r.StoresOpened,
		Transactions: r.Transactions, Syncs: r.Syncs, Bytes: r.Bytes, Conflicts: r.Conflicts,
		Documents: r.Documents, Fields: r.Fields, State: r.Hash, Digest: r.Digest, Seconds: r.Took.Seconds(),
		BadLines: r.LinesDiffering, BadDocuments: r.FinalDiffering, BadReplicas: r.ReplicasDiffering, Findings: []replayFinding{},
	}
	for _, f := range r.Findings {
		found := replayFinding{Where: f.Where, What: f.What, Documents: f.Documents}
		for _, d := range f.Differences {
			found.Differences = append(found.Differences, replayDifference{d.Key, d.Path.String(), valueText(d.Want), valueText(d.Got)})
		}
		out.Findings = append(out.Findings, found)
	}
	return out
}

// valueText returns a value as JSON, nil if there is none.
func valueText(v *crdt.Value) json.RawMessage {
	if v == nil {
		return nil
	}
	return v.AppendJSON(nil)
}

func writeReplay(w io.Writer, r *replay.Result) {
	rows := newTable("history", r.Trace)
	count := func(name string, n int, one, many, more string) {
		rows.row(name, strings.TrimSpace(list(int64(n), one, many)+more))
	}
	count("lines", r.Lines, "line", "lines", fmt.Sprintf(", %s, %s", list(int64(r.Ops), "op", "ops"), list(int64(r.Transactions), "transaction", "transactions")))
	count("replicas", r.Replicas, "replica", "replicas", fmt.Sprintf(" and %s, on %s stores over %s", list(int64(r.Keepers+r.Couriers), "helper", "helpers"), r.Store, r.Transport))
	count("syncs", r.Syncs, "sync", "syncs", ", "+bytesText(int64(r.Bytes))+" exchanged")
	count("conflicts", r.Conflicts, "value", "values", " hidden by a newer one right after a merge")
	count("documents", r.Documents, "document", "documents", ", "+list(int64(r.Fields), "field", "fields"))
	rows.row("digest", orDash(r.Digest))
	rows.row("took", fmt.Sprintf("%.2f s", r.Took.Seconds()))
	rows.row("")
	verdict := func(name string, bad, of int, compared bool) {
		switch {
		case !compared:
			rows.row(name, "not compared: no --final was given")
		case bad > 0:
			rows.row(name, fmt.Sprintf("%d of %d DIFFER", bad, of))
		default:
			rows.row(name, fmt.Sprintf("%d of %d equal", of, of))
		}
	}
	verdict("state after each line", r.LinesDiffering, r.Lines, true)
	verdict("final documents", r.FinalDiffering, max(r.Documents, r.FinalDiffering), r.Final != "")
	verdict("replicas in the end", r.ReplicasDiffering, r.Replicas, true)
	_ = rows.write(w) // the command's output keeps its first error
	for _, f := range r.Findings {
		writeFinding(w, f)
	}
}

func writeFinding(w io.Writer, f replay.Finding) {
	fmt.Fprintf(w, "\n%s: %s\n", f.Where, f.What)
	last := ""
	for i, d := range f.Differences {
		if i == 0 || d.Key != last {
			fmt.Fprintf(w, "  %s\n", printable(d.Key))
			last = d.Key
		}
		fmt.Fprintf(w, "    %s: %s, and should be %s\n", printable(orDash(d.Path.String())), trace.ShowValue(d.Got), trace.ShowValue(d.Want))
	}
	if f.Documents > 0 {
		fmt.Fprintf(w, "  %s in all\n", list(int64(f.Documents), "document differs", "documents differ"))
	}
}
