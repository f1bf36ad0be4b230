package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// TLS says where the certificate of a Server comes from: from files, or from a certificate authority that speaks ACME (RFC 8555), as
// Let's Encrypt does.
type TLS struct {
	// CertFile and KeyFile are PEM. They are looked at again each minute, so that whoever renews them need not restart the node.
	CertFile, KeyFile string
	// Hosts are the names for which certificates are asked. To use it is to accept the authority's terms.
	Hosts []string
	// CacheDir keeps the account and the certificates.
	CacheDir string
	// Directory is the URL of the authority's directory. Empty: that of Let's Encrypt.
	Directory string
	// Client asks the authority. Nil: http.DefaultClient.
	Client *http.Client
	// Logger takes what an operator should know. Nil: nothing is logged.
	Logger *slog.Logger
}

// Config returns how to listen. challenges answers the authority's questions over HTTP on port 80 (HTTP-01), and sends all else to https;
// the other way, TLS-ALPN-01, needs no more than port 443 to lead to the listener. It is nil without Hosts.
func (c TLS) Config() (conf *tls.Config, challenges http.Handler, err error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if len(c.Hosts) > 0 {
		if c.CertFile != "" || c.KeyFile != "" {
			return nil, nil, errors.New("TLS: name files, or hosts for ACME, not both")
		}
		conf, challenges, err = c.acme()
		return conf, challenges, err
	}
	files := &certificateFiles{cert: c.CertFile, key: c.KeyFile, log: c.Logger}
	if err := files.load(); err != nil {
		return nil, nil, fmt.Errorf("TLS: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.get}, nil, nil
}

func (c TLS) acme() (*tls.Config, http.Handler, error) {
	if c.CacheDir == "" {
		return nil, nil, errors.New("TLS: ACME needs a directory for its account and certificates")
	}
	for _, h := range c.Hosts {
		if err := CheckHost(h); err != nil {
			return nil, nil, fmt.Errorf("TLS: %w", err)
		}
	}
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(c.Hosts...), Cache: autocert.DirCache(c.CacheDir),
		Client: &acme.Client{DirectoryURL: c.Directory, HTTPClient: c.Client, UserAgent: "anabranch"},
	}
	if c.Directory == "" {
		m.Client.DirectoryURL = acme.LetsEncryptURL
	}
	challenges := m.HTTPHandler(nil)
	conf := m.TLSConfig()
	conf.MinVersion = tls.VersionTLS12
	get := conf.GetCertificate
	conf.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := get(hello)
		if err != nil && slices.Contains(c.Hosts, hello.ServerName) { // what others ask for is not ours to worry about
			c.Logger.Warn("no certificate for a client", "host", hello.ServerName, "error", err)
		}
		return cert, err
	}
	return conf, challenges, nil
}

// lookEvery is how often files are looked at for a new certificate.
const lookEvery = time.Minute

// certificateFiles is a certificate that somebody else renews.
type certificateFiles struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	stamps  [2]fileStamp
	checked time.Time
}

type fileStamp struct {
	modified time.Time
	size     int64
}

func (f *certificateFiles) look() (stamps [2]fileStamp, err error) {
	for i, path := range []string{f.cert, f.key} {
		info, err := os.Stat(path)
		if err != nil {
			return stamps, err
		}
		stamps[i] = fileStamp{info.ModTime(), info.Size()}
	}
	return stamps, nil
}

func (f *certificateFiles) load() error {
	stamps, err := f.look()
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	f.loaded, f.stamps, f.checked = &cert, stamps, time.Now()
	return nil
}

// get returns the certificate. One that cannot be read, as while it is being replaced, does not end the one before.
func (f *certificateFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.checked) < lookEvery {
		return f.loaded, nil
	}
	f.checked = time.Now()
	stamps, err := f.look()
	if err == nil && stamps != f.stamps {
		if err = f.load(); err == nil {
			f.log.Info("took a new certificate", "file", f.cert)
		}
	}
	if err != nil {
		f.log.Warn("the files of the certificate cannot be read; the one before goes on", "error", err)
	}
	return f.loaded, nil
}
