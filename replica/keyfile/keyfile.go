package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base32"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/anabranch-db/anabranch/replica/wholefile"
)

// Errors of key files.
var (
	// ErrLocked: the file needs a passphrase, and none was given.
	ErrLocked = errors.New("the key has a passphrase")
	// ErrPassphrase: it was given the wrong one.
	ErrPassphrase = errors.New("wrong passphrase")
	// ErrNoKey: what is in the file is no key.
	ErrNoKey = errors.New("it holds no key")
	// ErrMode: others may read it.
	ErrMode = errors.New("other users may read the key")
)

// Passphrase returns the passphrase of a key, "" if it has none. It is asked at most once for each file that is opened, and only if that
// has one.
type Passphrase func() (string, error)

// None is the Passphrase of who has none.
func None() (string, error) { return "", nil }

const (
	plainType  = "PRIVATE KEY"
	lockedType = "ANABRANCH ENCRYPTED KEY"
	publicName = "Public-Key"
	// maxFileBytes bounds what is read of a file; a real one has a few hundred bytes.
	maxFileBytes = 4 << 10
)

// workFactor is scrypt's cost, as a power of two: 18 is what age itself takes. Tests lower it.
var workFactor = 18

var encoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// Load reads the key in a file. The error is fs.ErrNotExist if there is no file.
func Load(path string, passphrase Passphrase) (ed25519.PrivateKey, error) {
	block, err := readBlock(path)
	if err != nil {
		return nil, err
	}
	der := block.Bytes
	if block.Type == lockedType {
		if der, err = unlock(block, passphrase); err != nil {
			return nil, fmt.Errorf("key file %s: %w", path, err)
		}
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w: it is not a PKCS #8 key", path, ErrNoKey)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key file %s: %w: a key of type %T, want Ed25519", path, ErrNoKey, parsed)
	}
	if block.Type == lockedType && publicText(key) != block.Headers[publicName] {
		return nil, fmt.Errorf("key file %s: %w: the public key beside it is another one's", path, ErrNoKey)
	}
	return key, nil
}

// Public returns the public half of the key in a file, and whether the file has a passphrase, which it does not need.
func Public(path string) (key ed25519.PublicKey, locked bool, err error) {
	block, err := readBlock(path)
	if err != nil {
		return nil, false, err
	}
	if block.Type != lockedType {
		private, err := Load(path, None)
		if err != nil {
			return nil, false, err
		}
		return private.Public().(ed25519.PublicKey), false, nil
	}
	b, err := encoding.DecodeString(strings.ToUpper(block.Headers[publicName]))
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, true, fmt.Errorf("key file %s: %w: its public key cannot be read", path, ErrNoKey)
	}
	return b, true, nil
}

func readBlock(path string) (*pem.Block, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fmt.Errorf("key file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("key file %s: it is not a regular file", path)
	case info.Size() > maxFileBytes:
		return nil, fmt.Errorf("key file %s: %d bytes are too many", path, info.Size())
	}
	if err := checkMode(info); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != plainType && block.Type != lockedType {
		return nil, fmt.Errorf("key file %s: %w: there is no PEM block %q or %q", path, ErrNoKey, plainType, lockedType)
	}
	return block, nil
}

func unlock(block *pem.Block, passphrase Passphrase) ([]byte, error) {
	word, err := passphrase()
	if err != nil {
		return nil, err
	}
	if word == "" {
		return nil, ErrLocked
	}
	id, err := age.NewScryptIdentity(word)
	if err != nil {
		return nil, err
	}
	r, err := age.Decrypt(bytes.NewReader(block.Bytes), id)
	var mismatch *age.NoIdentityMatchError
	switch {
	case errors.As(err, &mismatch):
		return nil, ErrPassphrase
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	der, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	return der, nil
}

// Create writes a key to a new file, with a passphrase unless that is "". It never replaces a file: if there is one, by now or
// already, the error is fs.ErrExist.
func Create(path string, key ed25519.PrivateKey, passphrase string) error {
	return write(path, key, passphrase, func(tmp string) error {
		err := os.Link(tmp, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, err := os.Lstat(path); err == nil { // a file system without hard links
			return fs.ErrExist
		}
		return os.Rename(tmp, path)
	})
}

// ChangePassphrase writes the key in a file anew, with another passphrase, or without one if that is "".
func ChangePassphrase(path string, old Passphrase, passphrase string) error {
	key, err := Load(path, old)
	if err != nil {
		return err
	}
	return write(path, key, passphrase, func(tmp string) error { return os.Rename(tmp, path) })
}

func write(path string, key ed25519.PrivateKey, passphrase string, place func(tmp string) error) error {
	block, err := blockOf(key, passphrase)
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	if err := wholefile.Put(path, pem.EncodeToMemory(block), place); err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	return nil
}

func blockOf(key ed25519.PrivateKey, passphrase string) (*pem.Block, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil || passphrase == "" {
		return &pem.Block{Type: plainType, Bytes: der}, err
	}
	to, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, err
	}
	to.SetWorkFactor(workFactor)
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(der); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return &pem.Block{Type: lockedType, Headers: map[string]string{publicName: publicText(key)}, Bytes: b.Bytes()}, nil
}

func publicText(key ed25519.PrivateKey) string {
	return strings.ToLower(encoding.EncodeToString(key.Public().(ed25519.PublicKey)))
}
