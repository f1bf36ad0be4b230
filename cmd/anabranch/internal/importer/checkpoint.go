package importer

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/records"
)

const (
	// headBytes is how much of the beginning of an input a checkpoint is found by, at most.
	headBytes = 64 << 10
	// maxAge is how long the checkpoint of an import that nobody went on with is kept.
	maxAge = 30 * 24 * time.Hour
	// maxCheckpoints bounds how many are looked at.
	maxCheckpoints = 1000
	// maxCheckpointBytes bounds what is read of one; a real one has some 500 bytes.
	maxCheckpointBytes = 4 << 10
)

// checkpoint says how far an import has come.
type checkpoint struct {
	Space     string           `json:"space"`
	Key       string           `json:"key"`
	Format    records.Format   `json:"format"` // as asked for
	HeadBytes int64            `json:"head_bytes"`
	HeadHash  string           `json:"head_hash"`
	Position  records.Position `json:"position"`
	Hash      string           `json:"hash"` // of the input up to there
	Committed int64            `json:"committed"`
	Skipped   int64            `json:"skipped"`

	path string // "" until it is saved first
}

func (c *checkpoint) isOf(o Options) bool {
	return c.Space == o.Space && c.Key == o.Key && c.Format == o.Format
}

// findCheckpoints reads the checkpoints of imports like this one, and removes those that are too old.
func findCheckpoints(dir string, o Options, now time.Time) []*checkpoint {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // none was ever written
	}
	var found []*checkpoint
	for _, e := range entries[:min(len(entries), maxCheckpoints)] {
		path := filepath.Join(dir, e.Name())
		info, err := e.Info()
		switch {
		case err != nil || !info.Mode().IsRegular():
		case now.Sub(info.ModTime()) > maxAge:
			_ = os.Remove(path) // the next import tries again
		case info.Size() <= maxCheckpointBytes && strings.HasSuffix(e.Name(), ".json"):
			if c := readCheckpoint(path); c != nil && c.isOf(o) {
				found = append(found, c)
			}
		}
	}
	return found
}

// readCheckpoint returns nil for a file that is no sound checkpoint, as after a power cut.
func readCheckpoint(path string) *checkpoint {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	c, err := parseCheckpoint(text)
	if err != nil {
		return nil
	}
	c.path = path
	return c
}

var errCheckpoint = errors.New("checkpoint is not sound")

func parseCheckpoint(text []byte) (*checkpoint, error) {
	c := new(checkpoint)
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, err
	}
	p := c.Position
	if p.Offset <= 0 || p.Line < 1 || p.Records < 1 || c.Committed < 0 || c.Skipped < 0 || c.HeadBytes < 1 || c.HeadBytes > min(headBytes, p.Offset) {
		return nil, errCheckpoint
	}
	switch p.Format {
	case records.Lines, records.Array, records.Object:
		return c, nil
	}
	return nil, errCheckpoint
}

func (c *checkpoint) save(dir string) error {
	if c.path == "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		c.path = filepath.Join(dir, strings.ToLower(rand.Text())+".json")
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	temp := c.path + ".tmp"
	if err := os.WriteFile(temp, text, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, c.path)
}

func (c *checkpoint) remove() error {
	if c.path == "" {
		return nil
	}
	if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func hashText(h *xxh3.Hasher) string {
	sum := h.Sum128().Bytes()
	return hex.EncodeToString(sum[:])
}
