package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/trace"
	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica"
)

// memTableBytes is the least that a Badger store takes: there are many of them.
const memTableBytes = 8 << 20

// player runs one trace.
type player struct {
	opts   Options
	index  *trace.Index
	final  trace.State // nil: none was given
	fleet  *fleet
	dir    string       // of the stores; empty: in memory
	now    atomic.Int64 // Unix milliseconds, the time of the present line
	result *Result

	members map[int]*member // by index of the replica in the trace
	keepers map[int]*member // by line
	made    int
	open    map[*member]struct{}
	clock   uint64 // counts wakes

	uses    []int                // of each line's state by lines to come
	vectors []crdt.VersionVector // of each line's state while it has uses
}

// entry is the present line with its ops.
type entry struct {
	*trace.Entry
	line *trace.Line
	at   int
}

func (e *entry) hasParent(line int) bool { return slices.Contains(e.Parents, line) }

// Run replays a trace. The error says why it could not be run; what is wrong with the outcome is in the Result.
func Run(ctx context.Context, o Options) (result *Result, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	p := &player{opts: o, fleet: newFleet(o.Transport), members: make(map[int]*member), keepers: make(map[int]*member), open: make(map[*member]struct{})}
	if p.index, err = trace.ReadIndex(o.Trace); err != nil {
		return nil, err
	}
	if o.Final != "" {
		if p.final, err = trace.ReadState(o.Final); err != nil {
			return nil, err
		}
	}
	if o.Store == BadgerStore {
		if p.dir, err = os.MkdirTemp("", "anabranch-replay-"); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(p.dir)) }()
	}
	if o.most > 0 {
		p.index.Lines = p.index.Lines[:min(o.most, len(p.index.Lines))]
	}
	p.prepare()
	defer func() { err = errors.Join(err, p.closeAll()) }()
	began := time.Now()
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	if err := p.meet(ctx); err != nil {
		return nil, err
	}
	p.result.Took = time.Since(began)
	return p.result, nil
}

func (p *player) prepare() {
	x := p.index
	p.result = &Result{
		Trace: x.File, Store: p.opts.Store, Transport: p.opts.Transport,
		Lines: len(x.Lines), Ops: x.Puts + x.Removes + x.Deletes, Replicas: len(x.Replicas),
	}
	if p.opts.Final != "" {
		p.result.Final = filepath.Base(p.opts.Final)
	}
	p.uses = make([]int, len(x.Lines))
	p.vectors = make([]crdt.VersionVector, len(x.Lines))
	for i := range x.Lines {
		for _, parent := range x.Lines[i].Parents {
			p.uses[parent]++
		}
	}
}

func (p *player) closeAll() error {
	var errs []error
	for m := range p.open {
		errs = append(errs, p.sleep(m))
	}
	return errors.Join(errs...)
}

func (p *player) run(ctx context.Context) error {
	r, err := trace.Open(p.opts.Trace)
	if err != nil {
		return err
	}
	defer r.Close()
	for i := range p.index.Lines {
		p.opts.Progress(i, len(p.index.Lines)+len(p.index.Replicas))
		l, err := r.Next()
		if err == io.EOF || err == nil && l.Commit != p.index.Lines[i].Commit {
			return fmt.Errorf("%s has changed while it was read", p.index.File)
		}
		if err != nil {
			return err
		}
		if err := p.play(ctx, &entry{&p.index.Lines[i], l, i}); err != nil {
			return fmt.Errorf("%s: %s: %w", p.index.File, where(l), err)
		}
	}
	return nil
}

func where(l *trace.Line) string {
	return fmt.Sprintf("line %d (commit %s, replica %s)", l.Number, l.Commit, l.Replica)
}

// play runs one line.
func (p *player) play(ctx context.Context, e *entry) error {
	p.now.Store(e.Time)
	m := p.members[e.Replica]
	if m == nil {
		m = p.newMember(e.line.Replica, uint32(e.Replica)+1)
		p.members[e.Replica] = m
	}
	if err := p.wake(m); err != nil {
		return err
	}
	if err := p.keep(ctx, m, e); err != nil {
		return err
	}
	want, err := p.gather(ctx, m, e)
	if err != nil {
		return err
	}
	if len(e.Parents) > 1 {
		if err := p.countConflicts(ctx, m); err != nil {
			return err
		}
	}
	rc, err := m.commit(ctx, e.line.Ops)
	if err != nil {
		return err
	}
	if !rc.Dot.IsZero() {
		p.result.Transactions++
		want.Advance(rc.Dot)
		if t := hlc.FromUnixMilli(e.Time); rc.Dot.Time != t {
			p.result.find(Finding{Where: where(e.line), What: fmt.Sprintf("the transaction got the time %s, not %s", rc.Dot.Time, t)})
		}
	}
	if p.opts.disturb != nil {
		if err := p.opts.disturb(e.Number, m); err != nil {
			return err
		}
	}
	return p.settle(ctx, m, e, want)
}

// gather brings a replica to the merged state of the parents of its line, and returns the vector that it then must have.
func (p *player) gather(ctx context.Context, m *member, e *entry) (crdt.VersionVector, error) {
	var want crdt.VersionVector
	for _, parent := range e.Parents {
		want.Join(p.vectors[parent])
	}
	if !m.vector.LessOrEqual(want) {
		return want, fmt.Errorf("its parents lack something that its replica had before: line %d is not among their ancestors", p.index.Lines[m.at].Number)
	}
	for _, parent := range e.Parents {
		if err := p.fetch(ctx, m, parent); err != nil {
			return want, err
		}
	}
	if err := p.wake(m); err != nil { // it may have been closed for the others
		return want, err
	}
	for _, parent := range e.Parents {
		if err := p.release(parent); err != nil {
			return want, err
		}
	}
	return want, nil
}

// settle checks a replica after its line, and notes what it holds.
func (p *player) settle(ctx context.Context, m *member, e *entry, want crdt.VersionVector) error {
	m.note()
	m.at = e.at
	p.vectors[e.at] = m.vector
	if err := p.drop(e.at); err != nil {
		return err
	}
	hash, err := m.hash(ctx)
	if err != nil {
		return err
	}
	if hash != e.line.State {
		p.result.LinesDiffering++
		return p.explain(ctx, m, e, hash)
	}
	if !m.vector.Equal(want) {
		p.result.LinesDiffering++
		p.result.find(Finding{Where: where(e.line), What: fmt.Sprintf("the replica's vector is %s, and should be %s", m.vector, want)})
	}
	return nil
}

// commit makes the ops of a line, as one transaction.
func (m *member) commit(ctx context.Context, ops []trace.Op) (replica.Receipt, error) {
	return m.space.Update(ctx, func(tx *replica.Tx) error {
		for i := range ops {
			if err := apply(tx, &ops[i]); err != nil {
				return fmt.Errorf("ops[%d]: %w", i, err)
			}
		}
		return nil
	})
}

func apply(tx *replica.Tx, o *trace.Op) error {
	d := tx.Doc(o.Key)
	switch o.Kind {
	case trace.Put:
		return d.SetLeaves(o.Path, []crdt.Leaf{{Path: o.At, Value: o.Value}})
	case trace.Remove:
		return d.Remove(o.Path)
	}
	return d.Delete()
}
