package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

const groupTrust = "trust"

func newSpaceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "space",
		Short: "Make, list, recover and remove spaces",
		Long: `A space is a set of documents that is exchanged as a whole. There are two kinds. A space without a key is made when something is first
written to it, and every peer that --allow lists shares it. A space with a key is made by ` + "`space create`" + `, and shared with those who
were invited to it, with the rights that they were given.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	create := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a space with a key, in which this node is the admin",
		Long: `Make a space with a key of its own, in which this node is the first admin. NAME is what this node calls it; others may give it
another name. The private key is stored in the directory "keys" of the store: keep a copy of it in a safe place, for it is the last word on who
may do what.`,
		Example:           "  anabranch space create recipes\n  anabranch --space recipes invite --write",
		Args:              arguments(1, 1, "NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			if _, err := a.ensureIdentity(); err != nil {
				return err
			}
			return a.withNode(cmd.Context(), true, func(n node.Node) error {
				s, err := n.CreateSpace(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.print(s, func(w io.Writer) { fmt.Fprintln(w, s.ID) })
			})
		},
	}
	ls := &cobra.Command{
		Use:               "ls",
		Short:             "List the spaces, and what this node may do in each",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.listSpaces(cmd.Context(), n) })
		},
	}
	cmd.AddCommand(create, ls, newSpaceRemoveCommand(), newSpaceRecoverCommand())
	return cmd
}

func (a *app) listSpaces(ctx context.Context, n node.Node) error {
	spaces, err := n.Spaces(ctx)
	if err != nil {
		return err
	}
	t := newTable("SPACE", "RIGHTS", "MEMBERS", "DOCUMENTS", "ID")
	for _, s := range spaces {
		if a.wantsJSON() {
			if err := a.print(s, nil); err != nil {
				return err
			}
			continue
		}
		members := "listed peers"
		if s.ID != "" {
			members = fmt.Sprint(s.Members)
		}
		t.row(printable(s.Name), s.Rights, members, fmt.Sprint(s.Documents), orDash(s.ID))
	}
	if a.wantsJSON() {
		return nil
	}
	return t.write(a.stdout)
}

func newSpaceRemoveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove this node's copy of a space",
		Long: `Remove this node's copy of a space. Other nodes keep theirs, and this one does not take it up again because a peer offers it. What no other
node has is lost. The key of a space made here stays in the directory "keys".`,
		Args:              arguments(1, 1, "NAME"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	yes := cmd.Flags().BoolP("yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		return a.withNode(cmd.Context(), false, func(n node.Node) error {
			if !*yes {
				if err := a.confirmRemoval(cmd.Context(), n, args[0]); err != nil {
					return err
				}
			}
			return n.RemoveSpace(cmd.Context(), args[0])
		})
	}
	return cmd
}

// confirmRemoval asks on a terminal, and refuses where there is none.
func (a *app) confirmRemoval(ctx context.Context, n node.Node, name string) error {
	spaces, err := n.Spaces(ctx)
	if err != nil {
		return err
	}
	documents := int64(0)
	for _, s := range spaces {
		if s.Name == name || s.ID == name {
			documents = s.Documents
		}
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return usagef("space rm deletes %s of space %q here: say --yes if that is meant", list(documents, "document", "documents"), name)
	}
	fmt.Fprintf(a.stderr, "Remove space %s with %s from this node? [y/N] ", printable(name), list(documents, "document", "documents"))
	answer, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y") {
		return usagef("nothing was removed")
	}
	return nil
}

func newInviteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "invite --read|--write|--admin",
		Short: "Make a ticket with which another node joins a space",
		Long: `Make a ticket, one line of text, with which another node joins the space that --space names, through this node. Whoever has the line can use
it: hand it over as you would a password. It is not stored here, and cannot be shown again.

