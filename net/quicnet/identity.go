package quicnet

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/anabranch-db/anabranch/replica"
)

// IdentityFile is the name of the key file in a store directory.
const IdentityFile = "identity.pem"

const (
	pemType = "PRIVATE KEY"
	// maxIdentityBytes bounds what is read of a key file; a real one has about 120 bytes.
	maxIdentityBytes = 4 << 10
)

// Identity is the Ed25519 key that a node proves its peer ID with. It prints as its peer ID, never as its key.
type Identity struct{ key ed25519.PrivateKey }

// NewIdentity returns the identity of a key.
func NewIdentity(key ed25519.PrivateKey) (Identity, error) {
	if len(key) != ed25519.PrivateKeySize {
		return Identity{}, fmt.Errorf("identity: Ed25519 private key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	return Identity{key}, nil
}

// GenerateIdentity returns a new random identity, which is kept nowhere.
func GenerateIdentity() (Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return Identity{key}, err
}

// PeerID returns the public key; zero for the zero Identity.
func (id Identity) PeerID() (p replica.PeerID) {
	if id.key != nil {
		copy(p[:], id.key.Public().(ed25519.PublicKey))
	}
	return p
}

func (id Identity) String() string       { return id.PeerID().String() }
func (id Identity) GoString() string     { return "quicnet.Identity(" + id.String() + ")" }
func (id Identity) LogValue() slog.Value { return slog.StringValue(id.String()) }

// Format keeps every verb of package fmt away from the key.
func (id Identity) Format(f fmt.State, _ rune) { fmt.Fprint(f, id.String()) }

// LoadOrCreateIdentity reads the identity that is kept in a store directory, and makes one if there is none. The
// directory has to exist. A key file that others can read is refused, for it may have been read.
func LoadOrCreateIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, IdentityFile)
	id, err := loadIdentity(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	if err := createIdentity(dir, path); err != nil {
		return Identity{}, fmt.Errorf("create identity %s: %w", path, err)
	}
	return loadIdentity(path)
}

func loadIdentity(path string) (Identity, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return Identity{}, fmt.Errorf("identity: %w", err)
	case !info.Mode().IsRegular():
		return Identity{}, fmt.Errorf("identity %s: it is not a regular file", path)
	case info.Size() > maxIdentityBytes:
		return Identity{}, fmt.Errorf("identity %s: %d bytes are too many for a key file", path, info.Size())
	}
	if err := checkMode(path, info); err != nil {
		return Identity{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return Identity{}, fmt.Errorf("identity: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return Identity{}, fmt.Errorf("identity %s: it holds no PEM block %q: restore it from a backup, or remove it to become a new node", path, pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Identity{}, fmt.Errorf("identity %s: it is not a PKCS #8 key: restore it from a backup, or remove it to become a new node", path)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, fmt.Errorf("identity %s: it holds a key of type %T, want Ed25519", path, parsed)
	}
	return Identity{key}, nil
}

// createIdentity writes a new key under a temporary name, syncs it, and gives it its name if no other process has been faster:
// a link, unlike a rename, never replaces a key.
func createIdentity(dir, path string) error {
	id, err := GenerateIdentity()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(id.key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, IdentityFile+".*.tmp") // with mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already if it was renamed
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := place(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func place(tmp, path string) error {
	err := os.Link(tmp, path)
	switch {
	case err == nil, errors.Is(err, fs.ErrExist):
		return nil
	}
	return os.Rename(tmp, path) // a file system without hard links
}

// certificate returns a certificate for the key, signed by itself. Its dates mean nothing: peers look at the public key alone, for
// their clocks may be wrong.
func (id Identity) certificate() (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, id.key.Public(), id.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: id.key}, nil
}

// resetKey derives the key of QUIC's stateless resets: being always the same it lets a node that was restarted tell its peers at once that
// their connections are gone.
func (id Identity) resetKey() (key [32]byte, err error) {
	b, err := hkdf.Key(sha256.New, id.key.Seed(), nil, "anabranch/1 stateless reset", len(key))
	copy(key[:], b)
	return key, err
}
