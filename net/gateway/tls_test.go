package gateway

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"
)

// writeCertificate makes a certificate for localhost, with a serial number to tell it by.
func writeCertificate(t *testing.T, cert, key string, serial int64) *x509.Certificate {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestGatewayOverTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if _, _, err := (TLS{CertFile: cert, KeyFile: key}).Config(); err == nil {
		t.Error("files that are not there are taken")
	}
	root := writeCertificate(t, cert, key, 1)
	conf, challenges, err := TLS{CertFile: cert, KeyFile: key}.Config()
	if err != nil || challenges != nil {
		t.Fatal(err)
	}
	g, _ := accessGateway(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := g.NewServer(ServerConfig{TLS: conf})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	pool := x509.NewCertPool()
	pool.AddCert(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://localhost:"+port+"/v1/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 || resp.TLS.Version != tls.VersionTLS13 {
		t.Errorf("%s %s", resp.Status, resp.Proto)
	}
	transport.CloseIdleConnections()
	old := &tls.Dialer{Config: &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}}
	if conn, err := old.DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// Whoever renews a certificate replaces files; one that is half written does no harm.
func TestNewCertificateIsTaken(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeCertificate(t, cert, key, 1)
	conf, _, err := TLS{CertFile: cert, KeyFile: key}.Config()
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	files := &certificateFiles{cert: cert, key: key, log: quiet(&log)}
	if err := files.load(); err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		c, err := files.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.SerialNumber.Int64()
	}
	if err := os.WriteFile(cert, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	files.checked = time.Time{}
	if serial() != 1 || !strings.Contains(log.String(), "cannot be read") {
		t.Errorf("%d %s", serial(), log.String())
	}
	writeCertificate(t, cert, key, 2)
	if serial() != 1 {
		t.Error("it looks at the files all the time")
	}
	files.checked = time.Time{}
	if serial() != 2 {
		t.Error("the new one is not taken")
	}
	if conf.MinVersion < tls.VersionTLS12 {
		t.Error("old versions of TLS are spoken")
	}
}

func TestACMEAsksForListedHostsOnly(t *testing.T) {
	asked := make(chan string, 8)
	authority := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- r.Method + " " + r.URL.Path:
		default:
		}
		http.Error(w, "not today", http.StatusNotFound) // a 503 would be tried again
	}))
	defer authority.Close()
	dir := t.TempDir()
	var log bytes.Buffer
	conf, challenges, err := TLS{Hosts: []string{"notes.example.org"}, CacheDir: dir, Directory: authority.URL + "/directory", Client: authority.Client(), Logger: quiet(&log)}.Config()
	if err != nil {
		t.Fatal(err)
	}
	if protos := strings.Join(conf.NextProtos, " "); !strings.Contains(protos, acme.ALPNProto) || !strings.Contains(protos, "h2") || !strings.Contains(protos, "http/1.1") {
		t.Errorf("protocols: %s", protos)
	}
	hello := func(host string) error {
		_, err := conf.GetCertificate(&tls.ClientHelloInfo{
			ServerName: host, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, SupportedVersions: []uint16{tls.VersionTLS13},
		})
		return err
	}
	if err := hello("evil.example"); err == nil {
		t.Error("there is a certificate for anybody")
	}
	select {
	case request := <-asked:
		t.Errorf("the authority was asked for a host that is not listed: %s", request)
	default:
	}
	if err := hello("notes.example.org"); err == nil {
		t.Error("an authority that gives none gave one")
	}
	if request := <-asked; request != "GET /directory" {
		t.Error(request)
	}
	// Over HTTP there are answers for the authority, and a way to https for all others.
	w := send(challenges, "GET", "http://notes.example.org/v1/node", map[string]string{"Host": "notes.example.org"}, "")
	if w.Code != http.StatusFound || w.Header().Get("Location") != "https://notes.example.org/v1/node" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if w := send(challenges, "GET", "http://evil.example/.well-known/acme-challenge/x", map[string]string{"Host": "evil.example"}, ""); w.Code < 400 {
		t.Errorf("%d", w.Code)
	}
}

func TestTLSThatCannotBe(t *testing.T) {
	for _, c := range []TLS{{}, {Hosts: []string{"a.example"}}, {Hosts: []string{"a.example"}, CacheDir: "x", CertFile: "c"}, {Hosts: []string{"a.example:443"}, CacheDir: "x"}} {
		if _, _, err := c.Config(); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
