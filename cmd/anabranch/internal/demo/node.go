package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/text/language"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
)

// spaceName is the space that the nodes share.
const spaceName = "world"

// node is one of the three.
type node struct {
	name     string
	language language.Tag
	field    string // of a region's names
	dir      string
	identity quicnet.Identity
	cable    *cable
	r        *replica.Replica
	space    *replica.Space
}

// cast is the nodes as they are before the network; each adds names in the language of its place.
func cast() []*node {
	return []*node{
		{name: "oslo", language: language.Norwegian, field: "no"},
		{name: "lima", language: language.Spanish, field: "es"},
		{name: "nairobi", language: language.Swahili, field: "sw"},
	}
}

// openNodes opens the nodes with stores below dir and lets each know the other two. Those that are open have to be closed
// also if there is an error.
func openNodes(nodes []*node, dir, space string, log *slog.Logger) error {
	for _, n := range nodes {
		if err := n.prepare(dir); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	for i, n := range nodes {
		if err := n.open(nodes, nodes[i+1:], space, log); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	return nil
}

// prepare makes what the other nodes need to know: the identity and the address.
func (n *node) prepare(dir string) (err error) {
	n.dir = filepath.Join(dir, n.name)
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		return err
	}
	if n.identity, err = quicnet.LoadOrCreateIdentity(n.dir); err != nil {
		return err
	}
	n.cable, err = newCable()
	return err
}

// open dials the peers in dial; the others dial this node.
func (n *node) open(all, dial []*node, space string, log *slog.Logger) error {
	var peers []replica.Peer
	for _, o := range dial {
		peers = append(peers, replica.Peer{ID: o.identity.PeerID(), Addr: o.cable.LocalAddr().String()})
	}
	transport, err := quicnet.New(quicnet.Config{
		Identity: n.identity, Listen: n.cable.LocalAddr().String(), PacketConn: n.cable, Logger: log,
		Allow: func(p replica.PeerID) bool {
			return slices.ContainsFunc(all, func(o *node) bool { return o != n && o.identity.PeerID() == p })
		},
	})
	if err != nil {
		return err
	}
	if n.r, err = replica.Open(replica.Config{Dir: n.dir, Transport: transport, Peers: peers, Logger: log}); err != nil {
		return errors.Join(err, transport.Close())
	}
	n.space, err = n.r.Space(space)
	return err
}

func closeNodes(nodes []*node) error {
	var errs []error
	for _, n := range nodes {
		switch {
		case n.r != nil:
			errs = append(errs, n.r.Close())
		case n.cable != nil:
			_ = n.cable.Close() // the transport may have closed it
		}
	}
	return errors.Join(errs...)
}

// vector returns what all nodes have together.
func vector(ctx context.Context, nodes []*node) (crdt.VersionVector, error) {
	var all crdt.VersionVector
	for _, n := range nodes {
		st, err := n.space.Status(ctx)
		if err != nil {
			return all, fmt.Errorf("node %s: %w", n.name, err)
		}
		all.Join(st.Vector)
	}
	return all, nil
}

// meet waits until every node has what all nodes have together now. If that does not come about, the error is ErrDiffer.
func meet(ctx context.Context, nodes []*node) error {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	all, err := vector(ctx, nodes)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if err := n.space.WaitVector(waiting, all); err != nil {
			err = fmt.Errorf("node %s: %w", n.name, err)
			if errors.Is(err, context.DeadlineExceeded) {
				err = fmt.Errorf("%w after %s: %w", ErrDiffer, patience, err)
			}
			return err
		}
	}
	return nil
}
