package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// authority is a certificate authority that speaks as much of ACME (RFC 8555) as a client needs that asks for one certificate. It proves that the
// client has the name as a real one does, but takes signatures unread.
type authority struct {
	*httptest.Server
	roots *x509.CertPool
	root  *x509.Certificate
	key   *ecdsa.PrivateKey

	challenge string                              // the only one that it offers
	prove     func(keyAuthorization string) error // what the challenge means

	mu      sync.Mutex
	thumb   string // of the account's key
	valid   bool
	issued  []byte // PEM
	orders  int
	refused error
}

const acmeToken = "a-token-of-the-authority"

func newAuthority(t *testing.T, challenge string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "an authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{roots: x509.NewCertPool(), root: root, key: key, challenge: challenge}
	a.roots.AddCert(root)
	a.Server = httptest.NewTLSServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *authority) serve(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w.Header().Set("Replay-Nonce", rand.Text())
	if r.Method == http.MethodHead {
		return
	}
	header, payload, err := openJWS(r.Body)
	if err == nil {
		err = a.answer(w, r.URL.Path, header, payload)
	}
	if err != nil {
		a.refused = fmt.Errorf("%s: %w", r.URL.Path, err)
		http.Error(w, `{"type":"urn:ietf:params:acme:error:malformed"}`, http.StatusBadRequest)
	}
}

// jwsHeader is the protected header of a request, as far as it matters here.
type jwsHeader struct {
	JWK struct{ X, Y string } `json:"jwk"`
}

func openJWS(body io.Reader) (header jwsHeader, payload []byte, err error) {
	text, err := io.ReadAll(body)
	if err != nil || len(text) == 0 {
		return header, nil, err
	}
	var parts struct{ Protected, Payload string }
	if err := json.Unmarshal(text, &parts); err != nil {
		return header, nil, err
	}
	protected, err := base64.RawURLEncoding.DecodeString(parts.Protected)
	if err == nil {
		err = json.Unmarshal(protected, &header)
	}
	if err == nil {
		payload, err = base64.RawURLEncoding.DecodeString(parts.Payload)
	}
	return header, payload, err
}

func (a *authority) answer(w http.ResponseWriter, path string, header jwsHeader, payload []byte) error {
	type object = map[string]any
	say := func(code int, o object) error {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		return json.NewEncoder(w).Encode(o)
	}
	status := func() string {
		switch {
		case a.issued != nil:
			return "valid"
		case a.valid:
			return "ready"
		}
		return "pending"
	}
	order := func() object {
		return object{
			"status": status(), "identifiers": []object{{"type": "dns", "value": acmeHost}}, "authorizations": []string{a.URL + "/authorization"},
			"finalize": a.URL + "/finalize", "certificate": a.URL + "/certificate",
		}
	}
	challenge := func() object {
		state := "pending"
		if a.valid {
			state = "valid"
		}
		return object{"type": a.challenge, "url": a.URL + "/challenge", "token": acmeToken, "status": state}
	}
	switch path {
	case "/directory":
		return say(http.StatusOK, object{"newNonce": a.URL + "/nonce", "newAccount": a.URL + "/account", "newOrder": a.URL + "/new-order", "revokeCert": a.URL + "/revoke"})
	case "/account":
		thumb, err := thumbprint(header)
		if err != nil {
			return err
		}
		a.thumb = thumb
		w.Header().Set("Location", a.URL+"/account/1")
		return say(http.StatusCreated, object{"status": "valid"})
	case "/new-order":
		a.orders++
		w.Header().Set("Location", a.URL+"/order")
		return say(http.StatusCreated, order())
	case "/order":
		w.Header().Set("Location", a.URL+"/order")
		return say(http.StatusOK, order())
	case "/authorization":
		state := "pending"
		if a.valid {
			state = "valid"
		}
		return say(http.StatusOK, object{"status": state, "identifier": object{"type": "dns", "value": acmeHost}, "challenges": []object{challenge()}})
	case "/challenge":
		if err := a.prove(acmeToken + "." + a.thumb); err != nil {
			return err
		}
		a.valid = true
		return say(http.StatusOK, challenge())
	case "/finalize":
		if err := a.issue(payload); err != nil {
			return err
		}
		w.Header().Set("Location", a.URL+"/order")
		return say(http.StatusOK, order())
	case "/certificate":
		w.Header().Set("Content-Type", "application/pem-certificate-chain")
		_, err := w.Write(a.issued)
		return err
	}
	return errors.New("unknown")
}

