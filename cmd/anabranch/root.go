package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
)

// extra collects the makers of commands that files beside this one add in their init functions.
var extra []func() *cobra.Command

const (
	groupData = "data"
	groupNode = "node"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "anabranch",
		Short: "Documents that every node keeps, edits offline, and exchanges with its peers",
		Long: `Anabranch keeps a full copy of your documents on every node, takes reads and writes with no network at all,
and exchanges what changed with every peer it meets.

Each command works whether or not a node is serving the store: it opens the store itself, or speaks to the
node over a socket in the store directory.

` + exitCodesHelp,
		Example: `  anabranch put apple '{"price": 3}'
  anabranch get apple
  anabranch serve --listen 0.0.0.0:7420 --allow PEER-ID`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			hint := "`anabranch help` lists the commands"
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				hint = "did you mean " + strings.Join(near, " or ") + "?"
			}
			return usagef("unknown command %q: %s", args[0], hint)
		},
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w: see `%s --help`", err, cmd.CommandPath())
	})
	root.AddGroup(&cobra.Group{ID: groupData, Title: "Documents:"}, &cobra.Group{ID: groupTrust, Title: "Spaces and who may use them:"},
		&cobra.Group{ID: groupNode, Title: "Node and store:"})
	addGlobalFlags(root)
	for _, c := range []*cobra.Command{
		newPutCommand(), newGetCommand(), newSetCommand(), newRemoveCommand(), newIncrementCommand(), newListCommand(),
		newWatchCommand(), newConflictsCommand(), newImportCommand(), newExportCommand(),
	} {
		c.GroupID = groupData
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		newServeCommand(), newStatusCommand(), newPeersCommand(), newIDCommand(), newDoctorCommand(), newEvictCommand(), newBackupCommand(), newRestoreCommand(), newConfigCommand(), newVersionCommand(),
	} {
		c.GroupID = groupNode
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		newSpaceCommand(), newInviteCommand(), newJoinCommand(), newMembersCommand(), newRevokeCommand(), newTokenCommand(), newPassphraseCommand(),
	} {
		c.GroupID = groupTrust
		root.AddCommand(c)
	}
	for _, make := range extra {
		root.AddCommand(make())
	}
	return root
}

// addGlobalFlags declares the settings that every command has. Those of one command are declared there, by addSettings.
func addGlobalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	for _, name := range []string{"dir", "config", "space", "output", "progress", "log-level", "log-format", "lock-wait", "passphrase-file"} {
		s, _ := config.Lookup(name)
		doc := s.Doc
		switch {
		case name == "dir":
			doc += " (default: $XDG_DATA_HOME/anabranch, else ~/.local/share/anabranch)"
		case name == "config":
			doc += " (default: anabranch.toml in the store directory)"
		}
		flags.String(name, s.Default, doc)
		markSetting(flags, name)
	}
	flags.Lookup("space").Shorthand = "s"
	flags.Lookup("output").Shorthand = "o"
	flags.Bool("json", false, "short for --output jsonl")
	words := map[string][]string{
		"output": {"table", "jsonl"}, "progress": {"auto", "json", "none"}, "log-level": {"debug", "info", "warn", "error"}, "log-format": {"text", "json"},
	}
	for name, list := range words {
		root.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(list, cobra.ShellCompDirectiveNoFileComp))
	}
	root.MarkPersistentFlagDirname("dir")
	root.MarkPersistentFlagFilename("config", "toml")
}

// addSettings declares flags for settings of one command.
func addSettings(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		s, ok := config.Lookup(name)
		switch {
		case !ok:
			panic("no setting " + name)
		case s.Bool:
			cmd.Flags().Bool(name, false, s.Doc)
		case s.List:
			cmd.Flags().StringArray(name, nil, s.Doc+" (may be repeated)")
		default:
			cmd.Flags().String(name, s.Default, s.Doc)
		}
		markSetting(cmd.Flags(), name)
	}
}

// isSetting tells flags that give a setting from those of one command that only have the name of one, as --admin of invite.
const isSetting = "anabranch_setting"

func markSetting(flags interface {
	SetAnnotation(name, key string, values []string) error
}, name string) {
	if err := flags.SetAnnotation(name, isSetting, []string{""}); err != nil {
		panic(err) // there is no such flag
	}
}

// arguments checks the number of arguments. usage names them, as in "KEY [PATH]".
func arguments(least, most int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		if most == 0 {
			return usagef("%s takes no arguments, not %q", cmd.CommandPath(), args)
		}
		return usagef("%s takes %s, not %s: see `%[1]s --help`", cmd.CommandPath(), usage, list(int64(len(args)), "argument", "arguments"))
	}
}

// noArguments is arguments for a command that takes none.
func noArguments(cmd *cobra.Command, args []string) error { return arguments(0, 0, "")(cmd, args) }

func list(n int64, one, many string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, one)
	}
	return fmt.Sprintf("%d %s", n, many)
}
