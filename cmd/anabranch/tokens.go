package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
)

func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke tokens for the gateway",
		Long: `A token lets programs that are no nodes (browsers, curl) use the gateway of this node. It is good for one space, or for all that are here, with
the rights that it was given, until it expires or is revoked. It is good at this node only: the node's own key signs it.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	ls := &cobra.Command{
		Use:               "ls",
		Short:             "List the tokens that are not expired",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.listTokens(cmd.Context(), n) })
		},
	}
	revoke := &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a token void; connections that use it end",
		Long: `Make a token void, for good. ID is what ` + "`token ls`" + ` shows, or the beginning of it. Connections that use the token end at once. What
was read with it stays where it is.`,
		Args:              arguments(1, 1, "ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				t, err := n.RevokeToken(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print(t, func(w io.Writer) { fmt.Fprintln(w, "revoked", t.ID) })
			})
		},
	}
	cmd.AddCommand(newTokenCreateCommand(), ls, revoke)
	return cmd
}

func newTokenCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --read|--write|--admin",
		Short: "Make a token",
		Long: `Make a token, one line of text, for the space that --space names; '*' is every space that is here. Whoever has the line can use it: hand it
over as you would a password. It is not stored here, and cannot be shown again.`,
		Example: `  anabranch token create --write
  anabranch --space recipes token create --read --expires 720h --subject kitchen-display
  anabranch --space '*' token create --admin --expires 1h`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	words := []string{"read", "write", "admin"}
	chosen := make([]*bool, len(words))
	for i, doc := range []string{"it may read", "it may read and write", "it may also make spaces, and see all of the node"} {
		chosen[i] = flags.Bool(words[i], false, doc)
	}
	expires := flags.Duration("expires", 24*time.Hour, "how long it can be used; 0: until it is revoked")
	subject := flags.String("subject", "", "who gets it, to tell tokens apart")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		a := appOf(cmd)
		req := node.TokenRequest{Subject: *subject, Space: a.space(), Within: *expires}
		for i, w := range words {
			switch {
			case *chosen[i] && req.Rights != "":
				return usagef("--%s and --%s: choose one", req.Rights, w)
			case *chosen[i]:
				req.Rights = w
			}
		}
		if req.Rights == "" {
			return usagef("say what it is good for: --read, --write or --admin")
		}
		if *expires < 0 {
			return usagef("--expires must not be below zero")
		}
		return a.withNode(cmd.Context(), true, func(n node.Node) error { return a.createToken(cmd.Context(), n, req) })
	}
	return cmd
}

func (a *app) createToken(ctx context.Context, n node.Node, req node.TokenRequest) error {
	t, err := n.CreateToken(ctx, req)
	if err != nil {
		return err
	}
	if err := a.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Text) }); err != nil || a.wantsJSON() {
		return err
	}
	where := printable(t.Space)
	if t.Space == gateway.AllSpaces {
		where = "every space"
	}
	until := "until it is revoked"
	if t.Expires != nil {
		until = "until " + t.Expires.Local().Format(time.DateTime)
	}
	fmt.Fprintf(a.stderr, "Whoever has it may %s %s, %s: anabranch token revoke %s\n", verb(t.Rights), where, until, t.ID)
	return nil
}

func (a *app) listTokens(ctx context.Context, n node.Node) error {
	tokens, err := n.ListTokens(ctx)
	if err != nil {
		return err
	}
	out := newTable("ID", "RIGHTS", "SPACE", "SUBJECT", "UNTIL")
	for _, t := range tokens {
		if a.wantsJSON() {
			if err := a.print(t, nil); err != nil {
				return err
			}
			continue
		}
		until := "revoked"
		switch {
		case t.Revoked != nil:
		case t.Expires != nil:
			until = t.Expires.Local().Format(time.DateTime)
		default:
			until = "-"
		}
		out.row(t.ID, t.Rights, printable(t.Space), orDash(printable(t.Subject)), until)
	}
	if a.wantsJSON() {
		return nil
	}
	return out.write(a.stdout)
}

// openTokens opens the tokens of the store directory. Whoever calls it holds the lock of the store.
func (a *app) openTokens() (*gateway.Tokens, error) {
	return gateway.OpenTokens(gateway.TokensConfig{Dir: a.cfg.Dir(), Passphrase: a.passphrase})
}
