package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/quic-go/quic-go"
)

// limits measures what no engine upon Badger and QUIC can exceed: entries into Badger alone, bytes over QUIC alone.
type limits struct {
	transport *quic.Transport
	listener  *quic.Listener
	cancel    context.CancelFunc
}

// store writes the entries of so many documents, in synced transactions of walkDocs documents.
func (*limits) store(a limitArgs) (limitResult, error) {
	db, err := badger.OpenManaged(idealOptions(a.Dir, true))
	if err != nil {
		return limitResult{}, err
	}
	g := generator{a.Seed}
	began := time.Now()
	for first := 0; first < a.Docs; first += walkDocs {
		ts := uint64(first/walkDocs + 1)
		txn := db.NewTransactionAt(ts-1, true)
		for n := first; n < min(first+walkDocs, a.Docs); n++ {
			d := g.document(n, 0)
			r := stored{1, uint64(n), uint64(n), packFields(d.Fields)}
			err = errors.Join(err, txn.Set(documentKey(d.Key), r.pack()), txn.Set(logKey(1, uint64(n), d.Key), nil),
				txn.Set(feedKey(uint64(n)), []byte(d.Key)))
		}
		if err == nil {
			err = txn.CommitAt(ts, nil)
		}
		if err != nil {
			txn.Discard()
			return limitResult{}, errors.Join(err, db.Close())
		}
	}
	took := time.Since(began)
	return limitResult{Nanos: took.Nanoseconds()}, db.Close()
}

// listen sends on each connection's stream as many bytes as the peer asks for with eight bytes.
func (l *limits) listen(limitArgs) (limitResult, error) {
	var err error
	if l.transport, l.listener, err = listenQUIC(); err != nil {
		return limitResult{}, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() {
		for {
			conn, err := l.listener.Accept(ctx)
			if err != nil {
				return
			}
			go serveBytes(ctx, conn)
		}
	}()
	return limitResult{Addr: l.listener.Addr().String()}, nil
}

func serveBytes(ctx context.Context, conn *quic.Conn) {
	stream, err := conn.AcceptStream(ctx)
	if err != nil {
		return
	}
	var ask [8]byte
	if _, err := io.ReadFull(stream, ask[:]); err != nil {
		return
	}
	p := parser{b: ask[:]}
	left := p.uint64()
	chunk := make([]byte, 64<<10)
	for left > 0 {
		n := min(left, uint64(len(chunk)))
		if _, err := stream.Write(chunk[:n]); err != nil {
			return
		}
		left -= n
	}
	stream.Close() // the peer sees the end; a failure shows there
}

// fetch reads so many bytes from a listener, and times that without the handshake.
func (*limits) fetch(ctx context.Context, a limitArgs) (_ limitResult, err error) {
	to, err := net.ResolveUDPAddr("udp", a.Addr)
	if err != nil {
		return limitResult{}, err
	}
	_, config, err := tlsConfigs()
	if err != nil {
		return limitResult{}, err
	}
	socket, err := net.ListenPacket("udp", loopback)
	if err != nil {
		return limitResult{}, err
	}
	t := &quic.Transport{Conn: socket}
	defer func() { err = errors.Join(err, t.Close(), socket.Close()) }()
	conn, err := t.Dial(ctx, to, config, quicConfig())
	if err != nil {
		return limitResult{}, err
	}
	defer conn.CloseWithError(0, "")
	stream, err := conn.OpenStream()
	if err != nil {
		return limitResult{}, err
	}
	began := time.Now()
	ask := encodeTime(0, uint64(a.Bytes))[5:]
	if _, err := stream.Write(ask); err != nil {
		return limitResult{}, err
	}
	n, err := io.Copy(io.Discard, stream)
	if err == nil && n != a.Bytes {
		err = io.ErrUnexpectedEOF
	}
	return limitResult{Nanos: time.Since(began).Nanoseconds()}, err
}

func (l *limits) close() error {
	if l.listener == nil {
		return nil
	}
	l.cancel()
	err := errors.Join(l.listener.Close(), l.transport.Close(), l.transport.Conn.Close())
	l.listener = nil
	return err
}