func thumbprint(header jwsHeader) (string, error) {
	x, err := base64.RawURLEncoding.DecodeString(header.JWK.X)
	if err != nil {
		return "", err
	}
	y, err := base64.RawURLEncoding.DecodeString(header.JWK.Y)
	if err != nil {
		return "", err
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return "", err
	}
	return acme.JWKThumbprint(key)
}

func (a *authority) issue(payload []byte) error {
	if !a.valid {
		return errors.New("the name is not proved")
	}
	var asked struct {
		CSR string `json:"csr"`
	}
	if err := json.Unmarshal(payload, &asked); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(asked.CSR)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return err
	}
	cert, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: csr.DNSNames, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a.root, csr.PublicKey, a.key)
	if err == nil {
		a.issued = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	}
	return err
}

const acmeHost = "notes.example.org"

// proveByALPN does what RFC 8737 asks of an authority.
func proveByALPN(addr string) func(string) error {
	return func(keyAuthorization string) error {
		// The certificate that proves it is signed by nobody.
		conf := &tls.Config{ServerName: acmeHost, NextProtos: []string{acme.ALPNProto}, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
		conn, err := tls.Dial("tcp", addr, conf)
		if err != nil {
			return err
		}
		defer conn.Close()
		digest := sha256.Sum256([]byte(keyAuthorization))
		want, err := asn1.Marshal(digest[:])
		if err != nil {
			return err
		}
		for _, e := range conn.ConnectionState().PeerCertificates[0].Extensions {
			if e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) && e.Critical && bytes.Equal(e.Value, want) {
				return nil
			}
		}
		return errors.New("the certificate does not have the proof")
	}
}

// proveByHTTP is HTTP-01 of RFC 8555.
func proveByHTTP(challenges http.Handler) func(string) error {
	return func(keyAuthorization string) error {
		r := httptest.NewRequest(http.MethodGet, "http://"+acmeHost+"/.well-known/acme-challenge/"+acmeToken, nil)
		w := httptest.NewRecorder()
		if challenges.ServeHTTP(w, r); w.Code != http.StatusOK || w.Body.String() != keyAuthorization {
			return fmt.Errorf("%d %q", w.Code, w.Body)
		}
		return nil
	}
}

// The first client makes the node get a certificate; later ones, and those after a restart, find it.
func TestACMEGetsACertificate(t *testing.T) {
	for _, challenge := range []string{"tls-alpn-01", "http-01"} {
		t.Run(challenge, func(t *testing.T) {
			ca := newAuthority(t, challenge)
			dir := t.TempDir()
			for range 2 {
				var log bytes.Buffer
				conf, challenges, err := TLS{Hosts: []string{acmeHost}, CacheDir: dir, Directory: ca.URL + "/directory", Client: ca.Client(), Logger: quiet(&log)}.Config()
				if err != nil {
					t.Fatal(err)
				}
				addr := serveTLS(t, conf)
				ca.prove = proveByALPN(addr)
				if challenge == "http-01" {
					ca.prove = proveByHTTP(challenges)
				}
				for range 2 {
					greet(t, ca, addr, &log)
				}
			}
			ca.mu.Lock()
			defer ca.mu.Unlock()
			if ca.orders != 1 {
				t.Errorf("the authority was asked for %d certificates", ca.orders)
			}
		})
	}
}

// serveTLS answers requests until the test ends.
func serveTLS(t *testing.T, conf *tls.Config) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", conf)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }), ReadHeaderTimeout: time.Minute}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return l.Addr().String()
}

// greet asks as a browser does that trusts the authority.
func greet(t *testing.T, ca *authority, addr string, log *bytes.Buffer) {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: ca.roots, MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: 30 * time.Second}).Get("https://" + acmeHost + "/")
	if err != nil {
		ca.mu.Lock()
		defer ca.mu.Unlock()
		t.Fatalf("%v; the authority: %v; the node: %s", err, ca.refused, log)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); string(body) != "hello" {
		t.Errorf("%q, %v", body, err)
	}
}
