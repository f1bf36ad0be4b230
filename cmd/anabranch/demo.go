package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/demo"
)

func init() { extra = append(extra, newDemoCommand) }

// newDemoCommand makes the command that shows what this is about.
func newDemoCommand() *cobra.Command {
	var web bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Watch three nodes edit the same records apart and come together again",
		Long: `Watch three nodes edit the same records while their network is cut, and see what becomes of it.

The nodes are real: each has a store on disk, a key of its own, and speaks QUIC to the two others on this machine. The records
are the regions of the world with their names. Nothing needs to be set up, and nothing is left behind.

It ends with an error if the nodes do not hold the same in the end.

With --web it serves a shopping list for two people to browsers on this machine, each with a node of their own, until it is interrupted: open
the two addresses in two windows, edit in both, pull the plug of one. Each node has a dashboard as well.`,
		Example: `  anabranch demo
  anabranch demo --json
  anabranch demo --web`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			if web {
				return a.demoWeb(cmd.Context())
			}
			o := demo.Options{Logger: a.log}
			if !a.wantsJSON() {
				o.Show = demo.NewPrinter(a.stdout, isColourful(a.stdout)).Show
			}
			report, err := demo.Run(cmd.Context(), o)
			if report != nil && a.wantsJSON() {
				if perr := a.print(report, nil); err == nil {
					err = perr
				}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&web, "web", false, "serve an example and a dashboard to browsers on this machine")
	return cmd
}

// demoWeb serves the demonstration for browsers until ctx ends.
func (a *app) demoWeb(ctx context.Context) error {
	var printing error
	err := demo.RunWeb(ctx, demo.WebOptions{Logger: a.log, Ready: func(web demo.Web) {
		printing = a.print(web, func(w io.Writer) {
			fmt.Fprintln(w, "Two nodes, each with its own store on disk, and a gateway for browsers on this machine.")
			for _, p := range web.People {
				fmt.Fprintf(w, "\n%s, at the node %s\n  list       %s\n  dashboard  %s\n", p.Name, p.Node, p.List, p.Dashboard)
			}
			fmt.Fprintln(w, "\nOpen the two lists in two windows. Ctrl-C ends it; nothing is left behind.")
		})
	}})
	return errors.Join(err, printing)
}

// isColourful reports whether w is a terminal whose user has nothing against colours (https://no-color.org).
func isColourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
