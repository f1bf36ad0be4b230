package quicnet_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

// The tests in this file and the next play a peer by hand, with the QUIC library alone.

const patience = 20 * time.Second

func withPatience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func certificate(t testing.TB, key crypto.Signer) []tls.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
}

func edKey(number byte) ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	seed[0] = number
	return ed25519.NewKeyFromSeed(seed)
}

func ecKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rawTLS(certs []tls.Certificate, alpn string) *tls.Config {
	return &tls.Config{
		Certificates: certs, NextProtos: []string{alpn}, InsecureSkipVerify: true,
		ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS13,
	}
}

func rawDial(t testing.TB, addr string, conf *tls.Config) (*quic.Conn, error) {
	t.Helper()
	qc, err := quic.DialAddr(withPatience(t), addr, conf, &quic.Config{EnableStreamResetPartialDelivery: true})
	if err == nil {
		t.Cleanup(func() { qc.CloseWithError(0, "") })
	}
	return qc, err
}

// rawConnect dials with a good certificate and the right protocol.
func rawConnect(t testing.TB, tr *quicnet.Transport) *quic.Conn {
	t.Helper()
	qc, err := rawDial(t, tr.Addrs()[0], rawTLS(certificate(t, edKey(200)), quicnet.ALPN))
	if err != nil {
		t.Fatal(err)
	}
	return qc
}

// rawHello dials and greets as a good peer does, and returns the node's end too.
func rawHello(t testing.TB, tr *quicnet.Transport) (*quic.Conn, *quic.Stream, replica.Conn) {
	t.Helper()
	qc := rawConnect(t, tr)
	control := rawStream(t, qc, hello(t, wire.Major))
	c, err := tr.Accept(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := wire.NewReader(control, 0).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if h, err := wire.ParseHello(b); err != nil || h.Major != wire.Major || h.Software != "anabranch" || len(h.Addrs) != 1 {
		t.Fatalf("Hello %+v, %v", h, err)
	}
	return qc, control, c
}

func rawStream(t testing.TB, qc *quic.Conn, b []byte) *quic.Stream {
	t.Helper()
	qs, err := qc.OpenStreamSync(withPatience(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := qs.Write(b); err != nil {
		t.Fatal(err)
	}
	return qs
}

func hello(t testing.TB, major uint16) []byte {
	t.Helper()
	b, err := wire.AppendHello(nil, wire.Hello{Major: major, Wall: time.Now(), Software: "raw"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// closedWith waits until the node has closed the connection, and checks how.
func closedWith(t testing.TB, qc *quic.Conn, code replica.CloseCode, reason string) {
	t.Helper()
	select {
	case <-qc.Context().Done():
	case <-time.After(patience):
		t.Fatal("the connection was not closed")
	}
	var app *quic.ApplicationError
	err := context.Cause(qc.Context())
	if !errors.As(err, &app) || !app.Remote || app.ErrorCode != quic.ApplicationErrorCode(code) || !strings.Contains(app.ErrorMessage, reason) {
		t.Errorf("closed with %v, want code %d and %q", err, code, reason)
	}
}
