package bench

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/quic-go/quic-go"
)

// idealNet is the QUIC side of the ideal: TLS 1.3, one bidirectional stream on each connection.
type idealNet struct {
	e         *ideal
	transport *quic.Transport
	listener  *quic.Listener
	ctx       context.Context
	cancel    context.CancelFunc
	running   sync.WaitGroup

	mu   sync.Mutex
	conn *quic.Conn // the newest
}

// The windows are those of our own transport.
func quicConfig() *quic.Config {
	return &quic.Config{
		InitialStreamReceiveWindow: 256 << 10, MaxStreamReceiveWindow: 4 << 20,
		InitialConnectionReceiveWindow: 512 << 10, MaxConnectionReceiveWindow: 16 << 20,
		KeepAlivePeriod: 10 * time.Second,
	}
}

const idealALPN = "ideal"

// tlsConfigs returns the configurations of both sides; who the peer is does not matter here.
func tlsConfigs() (accept, dial *tls.Config, err error) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return nil, nil, err
	}
	accept = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		MinVersion:   tls.VersionTLS13, NextProtos: []string{idealALPN},
	}
	dial = accept.Clone()
	dial.InsecureSkipVerify = true
	return accept, dial, nil
}

func listenQUIC() (*quic.Transport, *quic.Listener, error) {
	accept, _, err := tlsConfigs()
	if err != nil {
		return nil, nil, err
	}
	conn, err := net.ListenPacket("udp", loopback)
	if err != nil {
		return nil, nil, err
	}
	t := &quic.Transport{Conn: conn}
	l, err := t.Listen(accept, quicConfig())
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return t, l, nil
}

func (e *ideal) listen() (*idealNet, error) {
	t, l, err := listenQUIC()
	if err != nil {
		return nil, err
	}
	n := &idealNet{e: e, transport: t, listener: l}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.running.Go(func() {
		for {
			conn, err := l.Accept(n.ctx)
			if err != nil {
				return
			}
			n.running.Go(func() {
				if stream, err := conn.AcceptStream(n.ctx); err == nil {
					n.session(conn, stream)
				}
			})
		}
	})
	return n, nil
}

func (e *ideal) addr() (addr, peer string) { return e.net.listener.Addr().String(), "" }

func (e *ideal) dial(addr, _ string) error {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return err
	}
	_, config, err := tlsConfigs()
	if err != nil {
		return err
	}
	n := e.net
	n.running.Go(func() {
		conn, err := n.transport.Dial(n.ctx, to, config, quicConfig())
		if err != nil {
			e.fail(err)
			return
		}
		stream, err := conn.OpenStream()
		if err != nil {
			e.fail(err)
			return
		}
		n.session(conn, stream)
	})
	return nil
}

func (e *ideal) traffic() (sent, received uint64) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.net.conn == nil {
		return 0, 0
	}
	s := e.net.conn.ConnectionStats()
	return s.BytesSent, s.BytesReceived
}

func (n *idealNet) close() error {
	n.cancel()
	n.mu.Lock()
	if n.conn != nil {
		n.conn.CloseWithError(0, "")
	}
	n.mu.Unlock()
	err := errors.Join(n.listener.Close(), n.transport.Close(), n.transport.Conn.Close())
	n.running.Wait()
	return err
}

// idealSession is one stream with the peer.
type idealSession struct {
	e      *ideal
	stream *quic.Stream
	greet  bool   // the hello is to be sent
	met    bool   // the peer's hello came: sent says what it holds
	sent   uint64 // of own writes
	ack    uint64 // of the peer's writes, to be sent
	ended  bool
} // all but the first two are guarded by e.mu

// maxUnmerged bounds the frames that were received and are not durable yet: enough to fill a batch while another one
// is being committed.
const maxUnmerged = 16

func (n *idealNet) session(conn *quic.Conn, stream *quic.Stream) {
	n.mu.Lock()
	n.conn = conn
	n.mu.Unlock()
	s := &idealSession{e: n.e, stream: stream, greet: true}
	n.running.Go(func() {
		if err := s.send(); err != nil {
			conn.CloseWithError(1, err.Error())
		}
	})
	// The peer closes when it is done, so an error here is most often just the end.
	_ = s.receive()
	n.e.mu.Lock()
	s.ended = true
	n.e.moved.Broadcast()
	n.e.mu.Unlock()
}

