package replica

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/anabranch-db/anabranch/replica/backup"
	"github.com/anabranch-db/anabranch/replica/badgerstore"
	"github.com/anabranch-db/anabranch/replica/docstore"
	"github.com/anabranch-db/anabranch/replica/store"
)

// BackupOptions say what goes into a backup beside the store.
type BackupOptions struct {
	// Files are small files that Restore puts into the directory again, by name: for instance the node's identity. A backup
	// without it holds no secret but the documents.
	Files map[string][]byte
	// Program is the version of the program, for the header.
	Program string
	// Progress, if not nil, is called now and then.
	Progress func(entries, bytes int64)
}

// Backup writes the whole store as it is at one moment, while work goes on. Only when it returns without an error is the backup
// complete. Its memory does not grow with the store; until it ends the store keeps what it deletes.
func (r *Replica) Backup(ctx context.Context, w io.Writer, o BackupOptions) (backup.Summary, error) {
	snap, err := r.store.Snapshot()
	if err != nil {
		return backup.Summary{}, err
	}
	defer snap.Close()
	h := backup.Header{Created: r.cfg.Now().UTC(), Program: o.Program}
	if s, ok := r.store.(*badgerstore.Store); ok {
		h.Store = s.Info().ID
	}
	if h.Spaces, err = describeSpaces(snap); err != nil {
		return backup.Summary{}, err
	}
	out := bufio.NewWriterSize(w, 256<<10)
	b, err := backup.NewWriter(out, h)
	if err != nil {
		return backup.Summary{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(o.Files)) {
		if err := b.AddFile(name, o.Files[name]); err != nil {
			return backup.Summary{}, err
		}
	}
	entries, size := int64(0), int64(0)
	for e, err := range snap.Scan(nil, nil) {
		if err != nil {
			return backup.Summary{}, fmt.Errorf("read the store for the backup: %w", err)
		}
		if err := b.Add(e.Key, e.Value); err != nil {
			return backup.Summary{}, err
		}
		size += int64(len(e.Key) + len(e.Value))
		if entries++; entries%1024 == 0 {
			if err := errors.Join(context.Cause(ctx), context.Cause(r.ctx)); err != nil {
				return backup.Summary{}, err
			}
			if o.Progress != nil {
				o.Progress(entries, size)
			}
		}
	}
	sum, err := b.Close()
	if err != nil {
		return sum, err
	}
	return sum, out.Flush()
}

// describeSpaces tells for each space what a restored store is compared with.
func describeSpaces(snap store.Snapshot) ([]backup.Space, error) {
	numbers, err := docstore.Spaces(snap)
	if err != nil {
		return nil, err
	}
	spaces := []backup.Space{}
	for _, name := range slices.Sorted(maps.Keys(numbers)) {
		state, err := docstore.Load(snap, numbers[name])
		if err != nil {
			return nil, fmt.Errorf("space %q: %w", name, err)
		}
		spaces = append(spaces, backup.Space{
			Name: name, Number: numbers[name], Documents: state.Documents(), Digest: state.Digest().String(),
		})
	}
	return spaces, nil
}
