package keyfile

import (
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/anabranch-db/anabranch/replica/wholefile"
)

// Dir keeps keys under names, each in a file NAME.pem of one directory, which is made, with mode 0700, for the first of them.
type Dir struct {
	Path       string
	Passphrase Passphrase // nil: None. New keys get it, old ones are opened with it
}

func (d Dir) path(name string) string { return filepath.Join(d.Path, name+".pem") }

func (d Dir) passphrase() Passphrase {
	if d.Passphrase == nil {
		return None
	}
	return d.Passphrase
}

// Keep stores a key. It is on disk when Keep returns. It never replaces one: then the error is fs.ErrExist.
func (d Dir) Keep(name string, key ed25519.PrivateKey) error {
	word, err := d.passphrase()()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Path, 0o700); err != nil {
		return err
	}
	if err := wholefile.SyncDir(filepath.Dir(d.Path)); err != nil {
		return err
	}
	return Create(d.path(name), key, word)
}

// Key returns a key. The error is fs.ErrNotExist if there is none of that name.
func (d Dir) Key(name string) (ed25519.PrivateKey, error) { return Load(d.path(name), d.passphrase()) }

// Forget deletes a key; there need not be one.
func (d Dir) Forget(name string) error {
	err := os.Remove(d.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Files returns the paths of all keys.
func (d Dir) Files() ([]string, error) {
	entries, err := os.ReadDir(d.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".pem") {
			files = append(files, filepath.Join(d.Path, e.Name()))
		}
	}
	return files, nil
}