func (s *idealSession) receive() error {
	e := s.e
	in := bufio.NewReaderSize(s.stream, 64<<10)
	unmerged := make(chan struct{}, maxUnmerged)
	for {
		kind, body, err := readFrame(in)
		if err != nil {
			return err
		}
		if kind == frameDocs {
			c, err := parseFrame(body)
			if err != nil {
				return err
			}
			unmerged <- struct{}{}
			c.ended = func(time uint64, err error) {
				<-unmerged
				e.mu.Lock()
				defer e.mu.Unlock()
				if err == nil {
					s.ack = time
					e.moved.Broadcast()
				}
			}
			if err := e.submit(c); err != nil {
				return err
			}
			continue
		}
		if len(body) != 8 {
			return errFrame
		}
		e.mu.Lock()
		e.peerHas = max(e.peerHas, binary.BigEndian.Uint64(body))
		if kind == frameHello {
			s.met, s.sent = true, e.peerHas
		}
		e.moved.Broadcast()
		e.mu.Unlock()
	}
}

// send writes what there is to send, and waits.
func (s *idealSession) send() error {
	e := s.e
	told := uint64(0)
	for {
		var out []byte
		var walk idealState
		e.mu.Lock()
		for !s.ended && !e.closed {
			if s.greet {
				s.greet = false
				out = append(out, encodeTime(frameHello, e.peerTime())...)
			}
			if s.ack > told {
				told = s.ack
				out = append(out, encodeTime(frameAck, told)...)
			}
			var behind bool
			out, behind = s.appendRecent(out)
			if behind {
				walk = e.shared
			}
			if len(out) > 0 || behind {
				break
			}
			e.moved.Wait()
		}
		from, over := s.sent, s.ended || e.closed
		e.mu.Unlock()
		if over {
			return nil
		}
		if walk.ts > 0 {
			f, err := e.walkLog(walk, from)
			if err != nil {
				return err
			}
			out = append(out, f.bytes...)
			e.mu.Lock()
			s.sent = f.to
			e.mu.Unlock()
		}
		if _, err := s.stream.Write(out); err != nil {
			return err
		}
	}
}

// peerTime returns what is here of the one other node's writes. It is called with mu held.
func (e *ideal) peerTime() uint64 {
	for r, t := range e.shared.vv {
		if r != e.self {
			return t
		}
	}
	return 0
}

// appendRecent appends the frames in memory that come next. It reports whether the log has to be walked first. It is
// called with mu held.
func (s *idealSession) appendRecent(out []byte) (_ []byte, behind bool) {
	e := s.e
	if !s.met || s.sent >= e.shared.vv[e.self] {
		return out, false
	}
	for _, f := range e.recent {
		if f.from <= s.sent && s.sent < f.to && len(out) < 256<<10 {
			out = append(out, f.bytes...)
			s.sent = f.to
		}
	}
	return out, len(out) == 0
}

const walkDocs = 500

// walkLog builds the next frame from the log, whose documents it gets in the order of their keys.
func (e *ideal) walkLog(state idealState, from uint64) (*frame, error) {
	txn := e.db.NewTransactionAt(state.ts, false)
	defer txn.Discard()
	to := state.vv[e.self]
	docs := make([]change, 0, walkDocs)
	it := txn.NewIterator(badger.IteratorOptions{Prefix: logKey(e.self, 0, "")[:9]})
	defer it.Close()
	for it.Seek(logKey(e.self, from+1, "")); it.Valid(); it.Next() {
		k := it.Item().Key()
		if len(docs) == walkDocs {
			to = docs[len(docs)-1].time
			break
		}
		docs = append(docs, change{key: string(k[17:]), time: binary.BigEndian.Uint64(k[9:])})
	}
	slices.SortFunc(docs, func(a, b change) int { return strings.Compare(a.key, b.key) })
	for i := range docs {
		v, err := get(txn, documentKey(docs[i].key))
		if err != nil {
			return nil, err
		}
		r, _ := parseStored(v)
		docs[i].value = r.value
	}
	return encodeFrame(e.self, from, to, docs), nil
}
