package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
)

// Stage is a part of the demonstration.
type Stage int

// The stages, in their order.
const (
	Opened Stage = iota
	Loaded
	Apart
	Healed
	Settled
	Finished
)

// patience bounds each wait for the nodes to meet. It is far more than they need.
const patience = 30 * time.Second

// ErrDiffer says that the nodes do not hold the same in the end, which must never be.
var ErrDiffer = errors.New("the nodes differ")

// Options says how to run the demonstration. The zero value will do.
type Options struct {
	// Show is called after each stage, with what is known by then.
	Show   func(Stage, *Report)
	Logger *slog.Logger // of the nodes; nil: silent

	// meddle is called before the last comparison, by tests.
	meddle func(nodes []*node) error
}

// demo is one run.
type demo struct {
	opts   Options
	nodes  []*node
	report *Report
}

// Run shows the demonstration. Nothing is left of it afterwards, also if ctx ends early. The error is ErrDiffer if the
// nodes do not hold the same; then there is a Report as well.
func Run(ctx context.Context, o Options) (report *Report, err error) {
	if o.Show == nil {
		o.Show = func(Stage, *Report) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "anabranch-demo-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{opts: o, nodes: cast(), report: new(Report)}
	defer func() { err = errors.Join(err, closeNodes(d.nodes)) }()
	if err := openNodes(d.nodes, dir, spaceName, o.Logger); err != nil {
		return nil, err
	}
	return d.report, d.run(ctx)
}

func (d *demo) run(ctx context.Context) error {
	began := time.Now()
	for _, n := range d.nodes {
		d.report.Nodes = append(d.report.Nodes, Node{Name: n.name, PeerID: n.identity.PeerID().String(), Address: n.cable.LocalAddr().String()})
	}
	d.opts.Show(Opened, d.report)
	for _, s := range []struct {
		stage Stage
		run   func(context.Context) error
	}{{Loaded, d.write}, {Apart, d.part}, {Healed, d.heal}, {Settled, d.settle}, {Finished, d.finish}} {
		if err := s.run(ctx); err != nil {
			return err
		}
		d.report.Seconds = time.Since(began).Seconds()
		d.opts.Show(s.stage, d.report)
	}
	if !d.report.OK {
		return fmt.Errorf("%w: their digests or documents are not equal", ErrDiffer)
	}
	return nil
}

// write lets the first node write all regions, in one transaction, and waits until the others have them.
func (d *demo) write(ctx context.Context) error {
	began := time.Now()
	regions := world()
	rc, err := d.nodes[0].space.Update(ctx, func(tx *replica.Tx) error {
		for _, g := range regions {
			record := map[string]any{"code": g.code, "iso3": g.region.ISO3(), "name": map[string]any{"en": g.name(english)}}
			if err := tx.Doc(g.key()).Replace(record); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := meet(ctx, d.nodes); err != nil {
		return err
	}
	if err := level(ctx, d.nodes, rc); err != nil {
		return err
	}
	d.report.Written.Regions, d.report.Written.Seconds = len(regions), time.Since(began).Seconds()
	return nil
}

// level waits until every node knows that the two others have a transaction, so that nothing of it waits to be sent.
func level(ctx context.Context, nodes []*node, rc replica.Receipt) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, n := range nodes {
		if err := n.space.WaitSynced(ctx, rc, len(nodes)-1); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	return nil
}

// part cuts the network and lets each node work alone.
func (d *demo) part(ctx context.Context) error {
	began := time.Now()
	for _, n := range d.nodes {
		n.cable.cut.Store(true)
	}
	for i, n := range d.nodes {
		if err := d.edit(ctx, i, n); err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
	}
	a := &d.report.Apart
	a.Pending = make(map[string]int64)
	for _, n := range d.nodes {
		st, err := n.space.Status(ctx)
		if err != nil {
			return err
		}
		for _, p := range st.Peers {
			a.Pending[n.name] = max(a.Pending[n.name], p.Pending)
		}
	}
	a.Seconds = time.Since(began).Seconds()
	return nil
}

// heal mends the network and waits until all have everything.
func (d *demo) heal(ctx context.Context) error {
	began := time.Now()
	for _, n := range d.nodes {
		n.cable.cut.Store(false)
		d.report.Apart.LostPackets += n.cable.lost.Load()
	}
	if err := meet(ctx, d.nodes); err != nil {
		return err
	}
	d.report.Healed.Seconds = time.Since(began).Seconds()
	return d.look(ctx)
}

// settle writes the disputed field once more, at a node that has seen every value of it.
func (d *demo) settle(ctx context.Context) error {
	began := time.Now()
	n := d.nodes[len(d.nodes)-1]
	s := &d.report.Settled
	s.Node, s.Value = n.name, disputedSettled
	_, err := n.space.Update(ctx, func(tx *replica.Tx) error {
		return tx.Doc(regionKey(disputed)).Set(crdt.Path{"name", "en"}, s.Value)
	})
	if err != nil {
		return err
	}
	if err := meet(ctx, d.nodes); err != nil {
		return err
	}
	s.Seconds = time.Since(began).Seconds()
	for _, n := range d.nodes {
		for doc, err := range n.space.Scan(ctx, "") {
			if err != nil {
				return err
			}
			s.Conflicts += len(doc.Conflicts())
		}
	}
	return nil
}
