package quicnet

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/anabranch-db/anabranch/replica"
)

// The application protocols that both ends of a connection must name.
const (
	ALPN = "anabranch/1"
	// JoinALPN is for the one question of a node that need not be known: to be let into a space.
	JoinALPN = "anabranch-join/1"
)

var errKeyType = errors.New("the peer's certificate has no Ed25519 key")

// tlsConfigs returns the configurations for accepting and for dialling. There is no certificate authority: TLS proves that the
// peer holds the key of its certificate, and who that is, is judged after the handshake, where a refusal can
// still be explained.
func (t *Transport) tlsConfigs() (accept, dial *tls.Config, err error) {
	cert, err := t.config.Identity.certificate()
	if err != nil {
		return nil, nil, err
	}
	base := &tls.Config{
		Certificates:           []tls.Certificate{cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{ALPN},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // chains and names: VerifyConnection looks at the key
		SessionTicketsDisabled: true, // each connection proves the keys anew
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := peerOf(cs)
			return err
		},
	}
	accept, dial = base.Clone(), base
	accept.NextProtos = []string{ALPN, JoinALPN}
	accept.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if !slices.Contains(hello.SupportedProtos, ALPN) && !slices.Contains(hello.SupportedProtos, JoinALPN) {
			t.refusals.log("refused a connection", "address", addrOf(hello), "reason",
				fmt.Sprintf("it speaks %.80q, not %s", hello.SupportedProtos, ALPN))
		}
		return nil, nil // TLS goes on to refuse it
	}
	accept.VerifyConnection = func(cs tls.ConnectionState) error {
		_, err := peerOf(cs)
		if err != nil {
			t.refusals.log("refused a connection", "reason", err)
		}
		return err
	}
	return accept, dial, nil
}

func addrOf(hello *tls.ClientHelloInfo) string {
	if hello.Conn == nil || hello.Conn.RemoteAddr() == nil {
		return ""
	}
	return hello.Conn.RemoteAddr().String()
}

// peerOf returns the peer ID that a connection's certificate proves.
func peerOf(cs tls.ConnectionState) (p replica.PeerID, err error) {
	if len(cs.PeerCertificates) == 0 {
		return p, errors.New("the peer showed no certificate")
	}
	key, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != len(p) {
		return p, errKeyType
	}
	copy(p[:], key)
	return p, nil
}
