package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/progress"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

func newBackupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "backup FILE|-",
		Short: "Write the whole store into a file, while work goes on",
		Long: `Write the whole store, as it is at one moment, into one file, or with - to standard output. The node goes on
working. The file is compressed and has checksums; it gets its name only when it is complete and was read back.

Without --with-identity it holds the documents and no key: a node that is restored from it keeps the identity of the directory that it replaces, or
makes a new one. With it, whoever has the file can pass for this node.`,
		Example: `  anabranch backup /backup/anabranch-$(date +%F)
  anabranch backup - | ssh host 'cat > anabranch.backup'
  anabranch backup verify /backup/anabranch-2026-11-24`,
		Args: arguments(1, 1, "FILE or -"),
	}
	o := node.BackupOptions{}
	cmd.Flags().BoolVar(&o.Secrets, "with-identity", false, "put the private keys of the node and of its spaces into it as well")
	force := cmd.Flags().Bool("force", false, "replace a file of that name")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a := appOf(cmd)
		return a.withNode(cmd.Context(), false, func(n node.Node) error { return a.backup(cmd.Context(), n, args[0], o, *force) })
	}
	cmd.AddCommand(newBackupVerifyCommand())
	return cmd
}

func newBackupVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify FILE|-",
		Short: "Check a backup, and tell what is in it",
		Long: `Read a backup from its beginning to its end, compare all checksums, and tell what is in it. Nothing is restored. The exit code is 5 if
the backup is damaged.`,
		Args: arguments(1, 1, "FILE or -"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a := appOf(cmd)
			in, done, err := a.openBackup(args[0])
			if err != nil {
				return err
			}
			defer done()
			shown := progress.New(a.stderr, a.cfg.Text("progress"))
			defer shown.Finish()
			b, err := node.CheckBackup(cmd.Context(), in, nil, tellEntries(shown, "verify"))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			shown.Finish()
			return a.print(b, func(w io.Writer) { printBackup(w, "sound", b) })
		},
	}
}

func tellEntries(shown progress.Reporter, work string) func(entries, bytes int64) {
	return func(entries, bytes int64) {
		shown.Report(progress.State{Work: work, Done: bytes, Unit: "bytes", Count: entries, Counted: "entries"})
	}
}

func (a *app) openBackup(name string) (io.Reader, func(), error) {
	if name == "-" {
		return a.stdin, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

// backup writes a backup to a file that is renamed when it is complete, or to standard output; then the outcome goes to stderr.
func (a *app) backup(ctx context.Context, n node.Node, name string, o node.BackupOptions, force bool) (err error) {
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	defer shown.Finish()
	o.Progress = tellEntries(shown, "backup")
	if name == "-" {
		if out, ok := a.stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) {
			return usagef("a backup is no text for a terminal: name a FILE, or send it into a pipe")
		}
		_, err := n.Backup(ctx, a.stdout, o)
		return err
	}
	if _, err := os.Lstat(name); !force && !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s exists: name another file, or say --force to replace it", name))
	}
	partial := name + ".partial"
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	b, err := n.Backup(ctx, f, o)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(partial, name); err != nil {
		return err
	}
	if err := syncDirectory(filepath.Dir(name)); err != nil {
		return err
	}
	shown.Finish()
	return a.print(b, func(w io.Writer) { printBackup(w, name, b) })
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func printBackup(w io.Writer, what string, b node.Backup) {
	documents := int64(0)
	for _, s := range b.Spaces {
		documents += s.Documents
	}
	keys := "no key"
	if len(b.Files) > 0 {
		keys = "with " + list(int64(len(b.Files)), "key", "keys") + ": keep it secret"
	}
	fmt.Fprintf(w, "%s: %s in %s, %s, of %s, %s\n", what, list(documents, "document", "documents"), list(int64(len(b.Spaces)), "space", "spaces"),
		bytesText(b.Size), b.Created.Local().Format(time.DateTime), keys)
}

func newRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restore FILE|-",
		Short: "Make a store of a backup",
		Long: `Make a store of a backup, in the directory that --dir names. It is built beside it, checked as a whole, and only then gets
its name. A directory that is not empty is refused; with --replace it is kept under another name, and its identity, keys and settings are
taken over unless the backup has its own.

The restored node writes under a new replica ID, and gets from its peers what was written after the backup, its own writes included. Never run it
beside a node of the same identity.`,
		Example: `  anabranch restore /backup/anabranch-2026-11-24 --dir /var/lib/anabranch --replace
  ssh host 'cat anabranch.backup' | anabranch restore - --dir new`,
		Args: arguments(1, 1, "FILE or -"),
	}
	replace := cmd.Flags().Bool("replace", false, "if there is a store, keep it under another name and put this one in its place")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return appOf(cmd).restore(cmd.Context(), args[0], *replace)
	}
	return cmd
}

// restoreOutput is what restore prints with --output jsonl.
type restoreOutput struct {
	Dir   string `json:"dir"`
	Moved string `json:"moved,omitempty"` // where the former directory is
	node.Backup
}

func (a *app) restore(ctx context.Context, name string, replace bool) error {
	dir := a.cfg.Dir()
	if c, err := control.Dial(ctx, dir); err == nil {
		return errors.Join(fmt.Errorf("restore into %s: %w: a node serves it: stop that first", dir, store.ErrInUse), c.Close())
	}
	in, done, err := a.openBackup(name)
	if err != nil {
		return err
	}
	defer done()
	shown := progress.New(a.stderr, a.cfg.Text("progress"))
	defer shown.Finish()
	restored, err := replica.Restore(ctx, in, replica.RestoreOptions{
		Dir: dir, Replace: replace, Keep: node.KeptFiles(), Progress: tellEntries(shown, "restore"), Logger: a.log,
	})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	shown.Finish()
	h := restored.Header
	out := restoreOutput{Dir: dir, Moved: restored.Moved, Backup: node.Backup{
		Store: h.Store, Created: h.Created, Program: h.Program, Spaces: h.Spaces, Files: restored.Files, Summary: restored.Summary,
	}}
	return a.print(out, func(w io.Writer) {
		documents := int64(0)
		for _, s := range h.Spaces {
			documents += s.Documents
		}
		fmt.Fprintf(w, "%s: restored %s in %s, as of %s\n", dir, list(documents, "document", "documents"), list(int64(len(h.Spaces)), "space", "spaces"),
			h.Created.Local().Format(time.DateTime))
		if restored.Moved != "" {
			fmt.Fprintf(w, "The former directory is %s\n", restored.Moved)
		}
		if len(restored.Files) == 0 {
			fmt.Fprintln(w, "It has no identity: its first start makes a new one, which its peers must --allow")
		}
	})
}
