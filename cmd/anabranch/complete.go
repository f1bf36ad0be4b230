package main

import (
	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// maxCompletions bounds what is offered to the shell.
const maxCompletions = 100

// completeKey completes the first argument, a document key. From the argument number files on, files are completed.
func completeKey(files int) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= files {
			return nil, cobra.ShellCompDirectiveDefault
		}
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var keys []string
		a := &app{stdin: cmd.InOrStdin(), stdout: cmd.OutOrStdout(), stderr: cmd.ErrOrStderr()}
		if a.prepare(cmd) != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		err := a.withNode(cmd.Context(), false, func(n node.Node) error {
			for doc, err := range n.Scan(cmd.Context(), a.space(), node.ScanOptions{Prefix: typed, Limit: maxCompletions, KeysOnly: true}) {
				if err != nil {
					return err
				}
				if printable(doc.Key) == doc.Key {
					keys = append(keys, doc.Key)
				}
			}
			return nil
		})
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return keys, cobra.ShellCompDirectiveNoFileComp
	}
}
