package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
	"github.com/anabranch-db/anabranch/net/quicnet"
)

// buildVersion is set by the linker for a release.
var buildVersion string

// version returns the version of this program, as far as the build tells.
func version() string {
	if buildVersion != "" {
		return buildVersion
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Show the version of this program",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := struct {
				Version  string `json:"version"`
				Go       string `json:"go"`
				Platform string `json:"platform"`
			}{version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			a := appOf(cmd)
			return a.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "anabranch %s, %s, %s\n", out.Version, out.Go, out.Platform)
			})
		},
	}
}

func identityPath(dir string) string { return filepath.Join(dir, quicnet.IdentityFile) }

func newIDCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "id",
		Short: "Show the peer ID of this node",
		Long: `Show the peer ID of this node, which others list with serve --allow. It is the public half of a key in the store
directory, which is made if there is none yet.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a := appOf(cmd)
			peer, err := quicnet.IdentityOf(a.cfg.Dir()) // for which the passphrase is not needed
			if errors.Is(err, fs.ErrNotExist) {
				var id quicnet.Identity
				id, err = a.ensureIdentity()
				peer = id.PeerID()
			}
			if err != nil {
				return err
			}
			out := struct {
				PeerID string `json:"peer_id"`
				Dir    string `json:"dir"`
			}{peer.String(), a.cfg.Dir()}
			return a.print(out, func(w io.Writer) { fmt.Fprintln(w, out.PeerID) })
		},
	}
}

func newConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the settings",
		Long: `Settings come from flags, from the environment (ANABRANCH_…), from the configuration file, and from defaults; the first of these
that says anything counts. The file is TOML, its names are those of the flags with _ in place of -, and what it does not know it refuses:

  listen = "0.0.0.0:7420"
  peer   = ["ID@203.0.113.7:7420"]
  allow  = ["ID", "ID"]
  sync   = "interval"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show := &cobra.Command{
		Use:               "print",
		Short:             "Print the settings that are made, or with --effective all",
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	effective := show.Flags().Bool("effective", false, "print each setting, with defaults, and say where its value comes from")
	addSettings(show, "listen", "peer", "allow", "insecure-allow-any", "discover", "degree", "max-peers", "sync", "sync-interval", "max-drift", "max-offline", "prune-delay")
	show.RunE = func(cmd *cobra.Command, _ []string) error { return appOf(cmd).printSettings(*effective) }
	cmd.AddCommand(show)
	return cmd
}

// settingOutput is what config print prints for each setting with --output jsonl.
type settingOutput struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
	Source string   `json:"source"`
	Where  string   `json:"where,omitempty"`
}

func (a *app) printSettings(all bool) error {
	t := newTable("SETTING", "VALUE", "FROM")
	for _, v := range a.cfg.Values() {
		if v.Source == config.FromDefault && !all {
			continue
		}
		from := string(v.Source)
		if v.Where != "" {
			from += " " + v.Where
		}
		if !a.wantsJSON() {
			t.row(v.Setting.Name, orDash(strings.Join(v.Texts, " ")), from)
			continue
		}
		out := settingOutput{Name: v.Setting.Name, Values: append([]string{}, v.Texts...), Source: string(v.Source), Where: v.Where}
		if err := a.print(out, nil); err != nil {
			return err
		}
	}
	if a.wantsJSON() {
		return nil
	}
	return t.write(a.stdout)
}
