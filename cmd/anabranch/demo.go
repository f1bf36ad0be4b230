package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/demo"
)

func init() { extra = append(extra, newDemoCommand) }

// newDemoCommand makes the command that shows what this is about.
func newDemoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Watch three nodes edit the same records apart and come together again",
		Long: `Watch three nodes edit the same records while their network is cut, and see what becomes of it.

The nodes are real: each has a store on disk, a key of its own, and speaks QUIC to the two others on this machine. The records
are the regions of the world with their names. Nothing needs to be set up, and nothing is left behind.

It ends with an error if the nodes do not hold the same in the end.`,
		Example: `  anabranch demo
  anabranch demo --json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
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
}

// isColourful reports whether w is a terminal whose user has nothing against colours (https://no-color.org).
func isColourful(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
