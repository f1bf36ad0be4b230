package quicnet_test

import (
	"crypto"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/anabranch-db/anabranch/net/nettest"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/net/wire"
	"github.com/anabranch-db/anabranch/replica"
)

func TestAnotherProtocolIsRefused(t *testing.T) {
	var log nettest.Journal
	tr := open(t, quicnet.Config{Identity: identity(t, 1), Logger: log.Logger()})
	if _, err := rawDial(t, tr.Addrs()[0], rawTLS(certificate(t, edKey(200)), "h3")); err == nil {
		t.Error("a peer that speaks h3 was let in")
	}
	log.Says(t, "h3", quicnet.ALPN)

	addr := rawListen(t, rawTLS(certificate(t, edKey(201)), "h3"), func(*quic.Conn) {})
	_, err := tr.Dial(withPatience(t), addr, replica.PeerID{})
	if err == nil || !strings.Contains(err.Error(), quicnet.ALPN) || !strings.Contains(err.Error(), addr) {
		t.Errorf("Dial of a node that speaks h3: %v", err)
	}
}

// rawListen accepts one connection by hand.
func rawListen(t testing.TB, conf *tls.Config, serve func(*quic.Conn)) (addr string) {
	t.Helper()
	l, err := quic.ListenAddr("127.0.0.1:0", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		if qc, err := l.Accept(withPatience(t)); err == nil {
			serve(qc)
		}
	}()
	return l.Addr().String()
}

func TestCertificatesOfAnotherKindAreRefused(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"ECDSA": ecKey(t), "RSA": rsaKey(t)} {
		t.Run(name, func(t *testing.T) {
			var log nettest.Journal
			tr := open(t, quicnet.Config{Identity: identity(t, 1), Logger: log.Logger()})
			qc, err := rawDial(t, tr.Addrs()[0], rawTLS(certificate(t, key), quicnet.ALPN))
			if err == nil { // a TLS 1.3 client is done before the server has judged it
				<-qc.Context().Done()
			}
			log.Says(t, "no Ed25519 key")

			addr := rawListen(t, rawTLS(certificate(t, key), quicnet.ALPN), func(*quic.Conn) {})
			if _, err := tr.Dial(withPatience(t), addr, replica.PeerID{}); err == nil || !strings.Contains(err.Error(), "no Ed25519 key") {
				t.Errorf("Dial: %v", err)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		tr := open(t, quicnet.Config{Identity: identity(t, 1)})
		qc, err := rawDial(t, tr.Addrs()[0], rawTLS(nil, quicnet.ALPN))
		if err == nil {
			<-qc.Context().Done()
		}
	})
}

func TestBadGreetings(t *testing.T) {
	tooLarge := append(binary.BigEndian.AppendUint32(nil, 1<<20), byte(wire.TypeHello))
	spaceOpen, err := wire.AppendSpaceOpen(nil, "s")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		bytes  []byte
		code   replica.CloseCode
		reason string
	}{
		{"garbage", []byte("\x00\x00\x00\x20 GET / HTTP/1.1 and so on and on"), replica.CloseMalformed, "control stream"},
		{"garbage that looks like a large frame", []byte("GET / HTTP/1.1\r\n"), replica.CloseTooLarge, "control stream"},
		{"a Hello over the limit", tooLarge, replica.CloseTooLarge, "over the limit"},
		{"another frame", spaceOpen, replica.CloseMalformed, "does not belong here"},
		{"a newer major version", hello(t, 2), replica.CloseVersion, "speaks protocol 1.0, its peer 2.0: upgrade the older one"},
		{"half a Hello", hello(t, 1)[:9], replica.CloseMalformed, "no Hello in time"},
		{"nothing", nil, replica.CloseMalformed, "no Hello in time"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log nettest.Journal
			tr := open(t, quicnet.Config{Identity: identity(t, 1), Logger: log.Logger(), HandshakeTimeout: 300 * time.Millisecond})
			qc := rawConnect(t, tr)
			start := time.Now()
			if c.bytes != nil {
				rawStream(t, qc, c.bytes)
			}
			closedWith(t, qc, c.code, c.reason)
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("it took %s", took)
			}
			log.Says(t, c.reason)
			// The node is well.
			_, _, conn := rawHello(t, tr)
			conn.Close(replica.CloseDone, "")
		})
		t.Run("a node that answers with "+c.name, func(t *testing.T) {
			tr := open(t, quicnet.Config{Identity: identity(t, 1), HandshakeTimeout: 300 * time.Millisecond})
			addr := rawListen(t, rawTLS(certificate(t, edKey(201)), quicnet.ALPN), func(qc *quic.Conn) {
				qs, err := qc.AcceptStream(qc.Context())
				if err != nil {
					t.Error(err)
					return
				}
				if c.bytes != nil {
					_, _ = qs.Write(c.bytes) // it may be refused already
				}
				closedWith(t, qc, c.code, c.reason)
			})
			_, err := tr.Dial(withPatience(t), addr, replica.PeerID{})
			var closed *replica.CloseError
			if !errors.As(err, &closed) || closed.Code != c.code || closed.Remote || !strings.Contains(closed.Reason, c.reason) {
				t.Errorf("Dial: %v, want code %v and %q", err, c.code, c.reason)
			}
		})
	}
}

