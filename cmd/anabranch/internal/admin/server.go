package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/anabranch-db/anabranch/cmd/anabranch/internal/node"
	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/replica"
)

// Source is what is told of.
type Source interface {
	Metrics(ctx context.Context) (replica.Metrics, error)
	Ready(ctx context.Context) []replica.Check
}

// Config says what a Server tells, and to whom.
type Config struct {
	Source  Source
	Status  func(ctx context.Context) (node.Status, error)
	Gateway func() gateway.Stats // nil: there is none
	Version string
	Hosts   []string // names under which it may be asked, beside addresses and localhost
	Pprof   bool
	Logger  *slog.Logger
}

// Server answers on an HTTP listener.
type Server struct {
	http http.Server
	stop context.CancelFunc
}

// Bounds of what one listener does at a time.
const (
	maxScrapes    = 4
	scrapeTimeout = 20 * time.Second
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
)

// New returns a Server.
func New(c Config) *Server {
	ctx, stop := context.WithCancel(context.Background())
	s := &Server{stop: stop}
	s.http = http.Server{
		Handler: c.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
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

// Shutdown stops listening and waits for requests in progress until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}

// Registry returns the collectors of all metrics.
func (c Config) Registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newCollector(c.Source, c.Gateway, c.Version), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// Handler returns all routes behind the guard.
func (c Config) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(c.Registry(), promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, ErrorLog: slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
	}))
	for _, path := range []string{"/livez", "/healthz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	mux.HandleFunc("/readyz", c.ready)
	mux.HandleFunc("/status", c.status)
	mux.HandleFunc("/{$}", c.index)
	if c.Pprof {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return guard(c.Hosts, mux)
}

// ready answers 503 if a check fails that is not advisory. With ?verbose each check has a line, without it those that failed.
func (c Config) ready(w http.ResponseWriter, r *http.Request) {
	verbose := r.URL.Query().Has("verbose")
	isReady, text := true, ""
	for _, check := range c.Source.Ready(r.Context()) {
		mark := "+"
		switch {
		case check.OK:
		case check.Advisory:
			mark = "!"
		default:
			mark, isReady = "-", false
		}
		if verbose || mark == "-" {
			text += fmt.Sprintf("[%s] %s: %s\n", mark, check.Name, check.Detail)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if isReady {
		text += "ready\n"
	} else {
		w.WriteHeader(http.StatusServiceUnavailable)
		text += "not ready\n"
	}
	send(w, text)
}

func (c Config) status(w http.ResponseWriter, r *http.Request) {
	st, err := c.Status(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	text, err := json.MarshalIndent(st, "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	send(w, string(text)+"\n")
}

func (c Config) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	text := "anabranch " + c.Version + "\n/metrics\n/livez\n/healthz\n/readyz?verbose\n/status\n"
	if c.Pprof {
		text += "/debug/pprof/\n"
	}
	send(w, text)
}

// send writes the answer. An error means that the client has gone, and there is nobody to tell.
func send(w io.Writer, text string) { _, _ = io.WriteString(w, text) }
