package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
	"github.com/anabranch-db/anabranch/crdt"
)

func newConflictsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conflicts",
		Short: "List, show and settle what was written at the same time",
		Long: `Where several nodes wrote the same field, each without having seen the other, one value shows and the others are kept until
somebody settles it. These commands find such documents, however many others there are, and settle them.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConflictsListCommand(), newConflictsShowCommand(), newConflictsSettleCommand())
	return cmd
}

func newConflictsListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the documents that have conflicts",
		Long: `List the documents that have conflicts, in the order of their keys. To page through many, use --limit and go on with --after and
the last key. With --watch go on with each document whose number of conflicts changes, until interrupted; 0 says that all are settled.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	o := node.ConflictOptions{}
	cmd.Flags().StringVar(&o.Prefix, "prefix", "", "only documents whose keys begin with this")
	cmd.Flags().StringVar(&o.After, "after", "", "only keys greater than this one")
	cmd.Flags().IntVar(&o.Limit, "limit", 0, "list at most this many; 0 is all")
	cmd.Flags().BoolVar(&o.Watch, "watch", false, "go on with what changes")
	cmd.MarkFlagsMutuallyExclusive("watch", "after")
	cmd.MarkFlagsMutuallyExclusive("watch", "limit")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if o.Limit < 0 {
			return usagef("--limit %d: want 0 or more", o.Limit)
		}
		a := appOf(cmd)
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.listConflicts(cmd.Context(), n, o) })
	}
	return cmd
}

func (a *app) listConflicts(ctx context.Context, n node.Node, o node.ConflictOptions) error {
	out := newLineWriter(a.stdout)
	conflicts, documents := int64(0), int64(0)
	for c, err := range n.Conflicts(ctx, a.space(), o) {
		if err != nil {
			return errors.Join(err, out.Flush())
		}
		conflicts += c.Conflicts
		documents++
		if a.wantsJSON() {
			err = encodeLine(out, c)
		} else {
			_, err = fmt.Fprintf(out, "%s\t%d\n", printable(c.Key), c.Conflicts)
		}
		if err == nil && o.Watch {
			err = out.Flush()
		}
		if err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil || a.wantsJSON() || o.Watch {
		return err
	}
	if documents == 0 {
		fmt.Fprintln(a.stderr, "no conflicts")
	} else {
		fmt.Fprintf(a.stderr, "%s in %s\n", list(conflicts, "conflict", "conflicts"), list(documents, "document", "documents"))
	}
	return nil
}

func newConflictsShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show KEY [PATH]",
		Short: "Show the values that do not show",
		Long: `Show what was written at the same time as what shows, and does not show itself. The number in front is what settle --take
wants.`,
		Args:              arguments(1, 2, "KEY and perhaps PATH"),
		ValidArgsFunction: completeConflicted,
		RunE: func(cmd *cobra.Command, args []string) error {
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
				return a.printConflicts(doc, path)
			})
		},
	}
}

func newConflictsSettleCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "settle KEY [PATH] | --all",
		Short: "Settle conflicts: keep what shows, take another value, or write one",
		Long: `Settle the conflicts of a document, at a path and below if one is given. What shows stays, unless told otherwise:

  --take N      let the value show that "conflicts show KEY PATH" lists as N
  --value JSON  write this value
  --rule RULE   decide by a rule

A rule decides each conflict: ` + node.RuleHelp + `

With --all the conflicts of all documents are settled, or of those with --prefix, by --rule, in many small transactions. Interrupted, it has settled
what it counted; the same command goes on with the rest. A value that arrives meanwhile stays a conflict.`,
		Example: `  anabranch conflicts settle apple /price
  anabranch conflicts settle apple /price --take 1
  anabranch conflicts settle apple /price --value 4
  anabranch conflicts settle --all --rule newest --prefix fruit/`,
		Args:              arguments(0, 2, "KEY and perhaps PATH, or --all"),
		ValidArgsFunction: completeConflicted,
	}
	f := settleFlags{}
	cmd.Flags().BoolVar(&f.all, "all", false, "settle the conflicts of all documents")
	cmd.Flags().StringVar(&f.rule, "rule", "newest", "newest, oldest or author:REPLICA-ID")
	cmd.Flags().IntVar(&f.take, "take", 0, "take the value with this number")
	cmd.Flags().StringVar(&f.value, "value", "", "write this value: JSON, @FILE or -")
	cmd.Flags().StringVar(&f.prefix, "prefix", "", "with --all: only documents whose keys begin with this")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "with --all: do not ask")
	cmd.MarkFlagsMutuallyExclusive("all", "take", "value")
	cmd.MarkFlagsMutuallyExclusive("rule", "take", "value")
	cmd.RegisterFlagCompletionFunc("rule", cobra.FixedCompletions([]string{"newest", "oldest", "author:"}, cobra.ShellCompDirectiveNoSpace))
	commit := commitFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		f.ruleGiven = cmd.Flags().Changed("rule")
		f.valueGiven = cmd.Flags().Changed("value")
		if err := f.check(cmd, args); err != nil {
			return err
		}
		if f.all {
			return appOf(cmd).settleAll(cmd.Context(), f)
		}
		op, err := appOf(cmd).settleOp(cmd.Context(), f, args)
		if err != nil {
			return err
		}
		return commit(cmd, op)
	}
	return cmd
}

type settleFlags struct {
	all, yes              bool
	rule, value, prefix   string
	take                  int
	ruleGiven, valueGiven bool
}

func (f settleFlags) check(cmd *cobra.Command, args []string) error {
	takes := cmd.Flags().Changed("take")
	switch {
	case f.all && len(args) > 0:
		return usagef("--all takes no KEY: to choose documents use --prefix")
	case f.all && !f.ruleGiven:
		return usagef("--all wants a --rule: newest, oldest or author:REPLICA-ID")
	case f.all && cmd.Flags().Changed("synced"):
		return usagef("--synced is for one document: see `anabranch status` for what peers have")
	case !f.all && len(args) == 0:
		return usagef("name a KEY, or --all")
	case !f.all && (f.prefix != "" || f.yes):
		return usagef("--prefix and --yes belong to --all")
	case takes && f.take < 1:
		return usagef("--take %d: want a number that `anabranch conflicts show` lists", f.take)
	case (takes || f.valueGiven) && len(args) < 2:
		return usagef("--take and --value want a PATH")
	}
	if _, err := node.ParseRule(f.rule); err != nil {
		return &usageError{err}
	}
	return nil
}

// settleOp returns the operation that settles one document. For --take it looks which value is meant, and names it so that another one that
// arrives meanwhile is not taken for it.
func (a *app) settleOp(ctx context.Context, f settleFlags, args []string) (node.Op, error) {
	op := node.Op{Op: node.OpSettle, Key: args[0], Rule: f.rule}
	if len(args) > 1 {
		op.Path = args[1]
	}
	if f.valueGiven {
		value, err := readValue(a.stdin, f.value)
		return node.Op{Op: node.OpSet, Key: op.Key, Path: op.Path, Value: value}, err
	}
	if f.take == 0 {
		return op, nil
	}
	path, err := crdt.ParsePath(op.Path)
	if err != nil {
		return op, &usageError{err}
	}
	err = a.withNode(ctx, false, func(n node.Node) error {
		doc, err := n.Get(ctx, a.space(), op.Key)
		if err != nil {
			return err
		}
		shown, err := conflictsAt(doc, path)
		if err != nil {
			return err
		}
		if f.take > len(shown) {
			return usagef("--take %d: `anabranch conflicts show` lists %s at %s", f.take, list(int64(len(shown)), "conflict", "conflicts"), orDash(op.Path))
		}
		op.Path, op.Take = shown[f.take-1].Path, shown[f.take-1].ID
		return nil
	})
	return op, err
}

