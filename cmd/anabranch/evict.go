package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

func newEvictCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "evict PEER-ID",
		Short: "Wait no longer for a member that is gone for good",
		Long: `What was removed is kept until every member of the space is known to have the removal. A member that is away holds that back, for 30 days
unless --max-offline says otherwise. Evict it if it will not come back; all members that hear of it stop waiting too. Nothing is
lost: should it come back after all, it is brought up to date by a snapshot, with its own writes kept, and counts again.

This takes no rights away.`,
		Example: `  anabranch status
  anabranch evict 3v5rxq7k`,
		Args: arguments(1, 1, "PEER-ID, or enough of it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			return a.withNode(cmd.Context(), false, func(n node.Node) error {
				m, err := n.Evict(cmd.Context(), a.cfg.Text("space"), args[0])
				if err != nil {
					return err
				}
				return a.print(m, func(w io.Writer) {
					fmt.Fprintf(w, "%s, heard of last at %s, is not waited for any more\n", shortID(m.Peer), m.Heard.Local().Format(time.DateTime))
				})
			})
		},
	}
}

// printStability says of each space who pruning waits for.
func printStability(w io.Writer, spaces []node.SpaceStatus) {
	for _, s := range spaces {
		for _, h := range s.Stability.HeldBy {
			state := "is connected"
			if !h.Connected {
				state = "was heard of last at " + h.Heard.Local().Format(time.DateTime)
			}
			fmt.Fprintf(w, "%s: pruning waits for %s, which %s and lacks changes since %s\n",
				printable(s.Name), shortID(h.Peer), state, h.Since.Local().Format(time.DateTime))
		}
		if at := s.Stability.OpenSince; at != nil {
			fmt.Fprintf(w, "%s: pruning waits for this node: of changes since %s it may lack parts, which go with later ones that have not come\n",
				printable(s.Name), at.Local().Format(time.DateTime))
		}
		if n := s.Stability.Waiting; n > 0 {
			fmt.Fprintf(w, "%s: %s to be pruned\n", printable(s.Name), list(n, "log entry is", "log entries are"))
		}
	}
}
