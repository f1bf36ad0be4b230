package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	figForgetTime  = "from the last deletion until no trace is left at either member"
	figForgotCatch = "catch-up of a fresh node: time"
	figForgotWire  = "catch-up of a fresh node: wire"
	figForgotLeft  = "left on disk of the fresh node, closed"
	figForgotDisk  = "disk of the deleting node to that of one that never had them, closed"
)

// forgotten is W5 where the deletions are stable: two members have made and seen them, and pruned them.
var forgotten = workload{
	name:  "w5-stable",
	title: "half as many documents were made, a twentieth of them kept, and the others deleted and pruned by two members",
	once:  true,
	figures: []figure{
		{figForgetTime, "s", target{}},
		{figForgotCatch, "ms", target{}},
		{figForgotWire, "B/document", target{of: valueAtMost, bound: 400}},
		{figForgotLeft, "KB", target{}},
		{figForgotDisk, "", target{of: valueAtMost, bound: 1.5}},
	},
	trial: (*trial).forgotten,
}

func (t *trial) forgotten() error {
	n := t.o.Docs / 2
	kept := max(1, n/20)
	a, aOpen, err := t.prompt("a")
	if err != nil {
		return err
	}
	m, _, err := t.prompt("m")
	if err != nil {
		return err
	}
	loaded, err := t.load(a, n)
	if err != nil {
		return err
	}
	if _, err := t.catchUp("member", a, aOpen, m, loaded.Last); err != nil {
		return err
	}
	w, err := call[writeResult](a, "write", writeArgs{What: deleteDocument, First: kept, Count: n - kept, Writers: loadWriters})
	if err != nil {
		return err
	}
	end, err := untilForgotten(a, m)
	if err != nil {
		return err
	}
	t.record(figForgetTime, time.Duration(end.At-w.Ended).Seconds())
	if err := t.freshAfterForgetting(a, aOpen, w.Last, kept); err != nil {
		return err
	}
	if _, err := call[at](a, "compacted", nil); err != nil {
		return err
	}
	if err := errors.Join(t.stop(m), t.stop(a)); err != nil {
		return err
	}
	return t.compareDisk(kept)
}

// untilForgotten waits until all nodes have forgotten what is deleted, and returns when the last of them had.
func untilForgotten(nodes ...*process) (end at, err error) {
	for _, p := range nodes {
		if end, err = call[at](p, "forgotten", nil); err != nil {
			return end, err
		}
	}
	return end, nil
}

// freshAfterForgetting lets a node catch up that has nothing.
func (t *trial) freshAfterForgetting(a *process, aOpen openResult, last mark, kept int) error {
	tr, err := t.join("catchup", "b", a, aOpen, last, kept)
	if err != nil {
		return err
	}
	t.record(figForgotCatch, float64(tr.took.Microseconds())/1e3)
	t.record(figForgotWire, tr.wire/float64(kept))
	left, err := t.disk("b")
	t.record(figForgotLeft, left/1e3)
	return err
}

// join lets a node of the given name, which has nothing, take all documents from a, while another member that holds last is connected.
func (t *trial) join(what, name string, a *process, aOpen openResult, last mark, docs int) (transfer, error) {
	p, _, err := t.prompt(name)
	if err != nil {
		return transfer{}, err
	}
	tr, err := t.catchUpTo(what, a, aOpen, p, last, 2)
	if err != nil {
		return transfer{}, err
	}
	return tr, errors.Join(t.expectDocuments(p, docs), t.stop(p))
}

// compareDisk makes a store of just the documents that were kept.
func (t *trial) compareDisk(kept int) error {
	c, _, err := t.prompt("c")
	if err != nil {
		return err
	}
	if _, err := t.load(c, kept); err != nil {
		return err
	}
	if _, err := untilForgotten(c); err != nil {
		return err
	}
	if err := t.stop(c); err != nil {
		return err
	}
	never, err := t.disk("c")
	if err != nil {
		return err
	}
	left, err := t.disk("a")
	t.record(figForgotDisk, left/never)
	return err
}

// prompt opens a node that prunes what is stable at once.
func (t *trial) prompt(name string) (*process, openResult, error) {
	return t.nodeWith(name, openArgs{Sync: syncAlways, Prune: true})
}

// forgetter is a subject that forgets.
type forgetter interface {
	// forgotten returns when everything is stable and pruned.
	forgotten(ctx context.Context) error
	// compacted returns when the store has given back what room it does by itself.
	compacted(ctx context.Context) error
}

func (c *child) forget(ctx context.Context, what string) (at, error) {
	f, ok := c.subject.(forgetter)
	if !ok {
		return at{}, errors.New("this engine forgets nothing")
	}
	err := f.forgotten(ctx)
	end := time.Now().UnixNano()
	if err == nil && what == "compacted" {
		err = f.compacted(ctx)
	}
	return at{end}, err
}

const (
	forgetPatience = 15 * time.Minute       // at a million documents as many log entries have to go
	forgetPoll     = 100 * time.Millisecond // or ten times what asking took, for that counts what waits
	storePause     = 20 * time.Second       // in which the store would begin to give room back
)

func (o *ours) forgotten(ctx context.Context) error {
	return poll(ctx, "what was deleted is still there", func() (bool, error) {
		st, err := o.s.Status(ctx)
		return err == nil && st.Stable.Equal(st.Vector) && st.Stability.Waiting == 0, err
	})
}

// compacted waits for the store to do what it does by itself once there is a pause.
func (o *ours) compacted(ctx context.Context) error {
	last, since := int64(0), time.Now()
	return poll(ctx, "the store does not come to rest", func() (bool, error) {
		if now := o.r.Usage().DiskBytes; now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > storePause, nil
	})
}

func poll(ctx context.Context, why string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, forgetPatience)
	defer cancel()
	for {
		began := time.Now()
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-time.After(max(forgetPoll, 10*time.Since(began))):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", why, ctx.Err())
		}
	}
}
