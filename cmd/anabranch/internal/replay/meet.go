package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/trace"
	"github.com/anabranch-db/anabranch/crdt"
)

// meet lets all replicas of the trace sync with one, first to collect what each has and then to hand everything out, and checks
// that they then agree with each other and with the final state.
func (p *player) meet(ctx context.Context) error {
	if len(p.index.Lines) == 0 {
		return p.checkFinal(make(trace.State))
	}
	for _, e := range p.index.Lines {
		p.now.Store(max(p.now.Load(), e.Time))
	}
	hub := p.members[p.index.Lines[len(p.index.Lines)-1].Replica]
	others := make([]*member, 0, len(p.members))
	for _, i := range slices.Sorted(maps.Keys(p.members)) {
		if m := p.members[i]; m != hub {
			others = append(others, m)
		}
	}
	for _, m := range others {
		if m.vector.LessOrEqual(hub.vector) {
			continue
		}
		if err := p.sync(ctx, m, hub, hub.vector, true); err != nil {
			return err
		}
		hub.note()
	}
	digest, err := p.checkHub(ctx, hub)
	if err != nil {
		return err
	}
	for i, m := range others {
		p.opts.Progress(len(p.index.Lines)+i, len(p.index.Lines)+len(p.index.Replicas))
		if err := p.checkOther(ctx, m, hub, digest); err != nil {
			return err
		}
	}
	return nil
}

// checkHub computes everything of one replica anew, and compares it with the final state.
func (p *player) checkHub(ctx context.Context, hub *member) (crdt.Digest, error) {
	if err := p.wake(hub); err != nil {
		return crdt.Digest{}, err
	}
	got, err := hub.state(ctx)
	if err != nil {
		return crdt.Digest{}, err
	}
	st := hub.space.Summary()
	p.result.Hash, p.result.Digest = got.Hash(), st.Digest.String()
	p.result.Documents = len(got)
	for _, fields := range got {
		p.result.Fields += len(fields)
	}
	kept, err := hub.hash(ctx)
	if err == nil && kept != p.result.Hash {
		p.result.find(Finding{Where: "replica " + hub.name, What: fmt.Sprintf("the hash that was kept up is %s, and computed anew it is %s", kept, p.result.Hash)})
	}
	if err != nil {
		return crdt.Digest{}, err
	}
	return st.Digest, p.checkFinal(got)
}

func (p *player) checkFinal(got trace.State) error {
	if p.final == nil {
		return nil
	}
	f := Finding{Where: p.result.Final, What: "the state after all replicas have met is another one"}
	if f.Differences, f.Documents = trace.Diff(p.final, got, maxDifferences); f.Documents > 0 {
		p.result.FinalDiffering = f.Documents
		p.result.find(f)
	}
	return nil
}

// checkOther brings a replica up to the hub and compares the two.
func (p *player) checkOther(ctx context.Context, m, hub *member, digest crdt.Digest) error {
	if !hub.vector.LessOrEqual(m.vector) {
		if err := p.sync(ctx, m, hub, hub.vector, false); err != nil {
			return err
		}
	}
	if err := p.wake(m); err != nil {
		return err
	}
	st := m.space.Summary()
	hash, err := m.hash(ctx)
	if err != nil {
		return err
	}
	if st.Vector.Equal(hub.vector) && st.Digest == digest && hash == p.result.Hash {
		return nil
	}
	p.result.ReplicasDiffering++
	f := Finding{
		Where: "replica " + m.name,
		What: fmt.Sprintf("after all have met its state is %s with digest %s, and that of %s is %s with %s",
			hash, st.Digest, hub.name, p.result.Hash, digest),
	}
	if err := p.compare(ctx, m, hub, &f); err != nil {
		return err
	}
	p.result.find(f)
	return nil
}

func (p *player) compare(ctx context.Context, m, hub *member, f *Finding) error {
	if err := p.wake(hub); err != nil {
		return err
	}
	want, err := hub.state(ctx)
	if err != nil {
		return err
	}
	got, err := m.state(ctx)
	if err == nil {
		f.Differences, f.Documents = trace.Diff(want, got, maxDifferences)
	}
	return err
}
