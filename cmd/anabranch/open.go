package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/control"
	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// openNode returns the node that serves the store, or opens the store itself. A store that does not exist is made
// if create says so, and is node.ErrNoStore otherwise.
func (a *app) openNode(ctx context.Context, create bool) (n node.Node, err error) {
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
		if !create && !storeExists(dir) {
			return fmt.Errorf("%w in %s: the first `anabranch put`, `import` or `serve` makes one; name another directory with --dir", node.ErrNoStore, dir)
		}
		n, err = a.openStore(dir)
		return err
	})
	return n, err
}

// waitForStore calls open again while another process has the store open: a command has it for a moment only. The setting lock-wait says how
// long to try.
func (a *app) waitForStore(ctx context.Context, open func() error) error {
	giveUp := time.Now().Add(a.cfg.Duration("lock-wait"))
	for {
		err := open()
		if !errors.Is(err, store.ErrInUse) || !time.Now().Before(giveUp) {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) openStore(dir string) (node.Node, error) {
	r, err := replica.Open(a.replicaConfig(dir))
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%w: a store is opened for writing, also to read from it: make it writable, or work on a copy", err)
	}
	if err != nil {
		return nil, err
	}
	return node.NewLocal(node.LocalConfig{Replica: r, Dir: dir, Version: version(), PeerID: storedPeerID(dir), Tokens: a.openTokens}), nil
}

func (a *app) replicaConfig(dir string) replica.Config {
	c := replica.Config{
		Dir: dir, SyncInterval: a.cfg.Duration("sync-interval"), MaxDrift: a.cfg.Duration("max-drift"), Logger: a.log,
	}
	c.MaxOffline, c.PruneDelay = a.cfg.Duration("max-offline"), a.cfg.Duration("prune-delay")
	if c.PruneDelay == 0 {
		c.PruneDelay = -1 // none, in the terms of the library
	}
	if a.cfg.Text("sync") == "interval" {
		c.Sync = replica.SyncInterval
	}
	c.Now, c.SpaceKeys = a.wallClock(), a.spaceKeys()
	if id := a.storedIdentity(); id != nil {
		c.Identity = id
	}
	if offset := a.cfg.Duration("clock-offset"); offset != 0 {
		a.log.Warn("the clock is wrong on purpose: unset ANABRANCH_CLOCK_OFFSET", "offset", offset)
	}
	return c
}

// wallClock returns the clock that the replica goes by: the system's, unless a test sets it wrong. There is no flag for that, so that
// nobody takes it for a way to mend a clock.
func (a *app) wallClock() func() time.Time {
	offset := a.cfg.Duration("clock-offset")
	if offset == 0 {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(offset) }
}

// storeExists reports whether there is anything in dir but what this command puts there itself. What it is, and whether it is whole, is
// for the store to say.
func storeExists(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	for _, e := range entries {
		switch e.Name() {
		case "anabranch.toml", "LOCK", control.SocketName, quicnet.IdentityFile, replica.KeysDir, importsDir, gateway.TokenKeyFile, gateway.TokensFile, acmeDir:
		default:
			return true
		}
	}
	return false
}

// storedPeerID returns the peer ID of the store, "" if it has none yet or it cannot be read.
func storedPeerID(dir string) string {
	id, err := quicnet.IdentityOf(dir)
	if err != nil {
		return ""
	}
	return id.String()
}

// withNode opens the node, runs fn and closes. An error of closing a store that was written to counts.
func (a *app) withNode(ctx context.Context, create bool, fn func(node.Node) error) error {
	n, err := a.openNode(ctx, create)
	if err != nil {
		return err
	}
	return errors.Join(fn(n), n.Close())
}
