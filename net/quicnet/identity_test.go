package quicnet

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

func TestIdentityIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := LoadOrCreateIdentity(dir)
	if err != nil || first.PeerID().IsZero() {
		t.Fatalf("first call: %v, %v", first, err)
	}
	again, err := LoadOrCreateIdentity(dir)
	if err != nil || again.PeerID() != first.PeerID() {
		t.Fatalf("second call: %v, %v, want %v", again, err, first)
	}
	info, err := os.Stat(filepath.Join(dir, IdentityFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
	other, err := LoadOrCreateIdentity(t.TempDir())
	if err != nil || other.PeerID() == first.PeerID() {
		t.Errorf("another directory: %v, %v", other, err)
	}
}

func TestIdentityWithAPassphrase(t *testing.T) {
	dir := t.TempDir()
	word := func() (string, error) { return "open sesame", nil }
	first, err := OpenIdentity(dir, word)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := IdentityOf(dir); err != nil || p != first.PeerID() {
		t.Errorf("without the passphrase: %v, %v, want %v", p, err, first)
	}
	if _, err := LoadOrCreateIdentity(dir); !errors.Is(err, keyfile.ErrLocked) {
		t.Errorf("without a passphrase: %v", err)
	}
}

func TestIdentityMadeByManyAtOnceIsOne(t *testing.T) {
	dir := t.TempDir()
	ids := make([]replica.PeerID, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			id, err := LoadOrCreateIdentity(dir)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id.PeerID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("identities %v and %v", id, ids[0])
		}
	}
}

func TestBadIdentityFilesAreRefused(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecDER, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	good := t.TempDir()
	if _, err := LoadOrCreateIdentity(good); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(good, IdentityFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		data []byte
		mode os.FileMode
		want string
	}{
		{"readable by the group", whole, 0o640, "chmod 600"},
		{"readable by all", whole, 0o604, "chmod 600"},
		{"empty", nil, 0o600, "no PEM block"},
		{"cut off", whole[:len(whole)/2], 0o600, "no PEM block"},
		{"another kind of PEM", []byte(strings.ReplaceAll(string(whole), "PRIVATE", "PUBLIC")), 0o600, "no PEM block"},
		{"not PKCS #8", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("hello")}), 0o600, "not a PKCS #8 key"},
		{"a key of another kind", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: ecDER}), 0o600, "want Ed25519"},
		{"very large", make([]byte, 1<<20), 0o600, "too many"},
	} {
		path := filepath.Join(t.TempDir(), IdentityFile)
		if err := os.WriteFile(path, c.data, c.mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadOrCreateIdentity(filepath.Dir(path))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file and says %q", c.name, err, c.want)
		}
		if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, c.data) {
			t.Errorf("%s: the file was changed (%v)", c.name, err)
		}
	}
	if _, err := LoadOrCreateIdentity(filepath.Join(good, "missing")); err == nil {
		t.Error("a missing directory is no error")
	}
}

// TestIdentityNeverPrintsItsKey looks for the key in all that programs do with values: printing, logging, encoding.
func TestIdentityNeverPrintsItsKey(t *testing.T) {
	id, err := GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	config := Config{Identity: id}
	var out strings.Builder
	for _, v := range []any{id, &id, config, &config, []Identity{id}, map[string]Identity{"id": id}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("text", "value", v)
		if b, err := json.Marshal(v); err == nil {
			out.Write(b)
		}
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "value", id)
	for _, secret := range secrets(id) {
		if strings.Contains(strings.ToLower(out.String()), strings.ToLower(secret)) {
			t.Errorf("the key is in the output as %q", secret)
		}
	}
	if !strings.Contains(out.String(), id.PeerID().String()) {
		t.Error("the peer ID is not in the output")
	}
}

// secrets returns parts of the key as they may be printed.
func secrets(id Identity) []string {
	seed := id.key.Seed()[4:20]
	plain := strings.Trim(fmt.Sprint(seed), "[]")
	return []string{hex.EncodeToString(seed), base64.StdEncoding.EncodeToString(seed[2:14]), plain, string(seed)}
}

func TestNewIdentityChecksTheKey(t *testing.T) {
	if _, err := NewIdentity(make(ed25519.PrivateKey, 5)); err == nil {
		t.Error("a key of 5 bytes is no error")
	}
	if _, err := NewIdentity(nil); err == nil {
		t.Error("no key is no error")
	}
}
