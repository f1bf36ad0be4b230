package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func init() { workFactor = 4 } // the real one takes a second

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func word(text string) Passphrase { return func() (string, error) { return text, nil } }

func TestKeysAreKept(t *testing.T) {
	for _, passphrase := range []string{"", "correct horse"} {
		path := filepath.Join(t.TempDir(), "key.pem")
		key := newKey(t)
		if err := Create(path, key, passphrase); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		got, err := Load(path, word(passphrase))
		if err != nil || !got.Equal(key) {
			t.Errorf("passphrase %q: %v", passphrase, err)
		}
		public, locked, err := Public(path)
		if err != nil || !public.Equal(key.Public()) || locked != (passphrase != "") {
			t.Errorf("passphrase %q: public key %v, locked %v, %v", passphrase, public, locked, err)
		}
		if err := Create(path, newKey(t), ""); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a key was replaced: %v", err)
		}
		if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
			t.Errorf("left in the directory: %v, %v", entries, err)
		}
	}
}

func TestPassphrases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key := newKey(t)
	if err := Create(path, key, "old"); err != nil {
		t.Fatal(err)
	}
	asked := errors.New("asked")
	for name, c := range map[string]struct {
		given Passphrase
		want  error
	}{
		"none":         {None, ErrLocked},
		"a wrong one":  {word("new"), ErrPassphrase},
		"one too long": {word(strings.Repeat("old", 2)), ErrPassphrase},
		"no answer":    {func() (string, error) { return "", asked }, asked},
	} {
		if _, err := Load(path, c.given); !errors.Is(err, c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := ChangePassphrase(path, c.given, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: changed: %v, want %v", name, err, c.want)
		}
	}
	for _, step := range []struct{ old, new string }{{"old", "new"}, {"new", ""}, {"", "again"}} {
		if err := ChangePassphrase(path, word(step.old), step.new); err != nil {
			t.Fatal(err)
		}
		if got, err := Load(path, word(step.new)); err != nil || !got.Equal(key) {
			t.Fatalf("after the change to %q: %v", step.new, err)
		}
	}
}

// Nothing of the key is in a file that has a passphrase.
func TestALockedFileDoesNotHoldTheKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	key := newKey(t)
	if err := Create(path, key, "secret"); err != nil {
		t.Fatal(err)
	}
	block, err := readBlock(path)
	if err != nil || bytes.Contains(block.Bytes, key.Seed()) || !bytes.Contains(block.Bytes, []byte("scrypt")) {
		t.Errorf("the file holds the key, or is not of age: %v", err)
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	if err := Create(path, newKey(t), "secret"); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other.pem")
	if err := Create(other, newKey(t), "secret"); err != nil {
		t.Fatal(err)
	}
	otherBlock, err := readBlock(other)
	if err != nil {
		t.Fatal(err)
	}
	block, err := readBlock(path)
	if err != nil {
		t.Fatal(err)
	}
	swapped := strings.Replace(string(whole), block.Headers[publicName], otherBlock.Headers[publicName], 1)
	for name, data := range map[string]string{
		"empty": "", "cut off": string(whole[:len(whole)-60]), "another's public key": swapped,
		"one letter changed": strings.Replace(string(whole), "YWdl", "YWdm", 1),
	} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(path, word("secret")); !errors.Is(err, ErrNoKey) {
			t.Errorf("%s: %v, want %v", name, err, ErrNoKey)
		}
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path, word("secret")); !errors.Is(err, ErrMode) {
		t.Errorf("%v, want %v", err, ErrMode)
	}
}

func TestDir(t *testing.T) {
	d := Dir{Path: filepath.Join(t.TempDir(), "keys"), Passphrase: word("x")}
	if files, err := d.Files(); err != nil || len(files) != 0 {
		t.Errorf("before there is one: %v, %v", files, err)
	}
	if _, err := d.Key("a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that is not there: %v", err)
	}
	key := newKey(t)
	if err := d.Keep("a", key); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Key("a"); err != nil || !got.Equal(key) {
		t.Errorf("%v", err)
	}
	if files, err := d.Files(); err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	info, err := os.Stat(d.Path)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for range 2 {
		if err := d.Forget("a"); err != nil {
			t.Error(err)
		}
	}
}