func TestControlStreamAfterHello(t *testing.T) {
	tr := open(t, quicnet.Config{Identity: identity(t, 1)})
	_, control, c := rawHello(t, tr)
	// What newer versions send is skipped, however much it is: more than any window.
	unknown := append(binary.BigEndian.AppendUint32(nil, 10_001), append([]byte{0xee}, make([]byte, 10_000)...)...)
	for range 200 {
		if _, err := control.Write(unknown); err != nil {
			t.Fatal(err)
		}
	}
	if c.Err() != nil {
		t.Fatalf("frames of an unknown type ended the connection: %v", c.Err())
	}
	qc, control, _ := rawHello(t, tr)
	_, _ = control.Write(binary.BigEndian.AppendUint32(nil, 1<<30))
	closedWith(t, qc, replica.CloseTooLarge, "control stream")
}

func TestBadSpaceStreams(t *testing.T) {
	const timeout = 2 * time.Second
	tr := open(t, quicnet.Config{Identity: identity(t, 1), HandshakeTimeout: timeout})
	qc, _, c := rawHello(t, tr)
	for name, b := range map[string][]byte{
		"a Hello":             hello(t, 1),
		"a large first frame": append(binary.BigEndian.AppendUint32(nil, 1<<20), byte(wire.TypeSpaceOpen)),
		"an empty frame":      {0, 0, 0, 0},
		"silence":             {0},
	} {
		start := time.Now()
		qs := rawStream(t, qc, b)
		_, err := io.ReadAll(qs)
		if took := time.Since(start); took >= timeout && name != "silence" {
			t.Errorf("%s: refused after %s only", name, took)
		}
		var stream *quic.StreamError
		if !errors.As(err, &stream) || stream.ErrorCode != quic.StreamErrorCode(replica.CloseMalformed) {
			t.Errorf("%s: %v, want the stream closed as malformed", name, err)
		}
	}
	// Others are not held up by streams that do not name themselves.
	for range 30 {
		rawStream(t, qc, []byte{0})
	}
	open, err := wire.AppendSpaceOpen(nil, "good")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	rawStream(t, qc, open)
	if space, _, err := c.AcceptStream(withPatience(t)); err != nil || space != "good" {
		t.Errorf("AcceptStream: %q, %v", space, err)
	}
	if took := time.Since(start); took >= timeout {
		t.Errorf("a good stream waited %s for silent ones", took)
	}
	if c.Err() != nil {
		t.Errorf("bad streams ended the connection: %v", c.Err())
	}
	if _, err := qc.OpenUniStream(); err == nil {
		t.Error("unidirectional streams are allowed")
	}
}

// TestFloodIsBounded sends on all streams that a peer may open, to a node that reads none, and counts what it takes.
func TestFloodIsBounded(t *testing.T) {
	const most = 1 << 20
	tr := open(t, quicnet.Config{Identity: identity(t, 1)})
	qc, _, _ := rawHello(t, tr)
	name, err := wire.AppendSpaceOpen(nil, "flood")
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	streams := 0
	for ; ; streams++ {
		qs, err := qc.OpenStream()
		if err != nil {
			break
		}
		go func() {
			_, _ = qs.Write(name)
			for {
				n, err := qs.Write(make([]byte, 4096))
				sent.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
	}
	last, still := int64(-1), 0
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for still < 30 {
		<-tick.C
		if now := sent.Load(); now == last {
			still++
		} else {
			last, still = now, 0
		}
	}
	t.Logf("%d streams, %d KiB taken", streams, last>>10)
	if last > most || streams > 64 {
		t.Errorf("%d bytes were taken on %d streams, want at most %d", last, streams, most)
	}
	qc.CloseWithError(0, "")
}

func TestRefusalsAreToldToBothSidesAndLogged(t *testing.T) {
	var here, there nettest.Journal
	var allowed atomic.Bool
	a := open(t, quicnet.Config{Identity: identity(t, 1), Logger: here.Logger()})
	b := open(t, quicnet.Config{Identity: identity(t, 2), Logger: there.Logger(), Allow: func(replica.PeerID) bool { return allowed.Load() }})

	_, err := a.Dial(withPatience(t), b.Addrs()[0], b.Self())
	var closed *replica.CloseError
	if !errors.As(err, &closed) || closed.Code != replica.CloseNotAllowed || !closed.Remote {
		t.Fatalf("Dial: %v", err)
	}
	if !strings.Contains(closed.Reason, a.Self().String()) {
		t.Errorf("the reason %q does not name the peer that is to be allowed", closed.Reason)
	}
	there.Says(t, "peer not allowed", a.Self().String())

	allowed.Store(true) // the list may change at any time
	if _, err := a.Dial(withPatience(t), b.Addrs()[0], b.Self()); err != nil {
		t.Fatalf("Dial once allowed: %v", err)
	}
	_, err = a.Dial(withPatience(t), b.Addrs()[0], a.Self())
	if !errors.As(err, &closed) || closed.Code != replica.CloseWrongPeer {
		t.Fatalf("Dial with a wrong expectation: %v", err)
	}
	there.Says(t, "wrong peer ID", "expected "+a.Self().String())
	if _, err := b.Dial(withPatience(t), b.Addrs()[0], replica.PeerID{}); !errors.As(err, &closed) || closed.Code != replica.CloseSameIdentity {
		t.Fatalf("Dial of itself: %v", err)
	}
	there.Says(t, "same identity")
}

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	var log nettest.Journal
	tr := open(t, quicnet.Config{Identity: identity(t, 1), Logger: log.Logger(), Allow: func(replica.PeerID) bool { return false }})
	for range 30 {
		qc, err := rawDial(t, tr.Addrs()[0], rawTLS(certificate(t, edKey(200)), quicnet.ALPN))
		if err == nil { // the refusal may come before Dial is done
			closedWith(t, qc, replica.CloseNotAllowed, "")
		}
	}
	log.Says(t, "peer not allowed")
	if n := strings.Count(log.String(), "refused a connection"); n > 10 {
		t.Errorf("30 refusals gave %d lines", n)
	}
}