// conflictsAt returns the conflicts of a document at a path and below.
func conflictsAt(doc node.Document, at crdt.Path) ([]node.Conflict, error) {
	base, err := at.Pack()
	if err != nil {
		return nil, &usageError{err}
	}
	var found []node.Conflict
	for _, c := range doc.Conflicts {
		path, err := crdt.ParsePath(c.Path)
		if err != nil {
			return nil, err
		}
		if key, err := path.Pack(); err == nil && base.Contains(key) {
			found = append(found, c)
		}
	}
	return found, nil
}

func (a *app) printConflicts(doc node.Document, at crdt.Path) error {
	conflicts, err := conflictsAt(doc, at)
	if err != nil {
		return err
	}
	t := newTable("N", "PATH", "SHOWS", "ALSO WRITTEN", "BY", "AT")
	for i, c := range conflicts {
		if a.wantsJSON() {
			if err := a.print(c, nil); err != nil {
				return err
			}
			continue
		}
		t.row(strconv.Itoa(i+1), orDash(c.Path), brief(c.Shown), brief(c.Value), c.Author, c.Time.Format(time.RFC3339))
	}
	if a.wantsJSON() {
		return nil
	}
	if t.empty() {
		fmt.Fprintln(a.stderr, "no conflicts")
		return nil
	}
	return t.write(a.stdout)
}

// brief cuts a value for a table.
func brief(value json.RawMessage) string {
	const most = 40
	runes := []rune(string(value))
	if len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return string(runes)
}

func (a *app) settleAll(ctx context.Context, f settleFlags) error {
	return a.withNode(ctx, false, func(n node.Node) error {
		if !f.yes {
			if err := a.confirmSettle(ctx, n, f); err != nil {
				return err
			}
		}
		shown := progress.New(a.stderr, a.cfg.Text("progress"))
		defer shown.Finish()
		var last node.Settled
		for s, err := range n.SettleAll(ctx, a.space(), node.SettleOptions{Rule: f.rule, Prefix: f.prefix}) {
			if err != nil {
				return fmt.Errorf("%s settled, then: %w", list(last.Settled, "conflict", "conflicts"), err)
			}
			last = s
			shown.Report(progress.State{Work: "settle", Done: s.Documents, Unit: "documents", Count: s.Settled, Counted: "conflicts"})
		}
		shown.Finish()
		return a.print(last, func(w io.Writer) {
			fmt.Fprintf(w, "settled %s in %s", list(last.Settled, "conflict", "conflicts"), list(last.Documents, "document", "documents"))
			if last.Left > 0 {
				fmt.Fprintf(w, ", left %d open", last.Left)
			}
			fmt.Fprintln(w)
		})
	})
}

// confirmSettle asks at the terminal. A script must say --yes.
func (a *app) confirmSettle(ctx context.Context, n node.Node, f settleFlags) error {
	in, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return usagef("settling all conflicts cannot be taken back: say --yes if it is meant, since nobody can be asked here")
	}
	conflicts, documents := int64(0), int64(0)
	for c, err := range n.Conflicts(ctx, a.space(), node.ConflictOptions{Prefix: f.prefix}) {
		if err != nil {
			return err
		}
		conflicts += c.Conflicts
		documents++
	}
	fmt.Fprintf(a.stderr, "Settle %s in %s by the rule %s? What is dropped is gone everywhere. [y/N] ",
		list(conflicts, "conflict", "conflicts"), list(documents, "document", "documents"), f.rule)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && err != io.EOF {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errors.New("nothing was settled")
	}
	return nil
}

// completeConflicted completes the key of a document that has conflicts, and then the path of one of them.
func completeConflicted(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	a := &app{stdin: cmd.InOrStdin(), stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
	if len(args) > 1 || a.prepare(cmd) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	err := a.withNode(cmd.Context(), false, func(n node.Node) error {
		if len(args) == 1 {
			doc, err := n.Get(cmd.Context(), a.space(), args[0])
			for _, c := range doc.Conflicts {
				words = append(words, c.Path)
			}
			return err
		}
		for c, err := range n.Conflicts(cmd.Context(), a.space(), node.ConflictOptions{Prefix: typed, Limit: maxCompletions}) {
			if err != nil {
				return err
			}
			if printable(c.Key) == c.Key {
				words = append(words, c.Key)
			}
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
