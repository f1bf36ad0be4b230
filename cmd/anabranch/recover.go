package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/config"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

func newSpaceRecoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover KEY-FILE",
		Short: "Become an admin of a space by its key",
		Long: `Become an admin of a space by its private key, of which a copy was kept, when the node that made the space is lost. KEY-FILE is that copy; it is
stored in the directory "keys" of this store too. If this node has the space already, that is all. If not, name a member of it with --from, from which the
space comes, and say with --name what to call it here. Then revoke the node that is lost.`,
		Example: `  anabranch space recover usb/space-fiop….pem
  anabranch space recover usb/space-fiop….pem --name recipes --from cvicgsmq…@node.example:7420`,
		Args: arguments(1, 1, "KEY-FILE"),
	}
	name := cmd.Flags().String("name", "", "what to call the space here, if it is not here yet")
	from := cmd.Flags().StringArray("from", nil, "ID@HOST:PORT of a member (may be repeated: they are asked one after the other)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q := node.Recovery{Name: *name}
		for _, text := range *from {
			p, err := config.ParsePeer(text)
			if err != nil || p.ID.IsZero() {
				return usagef("--from %s: want ID@HOST:PORT", text)
			}
			q.From = append(q.From, node.Source{Peer: p.ID.String(), Addr: p.Addr})
		}
		return appOf(cmd).recoverSpace(cmd.Context(), args[0], q)
	}
	return cmd
}

func (a *app) recoverSpace(ctx context.Context, path string, q node.Recovery) error {
	key, err := keyfile.Load(path, a.passphrase)
	if err != nil {
		return err
	}
	q.ID = replica.SpaceID(key.Public().(ed25519.PublicKey)).String()
	if _, err := a.ensureIdentity(); err != nil {
		return err
	}
	n, err := a.openToDial(ctx) // before the key is kept: a new store begins in an empty directory
	if err != nil {
		return err
	}
	if err = a.spaceKeys().Keep(q.ID, key); err == nil || errors.Is(err, fs.ErrExist) {
		err = a.recoverThrough(ctx, n, q)
	}
	return errors.Join(err, n.Close())
}

func (a *app) recoverThrough(ctx context.Context, n node.Node, q node.Recovery) error {
	s, err := n.RecoverSpace(ctx, q)
	if err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) { fmt.Fprintf(w, "this node may now administer %s\n", printable(s.Name)) })
}