This node must be serving, and reachable at one of the addresses in the ticket, when it is used.`,
		Example: `  anabranch --space recipes invite --write
  anabranch --space recipes invite --read --uses 20 --expires 168h
  anabranch --space recipes invite --read --member-for 720h --addr node.example:7420`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	words := []string{"read", "write", "admin"}
	chosen := make([]*bool, len(words))
	for i, doc := range []string{"who joins may read", "who joins may read and write", "who joins may also invite and revoke"} {
		chosen[i] = flags.Bool(words[i], false, doc)
	}
	expires := flags.Duration("expires", 24*time.Hour, "how long the ticket can be used")
	uses := flags.Int("uses", 1, "how many nodes may join with it")
	lasting := flags.Duration("member-for", 0, "how long the rights last, counted from now (default: until they are revoked)")
	addrs := flags.StringArray("addr", nil, "HOST:PORT at which this node can be reached (may be repeated; default: where it listens)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		inv := node.Invitation{Within: *expires, Uses: *uses, Lasting: *lasting, Addrs: *addrs}
		for i, w := range words {
			switch {
			case *chosen[i] && inv.Rights != "":
				return usagef("--%s and --%s: choose one", inv.Rights, w)
			case *chosen[i]:
				inv.Rights = w
			}
		}
		if inv.Rights == "" {
			return usagef("say what who joins may do: --read, --write or --admin")
		}
		if *expires <= 0 || *uses <= 0 || *lasting < 0 {
			return usagef("--expires, --uses and --member-for must be above zero")
		}
		return appOf(cmd).invite(cmd.Context(), inv)
	}
	cmd.AddCommand(newTicketsCommand(), newWithdrawCommand())
	return cmd
}

func (a *app) invite(ctx context.Context, inv node.Invitation) error {
	return a.withNode(ctx, false, func(n node.Node) error {
		t, err := n.Invite(ctx, a.space(), inv)
		if err != nil {
			return err
		}
		if err := a.print(t, func(w io.Writer) { fmt.Fprintln(w, t.Text) }); err != nil || a.wantsJSON() {
			return err
		}
		fmt.Fprintf(a.stderr, "%s may join %s to %s it, until %s. The other node runs: anabranch join TICKET\n",
			list(int64(t.Uses), "node", "nodes"), printable(t.Space), verb(t.Rights), t.Expires.Local().Format(time.DateTime))
		if onlyLocal(t.Addrs) {
			fmt.Fprintln(a.stderr, "Only this machine can reach the node: serve with --listen 0.0.0.0:7420, or invite with --addr.")
		}
		return nil
	})
}

func verb(rights string) string {
	if rights == "admin" {
		return "administer"
	}
	return rights
}

func newTicketsCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "ls",
		Short:             "List the tickets of a space that can still be used",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				tickets, err := n.Tickets(cmd.Context(), a.space())
				if err != nil {
					return err
				}
				t := newTable("TICKET", "RIGHTS", "USES LEFT", "EXPIRES")
				for _, k := range tickets {
					if a.wantsJSON() {
						if err := a.print(k, nil); err != nil {
							return err
						}
						continue
					}
					t.row(k.ID, k.Rights, fmt.Sprintf("%d of %d", k.Left, k.Uses), k.Expires.Local().Format(time.DateTime))
				}
				if a.wantsJSON() {
					return nil
				}
				return t.write(a.stdout)
			})
		},
	}
}

func newWithdrawCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "rm TICKET-ID",
		Short:             "Take a ticket back: nobody can join with it any more",
		Args:              arguments(1, 1, "TICKET-ID, as `invite ls` shows it"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error { return n.Withdraw(cmd.Context(), a.space(), args[0]) })
		},
	}
}

// maxTicketText bounds what is read of a ticket.
const maxTicketText = 16 << 10

func newJoinCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "join TICKET|@FILE|-",
		Short: "Join a space with a ticket",
		Long: `Join a space with a ticket that another node's invite printed. The documents come as soon as a node serves this store. A node that
is in the space already joins again to get greater rights.

