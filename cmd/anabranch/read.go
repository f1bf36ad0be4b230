package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

func newGetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "get KEY [PATH]",
		Short: "Show a document, or a part of it",
		Long: `Show a document, or what is at a path of it, as JSON.

With --conflicts show instead the values that were written at the same time as those that show and lost to them. They stay until
somebody who has seen them writes the field again.`,
		Example: `  anabranch get apple
  anabranch get apple /name/common
  anabranch get apple --conflicts`,
		Args:              arguments(1, 2, "KEY and perhaps PATH"),
		ValidArgsFunction: completeKey(1),
	}
	conflicts := cmd.Flags().Bool("conflicts", false, "show the values that do not show")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		path, err := optionalPath(args)
		if err != nil {
			return err
		}
		return a.withNode(cmd.Context(), false, func(n node.Node) error {
			doc, err := n.Get(cmd.Context(), a.space(), args[0])
			if err != nil {
				return err
			}
			if *conflicts {
				return a.printConflicts(doc, path)
			}
			return a.printDocument(doc, path)
		})
	}
	return cmd
}

// getOutput is what get prints with --output jsonl.
type getOutput struct {
	Key       string          `json:"key"`
	Path      string          `json:"path,omitempty"`
	Doc       json.RawMessage `json:"doc"` // the value, if a path was given
	Cursor    string          `json:"cursor"`
	Conflicts int             `json:"conflicts"`
}

func (a *app) printDocument(doc node.Document, path crdt.Path) error {
	value := doc.Doc
	if len(path) > 0 {
		var ok bool
		var err error
		if value, ok, err = node.At(doc.Doc, path); err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %q has nothing at %s", replica.ErrNotFound, doc.Key, path)
		}
	}
	out := getOutput{Key: doc.Key, Path: path.String(), Doc: value, Cursor: doc.Cursor, Conflicts: len(doc.Conflicts)}
	if err := a.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s", indent(value)) }); err != nil {
		return err
	}
	if n := len(doc.Conflicts); n > 0 && !a.wantsJSON() {
		fmt.Fprintf(a.stderr, "%s: `anabranch get --conflicts %s` shows what else was written\n", list(int64(n), "conflict", "conflicts"), doc.Key)
	}
	return nil
}

func indent(value json.RawMessage) []byte {
	var b bytes.Buffer
	if json.Indent(&b, value, "", "  ") != nil {
		return append(value, '\n')
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func newListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the keys of documents",
		Long: `List the keys of the documents, in order; only those that begin with a prefix if one is given. To page through many, use
--limit and go on with --after and the last key.`,
		Args:              arguments(0, 1, "perhaps PREFIX"),
		ValidArgsFunction: completeKey(1),
	}
	limit := cmd.Flags().Int("limit", 0, "list at most this many; 0 is all")
	after := cmd.Flags().String("after", "", "list only keys greater than this one")
	long := cmd.Flags().BoolP("long", "l", false, "show the documents too")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return usagef("--limit %d: want 0 or more", *limit)
		}
		a := appOf(cmd)
		o := node.ScanOptions{After: *after, Limit: *limit, KeysOnly: !*long}
		if len(args) > 0 {
			o.Prefix = args[0]
		}
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.list(cmd.Context(), n, o) })
	}
	return cmd
}

func (a *app) list(ctx context.Context, n node.Node, o node.ScanOptions) error {
	out := newLineWriter(a.stdout)
	for doc, err := range n.Scan(ctx, a.space(), o) {
		switch {
		case err != nil:
			return errors.Join(err, out.Flush())
		case a.wantsJSON():
			err = encodeLine(out, doc)
		case o.KeysOnly:
			_, err = fmt.Fprintln(out, printable(doc.Key))
		default:
			_, err = fmt.Fprintf(out, "%s\t%s\n", printable(doc.Key), doc.Doc)
		}
		if err != nil {
			return err
		}
	}
	return out.Flush()
}

func newWatchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch [PREFIX]",
		Short: "Follow the documents that change, here and at peers",
		Long: `Print each document that changes, until interrupted. The cursor of an event (in the JSON output) is where a later
watch --since goes on, without losing an event or repeating one that was complete.

--since now (the default) begins with what comes, --since 0 with everything that is there. While no node serves the store nothing else can
change it, so watch ends behind what is there.`,
		Args:              arguments(0, 1, "perhaps PREFIX"),
		ValidArgsFunction: completeKey(1),
	}
	since := cmd.Flags().String("since", "now", "a cursor, 0 or now")
	limit := cmd.Flags().Int("limit", 0, "end after this many events; 0 is never")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *limit < 0 {
			return usagef("--limit %d: want 0 or more", *limit)
		}
		a := appOf(cmd)
		if *since != "now" {
			if _, err := replica.ParseCursor(*since); err != nil {
				return &usageError{err}
			}
		}
		o := node.WatchOptions{Since: *since}
		if len(args) > 0 {
			o.Prefix = args[0]
		}
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.watch(cmd.Context(), n, o, *limit) })
	}
	return cmd
}

func (a *app) watch(ctx context.Context, n node.Node, o node.WatchOptions, limit int) error {
	count := 0
	for e, err := range n.Watch(ctx, a.space(), o) {
		if err != nil {
			return err
		}
		err = a.print(e, func(w io.Writer) {
			if e.Deleted {
				fmt.Fprintf(w, "%s\tdeleted\n", printable(e.Key))
				return
			}
			fmt.Fprintf(w, "%s\t%s\n", printable(e.Key), e.Doc)
		})
		if err != nil {
			return err
		}
		if count++; count == limit {
			return nil
		}
	}
	if o.Since == "now" {
		return fmt.Errorf("%w: no node serves the store, so nothing comes: start `anabranch serve`, or see what is there with --since 0", node.ErrOffline)
	}
	return nil
}

// optionalPath reads the path that may follow a key; without one it is that of the whole document.
func optionalPath(args []string) (crdt.Path, error) {
	pointer := ""
	if len(args) > 1 {
		pointer = args[1]
	}
	path, err := crdt.ParsePath(pointer)
	if err != nil {
		return nil, &usageError{err}
	}
	return path, nil
}
