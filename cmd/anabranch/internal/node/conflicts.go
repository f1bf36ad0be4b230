package node

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/crdt/hlc"
	"github.com/anabranch-db/anabranch/replica"
)

// Inbox is what a Node can be asked of the documents that have conflicts.
type Inbox interface {
	// Conflicts yields the documents that have conflicts, in the order of their keys, and with Watch goes on with those whose number of
	// conflicts changes, until ctx ends.
	Conflicts(ctx context.Context, space string, o ConflictOptions) iter.Seq2[Conflicted, error]
	// SettleAll settles the conflicts of all documents of a range by a rule, and tells after each transaction how far it is. The last
	// item is the outcome.
	SettleAll(ctx context.Context, space string, o SettleOptions) iter.Seq2[Settled, error]
}

// ConflictOptions say which documents to yield. The zero value is all that have conflicts now.
type ConflictOptions struct {
	Prefix string
	After  string // only keys greater than this; not with Watch
	Limit  int    // 0: no limit; not with Watch
	Watch  bool
}

// Conflicted is a document that has conflicts, or, with Watch, has none any more.
type Conflicted struct {
	Key       string `json:"key"`
	Conflicts int64  `json:"conflicts"`
}

// SettleOptions say what to settle, and how.
type SettleOptions struct {
	Rule   string // see ParseRule
	Prefix string
	After  string // only documents with greater keys: where an earlier run ended
}

// Settled tells how far SettleAll is.
type Settled struct {
	Documents int64  `json:"documents"` // looked at
	Settled   int64  `json:"settled"`   // conflicts
	Left      int64  `json:"left"`      // conflicts that the rule left open
	After     string `json:"after"`     // the last document: where to go on
}

// RuleHelp tells of the rules, for people.
const RuleHelp = `newest keeps what shows, oldest takes what was written first, author:REPLICA-ID takes what that replica wrote, and leaves conflicts
open in which it has no part.`

// ParseRule returns the rule that a text names.
func ParseRule(text string) (crdt.Rule, error) {
	author, isAuthor := strings.CutPrefix(text, "author:")
	switch {
	case text == "newest":
		return func(crdt.Contest) crdt.Verdict { return crdt.KeepShown() }, nil
	case text == "oldest":
		return takeOldest, nil
	case isAuthor:
		id, err := crdt.ParseReplicaID(author)
		if err != nil {
			return nil, fmt.Errorf("%w: rule %.40q: %w", ErrRequest, text, err)
		}
		return takeOf(id), nil
	}
	return nil, fmt.Errorf("%w: rule %.40q: want newest, oldest or author:REPLICA-ID", ErrRequest, text)
}

func takeOldest(c crdt.Contest) crdt.Verdict {
	best, at := crdt.KeepShown(), c.Time
	for i, lost := range c.Lost {
		if lost.Time < at {
			best, at = crdt.TakeLost(i), lost.Time
		}
	}
	return best
}

// takeOf prefers the newest value of one author.
func takeOf(author crdt.ReplicaID) crdt.Rule {
	return func(c crdt.Contest) crdt.Verdict {
		if c.Author == author {
			return crdt.KeepShown()
		}
		best, at := crdt.LeaveOpen(), hlc.Time(0)
		for i, lost := range c.Lost {
			if lost.Author == author && lost.Time > at {
				best, at = crdt.TakeLost(i), lost.Time
			}
		}
		return best
	}
}

// conflictID names the value that lost among those of its path.
func conflictID(d crdt.Dot) string { return fmt.Sprintf("%s-%d", d.Replica, uint64(d.Time)) }

func parseConflictID(text string) (crdt.Dot, error) {
	id, at, ok := strings.Cut(text, "-")
	if ok {
		r, err := crdt.ParseReplicaID(id)
		t, terr := strconv.ParseUint(at, 10, 64)
		if err == nil && terr == nil {
			return crdt.Dot{Replica: r, Time: hlc.Time(t)}, nil
		}
	}
	return crdt.Dot{}, fmt.Errorf("%w: %.60q names no conflict", ErrRequest, text)
}

// settle is the operation OpSettle: at a path and below by a rule, or by taking one value that lost.
func (op *Op) settle(d *replica.TxDoc) error {
	p := op.parsed
	if op.Take == "" {
		_, err := d.Settle(p.path, p.rule)
		return err
	}
	conflicts, err := d.Conflicts(p.path)
	if err != nil {
		return err
	}
	at, err := p.path.Pack()
	if err != nil {
		return err
	}
	for _, c := range conflicts {
		if c.Path == at && c.Dot == p.take {
			_, err := d.Settle(p.path, take(c))
			return err
		}
	}
	return fmt.Errorf("%w: the value that was chosen at %s has gone meanwhile: look again with `anabranch conflicts show`", replica.ErrNotFound, op.Path)
}

// take is the rule that chooses one value, and leaves open what it is not concerned with.
func take(chosen crdt.Conflict) crdt.Rule {
	return func(c crdt.Contest) crdt.Verdict {
		for i, lost := range c.Lost {
			if lost.Path == chosen.Path && lost.Dot == chosen.Dot {
				return crdt.TakeLost(i)
			}
		}
		return crdt.LeaveOpen()
	}
}

// Conflicts yields the documents that have conflicts. While this process has the store open and does not serve it, nothing else can
// change, and Watch ends behind what is there.
func (l *Local) Conflicts(ctx context.Context, space string, o ConflictOptions) iter.Seq2[Conflicted, error] {
	return func(yield func(Conflicted, error) bool) {
		s, err := l.existing(space)
		if err != nil {
			yield(Conflicted{}, err)
			return
		}
		docs := s.ConflictDocs(ctx, replica.Range{Prefix: o.Prefix, After: o.After, Limit: o.Limit})
		if o.Watch && l.serving {
			docs = s.WatchConflicts(ctx)
		}
		for c, err := range docs {
			if err == nil && !strings.HasPrefix(c.Key, o.Prefix) {
				continue
			}
			if !yield(Conflicted(c), err) {
				return
			}
		}
	}
}

// SettleAll settles the conflicts of all documents of a range.
func (l *Local) SettleAll(ctx context.Context, space string, o SettleOptions) iter.Seq2[Settled, error] {
	return func(yield func(Settled, error) bool) {
		rule, err := ParseRule(o.Rule)
		if err != nil {
			yield(Settled{}, err)
			return
		}
		s, err := l.existing(space)
		if err != nil {
			yield(Settled{}, err)
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		going := true
		done, err := s.SettleAll(ctx, replica.SettleOptions{Rule: rule, Prefix: o.Prefix, After: o.After, Progress: func(p replica.SettleProgress) {
			if going = going && yield(Settled(p), nil); !going {
				cancel()
			}
		}})
		if going {
			yield(Settled(done), err)
		}
	}
}