Other users of this machine may see the arguments of commands: @FILE reads the ticket from a file, - from standard input.`,
		Example: `  anabranch join anabranch-ticket1…
  anabranch join - --name kitchen <ticket.txt`,
		Args:              arguments(1, 1, "TICKET, @FILE or -"),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	name := cmd.Flags().String("name", "", "what to call the space here (default: as the other node does)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		ticket, err := readTicket(a.stdin, args[0])
		if err != nil {
			return err
		}
		return a.join(cmd.Context(), ticket, *name)
	}
	return cmd
}

func readTicket(stdin io.Reader, arg string) (string, error) {
	from := stdin
	switch {
	case strings.HasPrefix(arg, "@"):
		f, err := os.Open(arg[1:])
		if err != nil {
			return "", err
		}
		defer f.Close()
		from = f
	case arg != "-":
		return arg, nil
	}
	b, err := io.ReadAll(io.LimitReader(from, maxTicketText))
	return string(b), err
}

func (a *app) join(ctx context.Context, ticket, name string) error {
	n, err := a.openToDial(ctx)
	if err != nil {
		return err
	}
	return errors.Join(a.joinThrough(ctx, n, ticket, name), n.Close())
}

// openToDial returns the node that serves the store, or opens the store with a network that only dials.
func (a *app) openToDial(ctx context.Context) (n node.Node, err error) {
	dir := a.cfg.Dir()
	err = a.waitForStore(ctx, func() error {
		client, err := control.Dial(ctx, dir)
		if err == nil {
			n = client
			return nil
		}
		if !errors.Is(err, control.ErrNoNode) {
			return err
		}
		r, err := a.openReplica(dir, "")
		if err == nil {
			n = node.NewLocal(node.LocalConfig{Replica: r, Dir: dir, Version: version(), PeerID: r.Self().String(), Tokens: a.openTokens})
		}
		return err
	})
	return n, err
}

func (a *app) joinThrough(ctx context.Context, n node.Node, ticket, name string) error {
	s, err := n.Join(ctx, ticket, name)
	if err != nil {
		return err
	}
	st, err := n.Status(ctx)
	if err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) {
		fmt.Fprintf(w, "joined %s, with the right to %s\n", printable(s.Name), s.Rights)
		if !st.Serving {
			fmt.Fprintln(w, "its documents come when `anabranch serve` runs")
		}
	})
}

func newMembersCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "members",
		Short: "List who may do what in a space",
		Long: `List the nodes that have rights in the space that --space names, as far as this node knows, with what they may do, since when, and by whose
word; and those that were revoked.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				members, err := n.Permissions(cmd.Context(), a.space())
				if err != nil {
					return err
				}
				return a.printMembers(members)
			})
		},
	}
}

func (a *app) printMembers(members []node.Permission) error {
	t := newTable("PEER", "RIGHTS", "SINCE", "UNTIL", "BY", "")
	for _, m := range members {
		if a.wantsJSON() {
			if err := a.print(m, nil); err != nil {
				return err
			}
			continue
		}
		by, until, self := shortID(m.By), "", ""
		if m.By == "" {
			by = "space key"
		}
		if m.Expires != nil {
			until = m.Expires.Local().Format(time.DateTime)
		}
		rights := m.Rights
		if rights == "none" {
			rights = "revoked"
		}
		if m.Self {
			self = "this node"
		}
		t.row(m.Peer, rights, m.Since.Local().Format(time.DateTime), orDash(until), by, self)
	}
	if a.wantsJSON() {
		return nil
	}
	return t.write(a.stdout)
}

func newRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke PEER-ID",
		Short: "Take a node's rights in a space",
		Long: `Take a node's rights in the space that --space names. It is cut off here at once, and by each other node as soon as that hears of it. What it
has already, it keeps. Those that it had let in stay. PEER-ID may be the beginning of an ID that ` + "`members`" + ` shows.`,
		Args:              arguments(1, 1, "PEER-ID"),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				m, err := n.Revoke(cmd.Context(), a.space(), args[0])
				if err != nil {
					return err
				}
				return a.print(m, func(w io.Writer) { fmt.Fprintf(w, "revoked %s\n", m.Peer) })
			})
		},
	}
}
