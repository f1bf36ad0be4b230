package badgerstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/anabranch-db/anabranch/replica/store"
)

// formatVersion is the version of the store's layout on disk. Raise it with any change that an older program would
// misread.
const formatVersion = 1

const sidecarName = "STORE"

// sidecar is the small file beside Badger's that says what must be there. Badger takes a lost MANIFEST for a new
// store and deletes the tables; a shortened one, and it deletes the newest table.
type sidecar struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Phase   phase     `json:"phase"`
	Last    uint64    `json:"last"`  // the time of a commit that is durable; there may be later ones
	Sync    string    `json:"sync"`  // SyncMode of the session that wrote this
	Boot    string    `json:"boot"`  // boot ID of the machine then
	Files   string    `json:"files"` // in phase closed: fingerprint of Badger's files
}

// phase is how far the last session got.
type phase string

const (
	phaseNew     phase = "new"     // being made: Open has never returned, so there is nothing to lose
	phaseOpening phase = "opening" // Badger may be replaying and flushing its logs
	phaseOpen    phase = "open"    // there is at least one log
	phaseClosing phase = "closing" // Badger may be flushing and deleting its logs
	phaseClosed  phase = "closed"  // there is no log, and the files are as the fingerprint says
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// write replaces the sidecar file: one line of JSON, one of checksum.
func (sc sidecar) write(dir string) error {
	line, err := json.Marshal(sc)
	if err == nil {
		line = append(line, '\n')
		line = fmt.Appendf(line, "crc32c %08x\n", crc32.Checksum(line, castagnoli))
		err = writeFile(filepath.Join(dir, sidecarName), line)
	}
	if err != nil {
		return fmt.Errorf("write %s of %s: %w", sidecarName, dir, err)
	}
	return nil
}

// readSidecar returns nil if there is no such file.
func readSidecar(dir string) (*sidecar, error) {
	path := filepath.Join(dir, sidecarName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	end := bytes.IndexByte(text, '\n') + 1
	line, sum := text[:end], string(text[end:])
	if sum != fmt.Sprintf("crc32c %08x\n", crc32.Checksum(line, castagnoli)) {
		return nil, damaged(dir, "the file %s has a wrong checksum", sidecarName)
	}
	var sc sidecar
	if err := json.Unmarshal(line, &sc); err != nil {
		return nil, damaged(dir, "the file %s cannot be read: %v", sidecarName, err)
	}
	if sc.Format > formatVersion {
		return nil, fmt.Errorf("open %s: %w: format %d, this program knows up to %d: upgrade the program, or restore a backup of format %d",
			dir, store.ErrNewerFormat, sc.Format, formatVersion, formatVersion)
	}
	if sc.Format < 1 || len(sc.ID) != 2*storeIDBytes {
		return nil, damaged(dir, "the file %s has format %d and a store ID of %d digits", sidecarName, sc.Format, len(sc.ID))
	}
	return &sc, nil
}

const storeIDBytes = 16

// damaged makes an error for what was found before anything was changed.
func damaged(dir, format string, args ...any) error {
	return fmt.Errorf("open %s: %w: %s; nothing was changed: %s", dir, store.ErrDamaged, fmt.Sprintf(format, args...), damageAdvice)
}

// damagedInside makes an error for what was found when Badger had been opened.
func damagedInside(dir, format string, args ...any) error {
	return fmt.Errorf("open %s: %w: %s: %s", dir, store.ErrDamaged, fmt.Sprintf(format, args...), damageAdvice)
}

const damageAdvice = "keep a copy of the directory, then restore a backup, or start with a new directory and fetch everything from the peers"
