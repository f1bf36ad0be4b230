package quicnet

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"path/filepath"
	"time"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

// IdentityFile is the name of the key file in a store directory.
const IdentityFile = "identity.pem"

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

// Sign signs a message. Nothing that is signed here can be taken for another thing: each kind of message begins with a text of its own.
func (id Identity) Sign(message []byte) ([]byte, error) {
	if id.key == nil {
		return nil, errors.New("identity: there is no key")
	}
	return ed25519.Sign(id.key, message), nil
}

// LoadOrCreateIdentity is OpenIdentity without a passphrase.
func LoadOrCreateIdentity(dir string) (Identity, error) { return OpenIdentity(dir, keyfile.None) }

// OpenIdentity reads the identity that is kept in a store directory, and makes one if there is none, with the passphrase if there is
// one. The directory has to exist. A key file that others can read is refused, for it may have been read. The errors of package
// keyfile say what is wrong with it.
func OpenIdentity(dir string, passphrase func() (string, error)) (Identity, error) {
	path := filepath.Join(dir, IdentityFile)
	key, err := keyfile.Load(path, passphrase)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createIdentity(path, passphrase); err == nil {
			key, err = keyfile.Load(path, passphrase)
		}
	}
	switch {
	case errors.Is(err, keyfile.ErrNoKey):
		return Identity{}, fmt.Errorf("identity: %w: restore it from a backup, or remove it to become a new node", err)
	case err != nil:
		return Identity{}, fmt.Errorf("identity: %w", err)
	}
	return Identity{key}, nil
}

// IdentityOf returns the peer ID that belongs to a store directory, for which no passphrase is needed. The error is fs.ErrNotExist if there is
// none yet.
func IdentityOf(dir string) (p replica.PeerID, err error) {
	key, _, err := keyfile.Public(filepath.Join(dir, IdentityFile))
	if err != nil {
		return p, fmt.Errorf("identity: %w", err)
	}
	copy(p[:], key)
	return p, nil
}

// createIdentity makes a new key, unless another process is faster.
func createIdentity(path string, passphrase func() (string, error)) error {
	word, err := passphrase()
	if err != nil {
		return err
	}
	id, err := GenerateIdentity()
	if err != nil {
		return err
	}
	err = keyfile.Create(path, id.key, word)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
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
