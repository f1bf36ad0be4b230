package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
)

const valueHelp = `A value is JSON: an argument, @FILE, or - for standard input. Integers keep all their digits, other numbers are
64-bit floats, {"$bytes": "<base64>"} is binary data.`

func newPutCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "put KEY JSON|@FILE|-",
		Short: "Save a whole document",
		Long: `Save a document whole. Only the fields that differ from the present document are written, and those that are gone
are removed, so it does not trample concurrent edits of other fields.

` + valueHelp,
		Example: `  anabranch put apple '{"name": {"common": "Apple"}, "price": 3}'
  anabranch put apple @apple.json
  jq .apple fruits.json | anabranch put apple -`,
		Args:              arguments(2, 2, "KEY and JSON, @FILE or -"),
		ValidArgsFunction: completeKey(1),
	}
	commit := commitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		value, err := readValue(appOf(cmd).stdin, args[1])
		if err != nil {
			return err
		}
		return commit(cmd, node.Op{Op: node.OpPut, Key: args[0], Value: value})
	}
	return cmd
}

func newSetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set KEY PATH JSON|@FILE|-",
		Short: "Write one field, or a whole part of a document",
		Long: `Write a value at a path of a document, which is a JSON pointer as /name/common. An object replaces everything that is
there and below. The document is made if it does not exist.

` + valueHelp,
		Example: `  anabranch set apple /price 4
  anabranch set apple /name/common --string Apple
  anabranch set apple /tags '["red", "sweet"]'`,
		Args:              arguments(3, 3, "KEY, PATH and JSON, @FILE or -"),
		ValidArgsFunction: completeKey(2),
	}
	text := cmd.Flags().Bool("string", false, "the value is text, not JSON")
	commit := commitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		op := node.Op{Op: node.OpSet, Key: args[0], Path: args[1]}
		if *text {
			op.Value = records.AppendString(nil, args[2])
		} else {
			var err error
			if op.Value, err = readValue(appOf(cmd).stdin, args[2]); err != nil {
				return err
			}
		}
		return commit(cmd, op)
	}
	return cmd
}

func newRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm KEY [PATH]",
		Short: "Remove a document, or a part of it",
		Long: `Remove a document, or what is at a path and below. What another node writes there at the same time, without having seen
the removal, survives it. Removing what is not there is no error.`,
		Example: `  anabranch rm apple
  anabranch rm apple /name/botanical`,
		Args:              arguments(1, 2, "KEY and perhaps PATH"),
		ValidArgsFunction: completeKey(1),
	}
	commit := commitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		op := node.Op{Op: node.OpRemove, Key: args[0]}
		if len(args) > 1 {
			op.Path = args[1]
		}
		return commit(cmd, op)
	}
	return cmd
}

func newIncrementCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incr KEY PATH [N]",
		Short: "Add to a counter",
		Long: `Add N (1 unless given, may be negative) to the counter at a path, which is made if it does not exist. Increments that
several nodes make at the same time add up.`,
		Example: `  anabranch incr page /visits
  anabranch incr stock /apples -- -12`,
		Args:              arguments(2, 3, "KEY, PATH and perhaps N"),
		ValidArgsFunction: completeKey(1),
	}
	commit := commitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		op := node.Op{Op: node.OpIncrement, Key: args[0], Path: args[1], By: 1}
		if len(args) > 2 {
			n, err := strconv.ParseInt(args[2], 10, 64)
			if err != nil {
				return usagef("%q: want a whole number within 64 bits", args[2])
			}
			op.By = n
		}
		return commit(cmd, op)
	}
	return cmd
}

// writeOutput is what a write prints with --output jsonl.
type writeOutput struct {
	Key string `json:"key"`
	node.Receipt
	Peers *int `json:"peers,omitempty"` // that have it, if asked to wait
}

// commitFlags declares the flags of writing, and returns the function that commits one operation and prints the outcome.
func commitFlags(cmd *cobra.Command) func(*cobra.Command, node.Op) error {
	addSettings(cmd, "sync", "sync-interval")
	peers := cmd.Flags().Int("synced", 0, "wait until this many peers have the change on disk")
	timeout := cmd.Flags().Duration("timeout", 30*time.Second, "how long to wait with --synced; 0 is no limit")
	return func(cmd *cobra.Command, op node.Op) error {
		if *peers < 0 || *timeout < 0 {
			return usagef("--synced and --timeout must not be negative")
		}
		if err := op.Parse(); err != nil {
			return &usageError{fmt.Errorf("%s %.80q: %w", op.Op, op.Key, err)}
		}
		a := appOf(cmd)
		return a.withNode(cmd.Context(), op.Op != node.OpRemove, func(n node.Node) error {
			return a.commit(cmd.Context(), n, op, *peers, *timeout)
		})
	}
}

func (a *app) commit(ctx context.Context, n node.Node, op node.Op, peers int, timeout time.Duration) error {
	rc, err := n.Commit(ctx, a.space(), []node.Op{op})
	if err != nil {
		return err
	}
	out := writeOutput{Key: op.Key, Receipt: rc}
	var waited error
	if peers > 0 {
		var have int
		have, waited = n.Wait(ctx, a.space(), rc, peers, timeout)
		out.Peers = &have
	}
	err = a.print(out, func(w io.Writer) {
		if !rc.Changed {
			fmt.Fprintln(w, "nothing to change")
		}
	})
	if waited != nil {
		return waited
	}
	return err
}

// readValue returns the JSON text that an argument stands for.
func readValue(stdin io.Reader, arg string) (json.RawMessage, error) {
	switch {
	case arg == "-":
		return readBounded(stdin, "standard input")
	case len(arg) > 1 && arg[0] == '@':
		f, err := os.Open(arg[1:])
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readBounded(f, arg[1:])
	}
	return json.RawMessage(arg), nil
}

func readBounded(r io.Reader, name string) (json.RawMessage, error) {
	b, err := io.ReadAll(io.LimitReader(r, records.MaxRecordBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > records.MaxRecordBytes {
		return nil, fmt.Errorf("%s: %w", name, records.ErrTooLong)
	}
	return b, nil
}
