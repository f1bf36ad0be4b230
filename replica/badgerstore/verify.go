package badgerstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/table"

	"github.com/anabranch-db/anabranch/replica/store"
)

// VerifyTables reads every block of every table of the store in dir and compares the checksums, at about a
// gigabyte a second. progress, if not nil, is called after each table. The error lists all damaged tables and wraps
// store.ErrDamaged. The store may be open, here or elsewhere: nothing is written or locked, and tables that a
// compaction removes meanwhile are left out. Badger's own check dies of a damaged table; this one does not use Badger to
// read them, so no child process is needed.
func VerifyTables(ctx context.Context, dir string, progress func(done, total int)) error {
	sc, err := readSidecar(dir)
	if err != nil {
		return err
	}
	if sc == nil {
		return fmt.Errorf("verify %s: there is no store: %w", dir, fs.ErrNotExist)
	}
	data := dataDir(dir)
	manifest, err := readManifest(data)
	if err != nil {
		return fmt.Errorf("verify %s: %w: the file %s: %w", dir, store.ErrDamaged, badger.ManifestFilename, err)
	}
	ids := make([]uint64, 0, len(manifest))
	for id := range manifest {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	var bad []error
	for i, id := range ids {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verify %s: %w", dir, err)
		}
		_, err := checkTable(table.NewFilename(id, data), manifest[id].Compression, true)
		if err != nil && !removed(data, id) {
			bad = append(bad, fmt.Errorf("%w: the table %s: %w", store.ErrDamaged, table.IDToFilename(id), err))
		}
		if progress != nil {
			progress(i+1, len(ids))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("verify %s: %w; %s", dir, errors.Join(bad...), damageAdvice)
	}
	return nil
}

// removed reports whether a compaction has replaced the table since the manifest was read.
func removed(data string, id uint64) bool {
	manifest, err := readManifest(data)
	if err != nil {
		return false
	}
	if _, named := manifest[id]; named {
		return false
	}
	_, err = os.Lstat(table.NewFilename(id, data))
	return errors.Is(err, fs.ErrNotExist)
}
