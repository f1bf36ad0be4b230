package replay

import (
	"context"
	"fmt"
	"maps"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/trace"
)

// hash returns the hash of what all documents of a replica show. They are all read; only those that changed since the last
// time are hashed.
func (m *member) hash(ctx context.Context) (string, error) {
	h := trace.NewHash()
	present := make(map[string]documentHash, len(m.documents))
	for d, err := range m.space.Scan(ctx, "") {
		if err != nil {
			return "", fmt.Errorf("read replica %s: %w", m.name, err)
		}
		known, ok := m.documents[d.Key]
		if !ok || known.cursor != d.Cursor {
			known = documentHash{d.Cursor, trace.HashDocument(d.Leaves())}
		}
		present[d.Key] = known
		h.Add(d.Key, known.hash)
	}
	m.documents = present
	return h.String(), nil
}

// state returns what all documents of a replica show.
func (m *member) state(ctx context.Context) (trace.State, error) {
	s := make(trace.State)
	for d, err := range m.space.Scan(ctx, "") {
		if err != nil {
			return nil, fmt.Errorf("read replica %s: %w", m.name, err)
		}
		s[d.Key] = maps.Collect(d.Leaves())
	}
	return s, nil
}

func (p *player) countConflicts(ctx context.Context, m *member) error {
	for d, err := range m.space.Scan(ctx, "") {
		if err != nil {
			return fmt.Errorf("read replica %s: %w", m.name, err)
		}
		p.result.Conflicts += len(d.Conflicts())
	}
	return nil
}

// explain finds out what is wrong after a line: the replica, or the hash.
func (p *player) explain(ctx context.Context, m *member, e *entry, hash string) error {
	if len(p.result.Findings) >= maxFindings {
		return nil
	}
	want, err := trace.Expect(p.opts.Trace, p.index, e.at)
	if err != nil {
		return err
	}
	got, err := m.state(ctx)
	if err != nil {
		return err
	}
	f := Finding{Where: where(e.line), What: fmt.Sprintf("the state is %s, and should be %s", hash, e.line.State)}
	f.Differences, f.Documents = trace.Diff(want, got, maxDifferences)
	switch {
	case f.Documents == 0 && got.Hash() != hash:
		f.What += "; the hash that was kept up is wrong: computed anew it is " + got.Hash()
	case f.Documents == 0:
		f.What += "; the documents are what the ops of the trace come to by its own rules, so its hash is wrong"
	case want.Hash() != e.line.State:
		f.What += "; the ops of the trace come to " + want.Hash() + ", so its hash is wrong too"
	}
	p.result.find(f)
	return nil
}
