package control

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
)

// Server answers for a node.
type Server struct {
	node node.Node
	http http.Server
	stop context.CancelFunc
}

// NewServer returns a Server of n, which it does not close.
func NewServer(n node.Node) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{node: n, stop: stop}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/transactions", s.transaction)
	mux.HandleFunc("POST /v1/wait", s.wait)
	mux.HandleFunc("GET /v1/document", s.document)
	mux.HandleFunc("GET /v1/documents", s.documents)
	mux.HandleFunc("GET /v1/changes", s.changes)
	mux.HandleFunc("GET /v1/conflicts", s.conflicts)
	mux.HandleFunc("POST /v1/settle", s.settle)
	mux.HandleFunc("POST /v1/evict", s.evict)
	mux.HandleFunc("GET /v1/backup", s.backup)
	s.trustRoutes(mux)
	s.tokenRoutes(mux)
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/verify", s.verify)
	s.http = http.Server{
		Handler: mux, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	return s
}

// Serve answers until Shutdown, and then returns nil.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops listening, ends the streams, and waits for the other requests until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(statusOf(err))
		v = errorAnswer{remote(err)}
	}
	send(w, v)
}

// send writes v. An error means that the client has gone, and there is nobody to tell.
func send(w http.ResponseWriter, v any) { _ = encode(w, v) }

func statusOf(err error) int {
	switch node.Code(err) {
	case "not_found":
		return http.StatusNotFound
	case "request", "limit", "cursor", "invalid_key", "invalid_path", "invalid_value", "invalid_space":
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func (s *Server) transaction(w http.ResponseWriter, r *http.Request) {
	var req transactionRequest
	if err := decodeRequest(r.Body, &req); err != nil {
		answer(w, nil, err)
		return
	}
	rc, err := s.node.Commit(r.Context(), r.URL.Query().Get("space"), req.Ops)
	answer(w, rc, err)
}

func (s *Server) wait(w http.ResponseWriter, r *http.Request) {
	var req waitRequest
	if err := decodeRequest(r.Body, &req); err != nil {
		answer(w, nil, err)
		return
	}
	q := r.URL.Query()
	timeout, err := time.ParseDuration(q.Get("timeout"))
	if err != nil || timeout < 0 {
		answer(w, nil, fmt.Errorf("%w: timeout=%.20s: want a time with a unit, 0s for no limit", node.ErrRequest, q.Get("timeout")))
		return
	}
	peers, err := s.node.Wait(r.Context(), q.Get("space"), req.Receipt, req.Peers, timeout)
	a := waitAnswer{Peers: peers}
	if err != nil {
		a.Error = remote(err)
	}
	answer(w, a, nil)
}

func (s *Server) document(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	doc, err := s.node.Get(r.Context(), q.Get("space"), q.Get("key"))
	answer(w, doc, err)
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.node.Status(r.Context())
	answer(w, st, err)
}

func (s *Server) documents(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := node.ScanOptions{Prefix: q.Get("prefix"), After: q.Get("after"), KeysOnly: q.Get("keys") == "true"}
	var err error
	if o.Limit, err = number(q, "limit"); err != nil {
		answer(w, nil, err)
		return
	}
	stream(w, s.node.Scan(r.Context(), q.Get("space"), o), 0)
}

func (s *Server) changes(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	o := node.WatchOptions{Since: q.Get("since"), Prefix: q.Get("prefix")}
	stream(w, s.node.Watch(r.Context(), q.Get("space"), o), 1)
}

func number(q url.Values, name string) (int, error) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s=%.20s: want a number", node.ErrRequest, name, text)
	}
	return n, nil
}

func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	out := streamTo(w)
	report, err := s.node.Verify(r.Context(), q.Get("space"), q.Get("repair") == "true", func(keys int64) {
		send(out, line[node.Report]{Keys: keys})
		out.flush()
	})
	if err != nil {
		send(out, line[node.Report]{Error: remote(err)})
		return
	}
	send(out, line[node.Report]{Item: &report})
	send(out, line[node.Report]{End: true})
}

// flusher passes on to the client what would otherwise wait in a buffer.
type flusher struct {
	http.ResponseWriter
	c *http.ResponseController
}

func streamTo(w http.ResponseWriter) flusher {
	w.Header().Set("Content-Type", "application/x-ndjson")
	return flusher{w, http.NewResponseController(w)}
}

func (f flusher) flush() { _ = f.c.Flush() } // an error means that the client has gone; the next write says so too

// stream writes the items as lines, and each time after every so many of them (0: never) what is buffered. The
// status line is sent at once, so that the client knows that it is connected.
func stream[T any](w http.ResponseWriter, items iter.Seq2[T, error], every int) {
	out := streamTo(w)
	if every > 0 {
		out.flush()
	}
	n := 0
	for item, err := range items {
		if err != nil {
			send(out, line[T]{Error: remote(err)})
			return
		}
		if encode(out, line[T]{Item: &item}) != nil {
			return
		}
		if n++; every > 0 && n%every == 0 {
			out.flush()
		}
	}
	send(out, line[T]{End: true})
}
